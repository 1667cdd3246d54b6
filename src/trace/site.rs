//! Where the segments of a trace go, and what they are called.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::trace::writer::{WriteError, open_path};

/// Where the segments go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    /// A file of this name; should a second segment be needed, it is named after it: `a.trace`, `a-00001.trace`.
    File(PathBuf),
    /// This folder, which is made if it is not there: `00000.trace`, `00001.trace`.
    Folder(PathBuf),
}

// === impl Site ===

impl Site {
    /// Returns the file or folder that is the trace.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Folder(path) => path,
        }
    }

    /// Returns the name of a segment.
    #[must_use]
    pub fn segment(&self, number: u32) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join(format!("{number:05}.trace")),
            Self::File(path) if number == 0 => path.clone(),
            Self::File(path) => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                path.with_file_name(format!("{stem}-{number:05}.trace"))
            }
        }
    }

    pub(crate) fn is_taken(&self, number: u32) -> bool {
        let path = self.segment(number);
        path.exists() || open_path(&path).exists()
    }

    pub(crate) fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder,
            Self::File(path) => path
                .parent()
                .filter(|folder| !folder.as_os_str().is_empty())
                .unwrap_or_else(|| Path::new(".")),
        }
    }
}

/// Makes a folder that nobody else can look into, if there is none.
pub(crate) fn make_folder(folder: &Path) -> Result<(), WriteError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|source| WriteError::Io { path: folder.to_owned(), offset: 0, source })
}
