//! Files and folders that are their owner's alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Makes a file, mode 0600, or empties the one that is there; a symbolic link is refused.
pub(super) fn create(path: &Path) -> io::Result<File> {
    let no_follow = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(no_follow)
        .open(path)
}

/// Makes a folder, and those above it that are missing, mode 0700.
pub(super) fn create_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn they_are_their_owners_alone_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, other) = (dir.path().join("a/b"), dir.path().join("other"));
        create_folder(&folder).unwrap();
        create(&folder.join("file")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&folder.join("file"))), (0o700, 0o600));
        fs::write(&other, "kept").unwrap();
        symlink(&other, folder.join("link")).unwrap();
        assert!(create(&folder.join("link")).is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "kept");
    }
}
