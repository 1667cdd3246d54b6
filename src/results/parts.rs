//! One table while it is written: parts that are closed as the run goes, joined at its end.

use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use super::parquet::{self, FileWriter, Provenance};
use super::run::{RunError, failed, write};
use super::table::{self, Row, Values};

/// Writes one table in parts.
#[derive(Debug)]
pub(super) struct TableWriter<R> {
    dir: PathBuf,
    of: Provenance,
    pending: Vec<Values>,
    pending_rows: usize,
    open: Option<FileWriter>,
    open_rows: usize,
    parts: Vec<PathBuf>,
    row: PhantomData<fn(R)>,
}

// === impl TableWriter ===

impl<R: Row> TableWriter<R> {
    pub(super) fn new(dir: &Path, of: &Provenance) -> Self {
        Self {
            dir: dir.to_owned(),
            of: of.clone(),
            pending: table::empty(R::COLUMNS),
            pending_rows: 0,
            open: None,
            open_rows: 0,
            parts: Vec::new(),
            row: PhantomData,
        }
    }

    pub(super) fn push(&mut self, row: R) -> Result<(), RunError> {
        row.unload(&mut self.pending);
        self.pending_rows += 1;
        if self.pending_rows >= PENDING_ROWS {
            self.encode()?;
        }
        if self.open_rows >= PART_ROWS {
            self.close_part()?;
        }
        Ok(())
    }

    /// Hands the pending rows to the open part; begins one where there is none.
    fn encode(&mut self) -> Result<(), RunError> {
        if self.pending_rows == 0 {
            return Ok(());
        }
        let columns = std::mem::replace(&mut self.pending, table::empty(R::COLUMNS));
        let rows = std::mem::take(&mut self.pending_rows);
        let path = self.part().with_added_extension(OPEN);
        let written = match &mut self.open {
            Some(file) => file.write(columns),
            None => FileWriter::create::<R>(&path, &self.of)
                .and_then(|file| self.open.insert(file).write(columns)),
        };
        written.map_err(|source| write(&path, source))?;
        self.open_rows += rows;
        Ok(())
    }

    /// Ends the open part, if there is one, and gives it its name.
    pub(super) fn close_part(&mut self) -> Result<(), RunError> {
        self.encode()?;
        let Some(file) = self.open.take() else { return Ok(()) };
        self.open_rows = 0;
        let part = self.part();
        let open = part.with_added_extension(OPEN);
        file.close()
            .and_then(|()| Ok(fs::rename(&open, &part)?))
            .map_err(|source| write(&open, source))?;
        self.parts.push(part);
        Ok(())
    }

    /// Joins all parts into the table's file; a single one is that file.
    pub(super) fn join(&mut self) -> Result<(), RunError> {
        let path = self.dir.join(format!("{}.parquet", R::TABLE));
        let failed_write = |source| write(&path, source);
        if let [part] = self.parts.as_slice() {
            return fs::rename(part, &path).map_err(|error| failed_write(error.into()));
        }
        let open = path.with_added_extension(OPEN);
        parquet::join::<R>(&self.parts, &open, &self.of, COPY_ROWS)
            .and_then(|()| Ok(fs::rename(&open, &path)?))
            .map_err(failed_write)?;
        for part in self.parts.drain(..) {
            fs::remove_file(&part).map_err(|error| failed(&part, "write", error))?;
        }
        Ok(())
    }

    /// The name of the next part.
    fn part(&self) -> PathBuf {
        self.dir.join(format!("{}.{:05}.parquet", R::TABLE, self.parts.len()))
    }
}

/// Whether `path` is a closed part of `table`.
pub(super) fn is_part(path: &Path, table: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix(table)
        .and_then(|rest| rest.strip_prefix('.')?.strip_suffix(".parquet"))
        .is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}

/// Rows after which a part is closed; also the size of a joined row group.
pub const PART_ROWS: usize = 65_536;

/// Rows that are kept as values before they are encoded.
const PENDING_ROWS: usize = 4_096;

/// A part of at least so many rows is copied as it is into the joined file.
const COPY_ROWS: usize = PART_ROWS / 4;

/// What a file is called while it is written.
pub(super) const OPEN: &str = "open";
