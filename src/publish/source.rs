//! A file as a sequence of tracks and frames, in decoding order on one 90 kHz clock.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use media_core::frame::{Frame, Track};
use media_core::{codec, flv};

use super::flv_file::FlvFile;
use super::mp4_file::Mp4File;

/// Why a file cannot be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("neither MP4 nor FLV")]
    Format,
    /// An FLV file that is broken.
    #[error("FLV: {0}")]
    Flv(#[from] flv::Error),
    /// An MP4 file that is broken.
    #[error("MP4: {0}")]
    Mp4(String),
    /// A track whose decoder configuration is broken.
    #[error("{0}")]
    Codec(#[from] codec::Error),
    /// A track that cannot be sent.
    #[error("{0}")]
    Unsupported(String),
    /// Not one frame.
    #[error("there are no frames in it")]
    Empty,
    /// A library gave up on it.
    #[error("it is broken in a way that its reader cannot name")]
    Broken,
}

/// What a file holds next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Media {
    /// From here on these are the tracks.
    Tracks(Vec<Track>),
    /// A frame of one of them.
    Frame(Frame),
}

/// Something that a file can be read from.
pub(crate) trait Storage: Read + Seek + Send {}
impl<T: Read + Seek + Send> Storage for T {}

/// A file to read from, wherever it lies.
pub(crate) type Input = Box<dyn Storage>;

/// The file at `path`.
pub(crate) fn open(path: &Path) -> io::Result<Input> {
    let file = std::fs::File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(Box::new(file))
}

/// A file that is part of the program.
pub(crate) fn bundled(bytes: &'static [u8]) -> Input {
    Box::new(Cursor::new(bytes))
}

/// A file of a known container.
pub(crate) enum Source {
    /// Flash Video.
    Flv(FlvFile),
    /// ISO base media.
    Mp4(Box<Mp4File>),
}

impl Source {
    /// Recognises the container by its first bytes.
    pub(crate) fn new(mut input: Input) -> Result<Self, Error> {
        let mut magic = Vec::with_capacity(8);
        input.by_ref().take(8).read_to_end(&mut magic)?;
        input.seek(SeekFrom::Start(0))?;
        match magic.as_slice() {
            [b'F', b'L', b'V', ..] => Ok(Self::Flv(FlvFile::new(input))),
            [_, _, _, _, b'f', b't', b'y', b'p'] => Ok(Self::Mp4(Box::new(Mp4File::new(input)?))),
            _ => Err(Error::Format),
        }
    }

    /// What comes next; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Media>, Error> {
        match self {
            Self::Flv(file) => file.next(),
            Self::Mp4(file) => file.next(),
        }
    }

    /// Back to the beginning.
    pub(crate) fn rewind(&mut self) -> Result<(), Error> {
        match self {
            Self::Flv(file) => file.rewind(),
            Self::Mp4(file) => {
                file.rewind();
                Ok(())
            }
        }
    }
}
