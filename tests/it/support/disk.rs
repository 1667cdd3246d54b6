//! A disk that is soon full.

use std::path::Path;
use std::process::Command;

/// A folder on a file system of its own that is soon full, unmounted when dropped; none where that is not allowed.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    pub(crate) fn new(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(folder.path())
            .output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Left behind, it is memory until the machine restarts, and no reason to fail.
        drop(Command::new("umount").arg(self.0.path()).output());
    }
}
