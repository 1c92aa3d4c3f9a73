//! Where the journal's segments are: a folder, or memory that can be made to fail.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Nobody but the owner: events say who watches what.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Segments' names end so.
const ENDING: &str = "journal";

/// What the journal needs of a disk.
pub(in crate::hooks) trait Disk: Send + 'static {
    /// The numbers of all segments, in order.
    fn segments(&self) -> io::Result<Vec<u64>>;
    /// What a segment holds.
    fn read(&self, segment: u64) -> io::Result<Vec<u8>>;
    /// Makes an empty segment, which is the one written to from now on.
    fn create(&mut self, segment: u64) -> io::Result<()>;
    /// Writes behind what the newest segment holds.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// What was written to the newest segment stays whatever happens.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts a segment off.
    fn truncate(&mut self, segment: u64, length: u64) -> io::Result<()>;
    /// Removes a segment.
    fn remove(&mut self, segment: u64) -> io::Result<()>;
}

/// Segments as files of a folder, which no other process uses meanwhile.
#[derive(Debug)]
pub(in crate::hooks) struct Folder {
    path: PathBuf,
    newest: Option<File>,
    /// Held for as long as this is there.
    _lock: File,
}

impl Folder {
    /// Takes the folder, which is made if it is not there.
    pub(in crate::hooks) fn open(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => io::Error::other("another process uses it"),
            fs::TryLockError::Error(error) => error,
        })?;
        Ok(Self { path: path.to_owned(), newest: None, _lock: lock })
    }

    fn file(&self, segment: u64) -> PathBuf {
        self.path.join(format!("{segment:020}.{ENDING}"))
    }
}

impl Disk for Folder {
    fn segments(&self) -> io::Result<Vec<u64>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let path = entry?.path();
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            if let Some(number) = number.filter(|_| path.extension().is_some_and(|ending| ending == ENDING)) {
                found.push(number);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        fs::read(self.file(segment))
    }

    fn create(&mut self, segment: u64) -> io::Result<()> {
        let made =
            OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(self.file(segment))?;
        // A file that is not in its folder yet is lost with all that was synced to it.
        File::open(&self.path)?.sync_all()?;
        self.newest = Some(made);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.newest.as_mut().ok_or(io::ErrorKind::NotFound)?.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.newest.as_ref().ok_or(io::ErrorKind::NotFound)?.sync_data()
    }

    fn truncate(&mut self, segment: u64, length: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.file(segment))?;
        file.set_len(length)?;
        file.sync_data()
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        fs::remove_file(self.file(segment))
    }
}
