//! The data folder: made at first start, used by one process at a time, and where a running process
//! says which addresses it listens on.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Serialize;

const LOCK: &str = "lock";
const RUN: &str = "run.json";

/// The data folder of a running process. Gives it up when dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    // The lock is the operating system's and ends with the process, however that ends.
    _lock: File,
}

/// What `run.json` says of a process that is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Run {
    pub(crate) pid: u32,
    pub(crate) rtmp: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) srt: Option<SocketAddr>,
    pub(crate) http: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) https: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) turn: Option<SocketAddr>,
    /// Whether WebRTC is served.
    pub(crate) webrtc: bool,
}

impl DataDir {
    /// Makes the folder if there is none and takes it.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let naming = || format!("data folder {} (key `data`)", path.display());
        fs::create_dir_all(path).with_context(naming)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK));
        let lock = lock.with_context(naming)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!("{} is in use by another weir", naming()),
            Err(TryLockError::Error(error)) => return Err(error).with_context(naming),
        }
        let dir = Self { path: path.to_owned(), _lock: lock };
        // Left behind by a process that was killed.
        dir.forget_run();
        Ok(dir)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Tells scripts that the process is ready, and where. Seen whole or not at all.
    pub(crate) fn announce(&self, run: &impl Serialize) -> anyhow::Result<()> {
        let (temporary, path) = (self.path.join(".run.json.new"), self.path.join(RUN));
        let mut file = File::create(&temporary)?;
        file.write_all(serde_json::to_string(run)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        Ok(())
    }

    fn forget_run(&self) {
        match fs::remove_file(self.path.join(RUN)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "cannot remove {RUN}");
            }
            _ => {}
        }
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        self.forget_run();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_processes_cannot_share_a_folder() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("in use by another weir"), "{error}");
        drop(first);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_run_is_announced_and_taken_back() {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::open(parent.path()).unwrap();
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        dir.announce(&Run {
            pid: 7,
            rtmp: at(1),
            srt: None,
            http: at(2),
            https: None,
            admin: at(3),
            turn: None,
            webrtc: false,
        })
        .unwrap();
        let said: serde_json::Value =
            serde_json::from_slice(&fs::read(parent.path().join(RUN)).unwrap()).unwrap();
        assert_eq!(said["pid"], 7);
        assert_eq!(said["http"], "127.0.0.1:2");
        drop(dir);
        assert!(!parent.path().join(RUN).exists());
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        fs::write(parent.path().join(RUN), "{}").unwrap();
        let _dir = DataDir::open(parent.path()).unwrap();
        assert!(!parent.path().join(RUN).exists());
    }
}
