//! The run folder: written as the run goes, read back as a stream.
//!
//! A Parquet file can't be read before its footer is written, and a run may be killed at any moment. So each table is
//! written in parts, `requests.00000.parquet`, `requests.00001.parquet`, each closed with its footer after
//! [`PART_ROWS`](super::PART_ROWS) rows or [`PART_NS`] of the run (2 % of the run when that is more, so that a run of a day does not make
//! thousands). [`RunWriter::finish`] joins them into `requests.parquet`. A killed run keeps its closed parts: DuckDB
//! reads them as `requests.*.parquet`, [`RunReader`] reads either. `run.json` stands from the first moment and says
//! `"finished": false` until the end.
//!
//! Nothing here reads a clock: time is what the rows say, and what [`RunWriter::tick`] is told.

use std::fs;
use std::io;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::vec;

use crate::clock::Nanos;

use super::manifest::{Manifest, SCHEMA_VERSION};
use super::parquet::{self, FileRows, FormatError, Provenance};
use super::parts::{OPEN, TableWriter, is_part};
use super::private;
use super::rows::{FrameRow, GpuSample, HostSample, Measurement, Sample, ServerMetric};
use super::table::Row;

/// Writes a run folder. Dropped without [`Self::finish`], it leaves the parts that were closed.
#[derive(Debug)]
pub struct RunWriter {
    dir: PathBuf,
    now_ns: i64,
    close_at_ns: i64,
    requests: TableWriter<Measurement>,
    frames: TableWriter<FrameRow>,
    gpu: TableWriter<GpuSample>,
    host: TableWriter<HostSample>,
    server: TableWriter<ServerMetric>,
}

/// Reads a run folder: the manifest at once, rows as a stream.
#[derive(Debug)]
pub struct RunReader {
    dir: PathBuf,
    manifest: Manifest,
}

/// Rows of one table, in the order of the file, read a batch at a time.
#[derive(Debug)]
pub struct Rows<R> {
    files: vec::IntoIter<PathBuf>,
    open: Option<(PathBuf, FileRows<R>)>,
}

/// Why a run folder could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The folder holds a run already.
    #[error("{} already holds a run ({found}); name another folder, or remove it first", dir.display())]
    Occupied {
        /// The folder.
        dir: PathBuf,
        /// The file that says so.
        found: String,
    },
    /// There is no such folder.
    #[error("no such folder: {}", .0.display())]
    Missing(PathBuf),
    /// The folder is not a run folder.
    #[error("{} is not a run folder: it holds no run.json", .0.display())]
    NotARun(PathBuf),
    /// `run.json` can't be understood.
    #[error("{} is not a run's manifest", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// A newer program wrote it.
    #[error("{} has schema {found}, this program reads up to {SCHEMA_VERSION}: use a newer reenact", dir.display())]
    Newer {
        /// The folder.
        dir: PathBuf,
        /// Its schema.
        found: u32,
    },
    /// A file could not be read or written.
    #[error("{}: cannot {action}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was tried: `read` or `write`.
        action: &'static str,
        /// Why not.
        source: FormatError,
    },
}

/// Time of the run after which a part is closed, nanoseconds.
pub const PART_NS: i64 = 5_000_000_000;

// === impl RunWriter ===

impl RunWriter {
    /// Makes the folder `dir` where there is none, and begins a run in it with `manifest`.
    ///
    /// # Errors
    /// When the folder holds a run already, or can't be written.
    pub fn create(dir: &Path, manifest: &Manifest) -> Result<Self, RunError> {
        let io = |source: io::Error| failed(dir, "write", source);
        private::create_folder(dir).map_err(io)?;
        for entry in fs::read_dir(dir).map_err(io)? {
            let name = entry.map_err(io)?.file_name().to_string_lossy().into_owned();
            if name == MANIFEST || name.ends_with(".parquet") {
                return Err(RunError::Occupied { dir: dir.to_owned(), found: name });
            }
        }
        let manifest = Manifest { schema: SCHEMA_VERSION, finished: false, ..manifest.clone() };
        write_manifest(dir, &manifest)?;
        let of = Provenance::from([
            ("schema", SCHEMA_VERSION.to_string()),
            ("run", manifest.run.clone()),
            ("tool", manifest.tool.clone()),
            ("started", manifest.started.clone()),
            ("trace", manifest.trace.id.clone()),
            ("trace_digest", manifest.trace.digest.clone()),
        ]);
        Ok(Self {
            dir: dir.to_owned(),
            now_ns: 0,
            close_at_ns: PART_NS,
            requests: TableWriter::new(dir, &of),
            frames: TableWriter::new(dir, &of),
            gpu: TableWriter::new(dir, &of),
            host: TableWriter::new(dir, &of),
            server: TableWriter::new(dir, &of),
        })
    }

    /// Appends a row to `requests.parquet`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn request(&mut self, row: Measurement) -> Result<(), RunError> {
        self.turn(row.at_ns())?;
        self.requests.push(row)
    }

    /// Appends rows to `frames.parquet`: those of one exchange, in order.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn frames(&mut self, rows: Vec<FrameRow>) -> Result<(), RunError> {
        self.turn(rows.last().and_then(Row::at_ns))?;
        rows.into_iter().try_for_each(|row| self.frames.push(row))
    }

    /// Appends a row to `gpu.parquet`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn gpu(&mut self, row: GpuSample) -> Result<(), RunError> {
        self.turn(row.at_ns())?;
        self.gpu.push(row)
    }

    /// Appends a row to `host.parquet`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn host(&mut self, row: HostSample) -> Result<(), RunError> {
        self.turn(row.at_ns())?;
        self.host.push(row)
    }

    /// Appends a row to `server_metrics.parquet`.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn server(&mut self, row: ServerMetric) -> Result<(), RunError> {
        self.turn(row.at_ns())?;
        self.server.push(row)
    }

    /// Appends a reading to the table of its kind.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn sample(&mut self, sample: Sample) -> Result<(), RunError> {
        match sample {
            Sample::Gpu(row) => self.gpu(row),
            Sample::Host(row) => self.host(row),
            Sample::Server(row) => self.server(row),
        }
    }

    /// Says what time it is, since the run's start: closes parts that are due while no rows come.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn tick(&mut self, now: Nanos) -> Result<(), RunError> {
        self.turn(Some(now.as_i64()))
    }

    /// Joins the parts and writes the final manifest, `finished` set. On an error the parts stay as they are.
    ///
    /// # Errors
    /// When a file can't be read or written.
    pub fn finish(mut self, manifest: Manifest) -> Result<(), RunError> {
        self.close_parts()?;
        self.requests.join()?;
        self.frames.join()?;
        self.gpu.join()?;
        self.host.join()?;
        self.server.join()?;
        let manifest = Manifest { schema: SCHEMA_VERSION, finished: true, ..manifest };
        write_manifest(&self.dir, &manifest)
    }

    /// Takes note of the time of a row; closes all parts when that is due.
    fn turn(&mut self, at_ns: Option<i64>) -> Result<(), RunError> {
        self.now_ns = self.now_ns.max(at_ns.unwrap_or(0));
        if self.now_ns < self.close_at_ns {
            return Ok(());
        }
        self.close_at_ns = self.now_ns.saturating_add(PART_NS.max(self.now_ns / 50));
        self.close_parts()
    }

    fn close_parts(&mut self) -> Result<(), RunError> {
        self.requests.close_part()?;
        self.frames.close_part()?;
        self.gpu.close_part()?;
        self.host.close_part()?;
        self.server.close_part()
    }
}

// === impl RunReader ===

impl RunReader {
    /// Opens a run folder, finished or not.
    ///
    /// # Errors
    /// When it is no run folder, its manifest is damaged, or a newer program wrote it.
    pub fn open(dir: &Path) -> Result<Self, RunError> {
        if !dir.exists() {
            return Err(RunError::Missing(dir.to_owned()));
        }
        let path = dir.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Err(RunError::NotARun(dir.to_owned()));
            }
            Err(error) => return Err(failed(&path, "read", error)),
        };
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|source| RunError::Manifest { path: path.clone(), source })?;
        if manifest.schema > SCHEMA_VERSION {
            return Err(RunError::Newer { dir: dir.to_owned(), found: manifest.schema });
        }
        Ok(Self { dir: dir.to_owned(), manifest })
    }

    /// Returns the manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns whether the folder holds any file of the table of `R`.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn has<R: Row>(&self) -> Result<bool, RunError> {
        Ok(!self.files::<R>()?.is_empty())
    }

    /// Returns the rows of the table of `R`; none when the folder holds no such file.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn rows<R: Row>(&self) -> Result<Rows<R>, RunError> {
        Ok(Rows { files: self.files::<R>()?.into_iter(), open: None })
    }

    /// Counts the rows of the table of `R` by its footers, without reading them.
    ///
    /// # Errors
    /// When a file can't be read.
    pub fn count<R: Row>(&self) -> Result<usize, RunError> {
        let count = |path: PathBuf| parquet::rows_of(&path).map_err(|source| read(&path, source));
        self.files::<R>()?.into_iter().map(count).sum()
    }

    /// Returns the joined file, or the closed parts of a run that was killed, in order.
    fn files<R: Row>(&self) -> Result<Vec<PathBuf>, RunError> {
        let joined = self.dir.join(format!("{}.parquet", R::TABLE));
        if joined.exists() {
            return Ok(vec![joined]);
        }
        let mut parts = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|error| failed(&self.dir, "read", error))? {
            let path = entry.map_err(|error| failed(&self.dir, "read", error))?.path();
            if is_part(&path, R::TABLE) {
                parts.push(path);
            }
        }
        parts.sort();
        Ok(parts)
    }
}

// === impl Rows ===

impl<R: Row> Iterator for Rows<R> {
    type Item = Result<R, RunError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((path, rows)) = &mut self.open
                && let Some(row) = rows.next()
            {
                return Some(row.map_err(|source| read(path, source)));
            }
            let path = self.files.next()?;
            match FileRows::open(&path) {
                Ok(rows) => self.open = Some((path, rows)),
                Err(source) => return Some(Err(read(&path, source))),
            }
        }
    }
}

/// Writes the manifest beside its place, then into it, so that it is never half there.
fn write_manifest(dir: &Path, manifest: &Manifest) -> Result<(), RunError> {
    let path = dir.join(MANIFEST);
    let open = path.with_added_extension(OPEN);
    let mut text = serde_json::to_vec_pretty(manifest)
        .map_err(|source| RunError::Manifest { path: path.clone(), source })?;
    text.push(b'\n');
    private::create(&open)
        .and_then(|mut file| file.write_all(&text))
        .and_then(|()| fs::rename(&open, &path))
        .map_err(|error| failed(&path, "write", error))
}

pub(super) fn failed(path: &Path, action: &'static str, source: io::Error) -> RunError {
    RunError::File { path: path.to_owned(), action, source: source.into() }
}

fn read(path: &Path, source: FormatError) -> RunError {
    RunError::File { path: path.to_owned(), action: "read", source }
}

pub(super) fn write(path: &Path, source: FormatError) -> RunError {
    RunError::File { path: path.to_owned(), action: "write", source }
}

/// Name of the manifest.
pub(super) const MANIFEST: &str = "run.json";
