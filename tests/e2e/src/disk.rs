//! A disk that fills up soon.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// A tmpfs of its own, unmounted at the end.
pub struct SmallDisk {
    pub path: PathBuf,
    _folder: TempDir,
}

impl SmallDisk {
    pub fn mount(mib: u32) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("windlass-disk-")?;
        let path = folder.path().to_owned();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(&path)
            .output()?;
        ensure!(
            mount.status.success(),
            "this test mounts a small tmpfs, which needs root: {}",
            String::from_utf8_lossy(&mount.stderr)
        );
        Ok(Self { path, _folder: folder })
    }

    /// Writes a file that leaves this much free; whoever removes the file has room again.
    pub fn fill(&self, leave_mib: u64) -> anyhow::Result<PathBuf> {
        let filler = self.path.join("filler");
        let bytes = self.free_mib()?.saturating_sub(leave_mib) << 20;
        fs::write(&filler, vec![1u8; bytes as usize])?;
        Ok(filler)
    }

    fn free_mib(&self) -> anyhow::Result<u64> {
        let output = Command::new("df").args(["--output=avail", "-m"]).arg(&self.path).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.lines().nth(1).context("df prints a number")?.trim().parse()?)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the cluster that wrote here is dropped after us in some tests.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
