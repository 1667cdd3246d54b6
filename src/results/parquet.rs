//! Tables as Parquet files: the only file that knows Arrow or Parquet.
//!
//! Columns are zstd-compressed with statistics on. Texts are dictionaries; 64-bit numbers, which here are times, sizes
//! and ids that grow, are stored as differences. The footer carries the schema's version and where the rows came from;
//! each column its documentation.

use std::collections::BTreeMap;
use std::fs::File;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampNanosecondArray, UInt16Array, UInt32Array, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimeUnit, TimestampNanosecondType,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use super::private;
use super::table::{Column, Cursor, Kind, Row, Values};

/// A Parquet file of one table that is being written.
#[derive(Debug)]
pub(super) struct FileWriter {
    writer: ArrowWriter<File>,
    schema: SchemaRef,
}

/// Reads the rows of one file, a batch at a time.
#[derive(Debug)]
pub(super) struct FileRows<R> {
    batches: ParquetRecordBatchReader,
    columns: Vec<Cursor>,
    left: usize,
    row: PhantomData<fn() -> R>,
}

/// What a file's footer says of its origin, by key.
pub(super) type Provenance = BTreeMap<&'static str, String>;

/// Why Parquet could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Parquet's own error.
    #[error(transparent)]
    Parquet(#[from] ParquetError),
    /// Arrow's own error.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// The file system's error.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

// === impl FileWriter ===

impl FileWriter {
    /// Begins a file.
    pub(super) fn create<R: Row>(path: &Path, of: &Provenance) -> Result<Self, FormatError> {
        let schema = schema::<R>();
        let file = private::create(path)?;
        let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties::<R>(of)))?;
        Ok(Self { writer, schema })
    }

    /// Appends rows, given as columns.
    pub(super) fn write(&mut self, columns: Vec<Values>) -> Result<(), FormatError> {
        self.writer.write(&batch(&self.schema, columns)?)?;
        Ok(())
    }

    /// Ends the file with its footer.
    pub(super) fn close(self) -> Result<(), FormatError> {
        self.writer.close()?;
        Ok(())
    }
}

// === impl FileRows ===

impl<R: Row> FileRows<R> {
    /// Opens a file. Columns are found by name: one that an older program did not write is none, or zero where it
    /// can't be none; one that a newer program added is left out.
    pub(super) fn open(path: &Path) -> Result<Self, FormatError> {
        let file = File::open(path)?;
        let batches =
            ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(BATCH_ROWS).build()?;
        Ok(Self { batches, columns: Vec::new(), left: 0, row: PhantomData })
    }
}

impl<R: Row> Iterator for FileRows<R> {
    type Item = Result<R, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.left == 0 {
            let batch = match self.batches.next()? {
                Ok(batch) => batch,
                Err(error) => return Some(Err(error.into())),
            };
            self.left = batch.num_rows();
            match cursors(R::COLUMNS, &batch) {
                Ok(columns) => self.columns = columns,
                Err(error) => return Some(Err(error.into())),
            }
        }
        self.left -= 1;
        Some(Ok(R::load(&mut self.columns)))
    }
}

/// Joins the files `parts` into `out`. A part with at least `keep_rows` rows is copied as it is; smaller ones that
/// follow each other are encoded again together, so that a long run does not end as thousands of tiny row groups.
pub(super) fn join<R: Row>(
    parts: &[PathBuf],
    out: &Path,
    of: &Provenance,
    keep_rows: usize,
) -> Result<(), FormatError> {
    let schema = schema::<R>();
    let file = private::create(out)?;
    let writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties::<R>(of)))?;
    let (mut out, factory) = writer.into_serialized_writer()?;
    let mut small = Vec::new();
    let mut small_rows = 0;
    for part in parts {
        let rows = rows_of(part)?;
        if rows < keep_rows {
            small.push(part);
            small_rows += rows;
        }
        if rows >= keep_rows || small_rows >= keep_rows {
            encode_together(&small, &schema, &factory, &mut out)?;
            small.clear();
            small_rows = 0;
        }
        if rows >= keep_rows {
            copy(part, &mut out)?;
        }
    }
    encode_together(&small, &schema, &factory, &mut out)?;
    out.close()?;
    Ok(())
}

/// Counts the rows of a file by its footer.
pub(super) fn rows_of(path: &Path) -> Result<usize, FormatError> {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&File::open(path)?)?;
    Ok(usize::try_from(metadata.file_metadata().num_rows()).unwrap_or(0))
}

/// Copies the row groups of `part`, bytes as they are.
fn copy(part: &Path, out: &mut SerializedFileWriter<File>) -> Result<(), FormatError> {
    let input = File::open(part)?;
    let metadata = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(&input)?;
    let pages = metadata.page_index();
    for (number, group) in metadata.row_groups().iter().enumerate() {
        let mut copied = out.next_row_group()?;
        for (index, column) in group.columns().iter().enumerate() {
            let closed = ColumnCloseResult {
                bytes_written: u64::try_from(column.compressed_size()).unwrap_or(0),
                rows_written: u64::try_from(group.num_rows()).unwrap_or(0),
                metadata: column.clone(),
                bloom_filter: None,
                column_index: pages.and_then(|pages| pages.column_index(number, index)).cloned(),
                offset_index: pages.and_then(|pages| pages.offset_index(number, index)).cloned(),
            };
            copied.append_column(&input, closed)?;
        }
        copied.close()?;
    }
    Ok(())
}

/// Encodes the rows of `parts` as one row group; no parts, no row group.
fn encode_together(
    parts: &[&PathBuf],
    schema: &SchemaRef,
    factory: &ArrowRowGroupWriterFactory,
    out: &mut SerializedFileWriter<File>,
) -> Result<(), FormatError> {
    if parts.is_empty() {
        return Ok(());
    }
    let mut columns = factory.create_column_writers(out.flushed_row_groups().len())?;
    for part in parts {
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(part)?)?
            .with_batch_size(BATCH_ROWS)
            .build()?;
        for batch in reader {
            let batch = batch?;
            for ((field, array), column) in
                schema.fields().iter().zip(batch.columns()).zip(&mut columns)
            {
                for leaf in compute_leaves(field, array)? {
                    column.write(&leaf)?;
                }
            }
        }
    }
    let mut group = out.next_row_group()?;
    for column in columns {
        column.close()?.append_to_row_group(&mut group)?;
    }
    group.close()?;
    Ok(())
}

fn schema<R: Row>() -> SchemaRef {
    let fields = R::COLUMNS.iter().map(|column| {
        let metadata = [("doc".to_owned(), column.doc.to_owned())];
        Field::new(column.name, data_type(column.kind), column.nullable)
            .with_metadata(BTreeMap::from(metadata))
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Bool => DataType::Boolean,
        Kind::U16 => DataType::UInt16,
        Kind::U32 => DataType::UInt32,
        Kind::U64 => DataType::UInt64,
        Kind::I64 => DataType::Int64,
        Kind::Utc => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        Kind::F64 => DataType::Float64,
        Kind::Text => DataType::Utf8,
    }
}

fn properties<R: Row>(of: &Provenance) -> WriterProperties {
    let pairs = of
        .iter()
        .map(|(key, value)| KeyValue::new(format!("{KEY_PREFIX}{key}"), value.clone()))
        .chain([KeyValue::new(format!("{KEY_PREFIX}table"), R::TABLE.to_owned())])
        .collect();
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("reenact ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(pairs))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(None);
    for column in R::COLUMNS {
        if matches!(column.kind, Kind::U64 | Kind::I64 | Kind::Utc) {
            let path = ColumnPath::from(column.name);
            builder = builder
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
    }
    builder.build()
}

fn batch(schema: &SchemaRef, columns: Vec<Values>) -> Result<RecordBatch, ArrowError> {
    let arrays = columns
        .into_iter()
        .zip(schema.fields())
        .map(|(values, field)| -> ArrayRef {
            match values {
                Values::Bool(values) => Arc::new(BooleanArray::from(values)),
                Values::U16(values) => Arc::new(UInt16Array::from(values)),
                Values::U32(values) => Arc::new(UInt32Array::from(values)),
                Values::U64(values) => Arc::new(UInt64Array::from(values)),
                Values::F64(values) => Arc::new(Float64Array::from(values)),
                Values::Text(values) => Arc::new(StringArray::from(values)),
                Values::I64(values) if matches!(field.data_type(), DataType::Timestamp(..)) => {
                    Arc::new(TimestampNanosecondArray::from(values).with_timezone("UTC"))
                }
                Values::I64(values) => Arc::new(Int64Array::from(values)),
            }
        })
        .collect();
    RecordBatch::try_new(Arc::clone(schema), arrays)
}

/// Turns the columns of `batch` that `columns` names into cursors.
fn cursors(columns: &[Column], batch: &RecordBatch) -> Result<Vec<Cursor>, ArrowError> {
    columns
        .iter()
        .map(|column| {
            let Some(array) = batch.column_by_name(column.name) else {
                return Ok(Values::new(column.kind).cursor());
            };
            let array = cast(array, &data_type(column.kind))?;
            Ok(values(column.kind, &array).cursor())
        })
        .collect()
}

fn values(kind: Kind, array: &dyn Array) -> Values {
    match kind {
        Kind::Bool => Values::Bool(array.as_boolean().iter().collect()),
        Kind::U16 => Values::U16(array.as_primitive::<UInt16Type>().iter().collect()),
        Kind::U32 => Values::U32(array.as_primitive::<UInt32Type>().iter().collect()),
        Kind::U64 => Values::U64(array.as_primitive::<UInt64Type>().iter().collect()),
        Kind::I64 => Values::I64(array.as_primitive::<Int64Type>().iter().collect()),
        Kind::Utc => Values::I64(array.as_primitive::<TimestampNanosecondType>().iter().collect()),
        Kind::F64 => Values::F64(array.as_primitive::<Float64Type>().iter().collect()),
        Kind::Text => Values::Text(
            array.as_string::<i32>().iter().map(|text| text.map(str::to_owned)).collect(),
        ),
    }
}

/// Rows that are encoded or decoded at a time: bounds the memory of a reader.
const BATCH_ROWS: usize = 4_096;

/// What the footer's own keys begin with.
const KEY_PREFIX: &str = "reenact.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::rows::FrameRow;
    use crate::results::table;

    #[test]
    fn the_footer_says_where_the_rows_came_from() {
        let dir = tempfile::tempdir().unwrap();
        let (part, joined) = (dir.path().join("part"), dir.path().join("joined"));
        let of = Provenance::from([("run", "r1".to_owned())]);
        let mut writer = FileWriter::create::<FrameRow>(&part, &of).unwrap();
        let mut columns = table::empty(FrameRow::COLUMNS);
        FrameRow { exchange: 3, ..FrameRow::default() }.unload(&mut columns);
        writer.write(columns).unwrap();
        writer.close().unwrap();
        for keep_rows in [1, 2] {
            join::<FrameRow>(std::slice::from_ref(&part), &joined, &of, keep_rows).unwrap();
            for path in [&part, &joined] {
                let metadata = ParquetMetaDataReader::new()
                    .parse_and_finish(&File::open(path).unwrap())
                    .unwrap();
                let pairs = metadata.file_metadata().key_value_metadata().unwrap();
                let has = |key: &str, value: &str| {
                    pairs.iter().any(|pair| pair.key == key && pair.value.as_deref() == Some(value))
                };
                assert!(has("reenact.run", "r1") && has("reenact.table", "frames"), "{pairs:?}");
                let column = metadata.row_group(0).column(0);
                assert!(column.statistics().is_some());
                assert_eq!(FileRows::<FrameRow>::open(path).unwrap().count(), 1);
            }
        }
    }
}
