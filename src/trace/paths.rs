//! Which files a trace is in.

use std::fs;
use std::path::{Path, PathBuf};

use crate::trace::batch::{Loss, LossCause};
use crate::trace::error::TraceError;

/// Returns the files of a trace.
pub(crate) fn segment_paths(path: &Path) -> Result<Vec<PathBuf>, TraceError> {
    let failed = |source| TraceError::Io { path: path.to_owned(), source };
    if !fs::metadata(path).map_err(failed)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".trace") || name.ends_with(".trace.open") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the loss of a file that may hold what came after a segment of `len` bytes; none if there is nothing in it.
pub(crate) fn lost_sequel(path: &Path, len: u64, why: &TraceError) -> Option<Loss> {
    let is_empty = fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0);
    let what = format!("the trace may go on in a file that is lost: {why}");
    let (segment, cause) = (0, LossCause::Damaged);
    (!is_empty).then_some(Loss { segment, from: len, until: len, cause, what })
}

/// Returns the files that may hold what came after `path`, when that is a file: `a-00001.trace` after `a.trace`.
pub(crate) fn sequels(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".open").unwrap_or(&name).strip_suffix(".trace");
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let (Some(stem), Ok(files)) = (stem, fs::read_dir(folder.unwrap_or_else(|| Path::new("."))))
    else {
        return Vec::new();
    };
    let is_sequel = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let rest = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix('-'));
        rest.and_then(|rest| rest.strip_suffix(".open").unwrap_or(rest).strip_suffix(".trace"))
            .is_some_and(|number| number.len() == 5 && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut found: Vec<_> = files.flatten().map(|file| file.path()).filter(is_sequel).collect();
    found.sort();
    found
}
