//! The folder: one process's, readable by nobody else, with the room that was asked for.
//!
//! Room is reserved at the start, so that a disk that fills up later takes none of it away.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// Held by the process that uses the folder.
const LOCK: &str = "lock";

/// Where foyer has its files, one a block.
const BLOCKS: &str = "blocks";

/// Bytes of a block that `st_blocks` counts.
const STAT_BLOCK: u64 = 512;

/// Why a folder can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("another process uses it")]
    Locked,
    #[error("the disk has room for {has} bytes, not for {needs}")]
    Room { needs: u64, has: u64 },
}

/// A folder that nobody else uses.
#[derive(Debug)]
pub(super) struct Folder {
    blocks: PathBuf,
    /// The operating system's; it ends with the process, however that ends.
    _lock: File,
}

impl Folder {
    /// Makes the folder if there is none, takes it, and looks whether there is room.
    pub(super) fn open(path: &Path, bytes: usize, block_bytes: usize) -> Result<Self, FolderError> {
        let blocks = path.join(BLOCKS);
        // What is in it is for those who have a grant.
        DirBuilder::new().recursive(true).mode(0o700).create(&blocks)?;
        let lock = File::options().create(true).truncate(false).write(true).open(path.join(LOCK))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FolderError::Locked),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let folder = Self { blocks, _lock: lock };
        let (count, taken) = folder.files()?.try_fold((0, 0), |(count, taken), file| {
            let meta = fs::metadata(file)?;
            Ok::<_, io::Error>((count + 1, taken + meta.blocks() * STAT_BLOCK))
        })?;
        if count > bytes / block_bytes {
            // It was larger: nobody would read or remove what is too much.
            folder.clear()?;
        }
        let disk = statvfs(&folder.blocks).map_err(io::Error::from)?;
        let has = disk.f_bavail.saturating_mul(disk.f_frsize).saturating_add(taken);
        if has < bytes as u64 {
            return Err(FolderError::Room { needs: bytes as u64, has });
        }
        Ok(folder)
    }

    /// Where the blocks are to be.
    pub(super) fn blocks(&self) -> &Path {
        &self.blocks
    }

    /// Reserves what the files are long, or removes them. How many bytes that is.
    pub(super) fn reserve(&self) -> Result<u64, FolderError> {
        let reserved = self.files()?.try_fold(0, |sum, path| {
            let file = File::options().write(true).open(path)?;
            let len = file.metadata()?.len();
            match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, len) {
                // Not every file system can; there, a disk that fills up is found out by an error.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(sum + len),
                Err(error) => Err(io::Error::from(error)),
            }
        });
        if reserved.is_err() {
            // Half of it is of no use, and others may need the room.
            self.clear()?;
        }
        Ok(reserved?)
    }

    fn clear(&self) -> io::Result<()> {
        self.files()?.try_for_each(fs::remove_file)
    }

    fn files(&self) -> io::Result<impl Iterator<Item = PathBuf> + use<>> {
        let files: Vec<_> = fs::read_dir(&self.blocks)?.collect::<io::Result<_>>()?;
        Ok(files.into_iter().map(|file| file.path()))
    }
}
