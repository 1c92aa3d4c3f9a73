//! The operator's token: who has it may change state through the API.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq as _;

/// 256 bits: beyond guessing.
const RANDOM_BYTES: usize = 32;

/// Two hexadecimal digits a byte.
const TOKEN_CHARS: usize = 2 * RANDOM_BYTES;

/// More than a token and its line end; what is longer is another file.
const MAX_FILE_BYTES: u64 = 256;

/// Nobody but the owner may do anything with the file.
const OWNER_ONLY: u32 = 0o600;

/// Why the operator's token could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file or its folder could not be read or written.
    #[error("operator token {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Others than its owner may read or write the file.
    #[error(
        "operator token {}: its mode is {mode:04o}, so others can use it; run `chmod 600 {}`",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file holds something else.
    #[error(
        "operator token {}: not {TOKEN_CHARS} hexadecimal digits; remove the file to have a new token made",
        path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system gave no randomness.
    #[error("operator token: no randomness: {0}")]
    Random(getrandom::Error),
}

/// A request for which the operator's token is needed came without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// It carries no credential.
    #[error(
        "this needs the operator's token: `Authorization: Bearer …`, from `operator.token` in the data folder"
    )]
    Missing,
    /// It carries another credential.
    #[error("this is not the operator's token; it is kept in `operator.token` in the data folder")]
    Wrong,
}

/// The operator's token: 32 random bytes as hexadecimal digits.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// The token in the file at `path`, which is made with a new token and mode 0600 if it is not
    /// there. The flag says whether it was made now, so that it can be shown once.
    ///
    /// The file appears whole or not at all: processes that start at once agree on one token.
    ///
    /// # Errors
    ///
    /// When the file can't be read or made, is open to others than its owner, or is not a token.
    pub fn load_or_create(path: &Path) -> Result<(Self, bool), Error> {
        match Self::load(path, 0o077) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return Ok((loaded?, false)),
        }
        let token = Self::random()?;
        match token.store(path) {
            Ok(()) => Ok((token, true)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok((Self::load(path, 0o077)?, false)),
            Err(source) => Err(Error::Io { path: path.to_owned(), source }),
        }
    }

    /// The token in a file that an operator has made, which those of the file's group may read, too: secrets that are
    /// mounted are often theirs.
    ///
    /// # Errors
    ///
    /// When the file can't be read, is open to others, or is not a token.
    pub fn load_given(path: &Path) -> Result<Self, Error> {
        Self::load(path, 0o037)
    }

    /// A new token.
    ///
    /// # Errors
    ///
    /// When the system gives no randomness.
    pub fn random() -> Result<Self, Error> {
        let mut bytes = [0u8; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(Error::Random)?;
        Ok(Self(hex(&bytes)))
    }

    /// The digits, to show to the operator.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `presented` is this token, in a time that does not tell how much of it is right.
    pub(crate) fn matches(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }

    /// Of a file whose mode has none of these bits.
    fn load(path: &Path, forbidden: u32) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let malformed = || Error::Malformed { path: path.to_owned() };
        // Before opening: opening a FIFO would wait for its other end.
        if !path.metadata().map_err(io)?.is_file() {
            return Err(malformed());
        }
        let file = File::open(path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.mode() & 0o7777;
        if mode & forbidden != 0 {
            return Err(Error::Exposed { path: path.to_owned(), mode });
        }
        let mut text = Vec::new();
        file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(io)?;
        let digits = text.trim_ascii();
        if digits.len() != TOKEN_CHARS || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(malformed());
        }
        Ok(Self(String::from_utf8(digits.to_ascii_lowercase()).map_err(|_| malformed())?))
    }

    /// Writes a file beside `path`, then links it there: that fails if `path` exists, and nobody sees
    /// half a token.
    fn store(&self, path: &Path) -> io::Result<()> {
        let mut salt = [0u8; 8];
        getrandom::fill(&mut salt).map_err(|e| io::Error::other(e.to_string()))?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".");
        name.push(hex(&salt));
        let draft = path.with_file_name(name);
        let written = OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(&draft).and_then(
            |mut file| {
                writeln!(file, "{}", self.0)?;
                file.sync_all()?;
                std::fs::hard_link(&draft, path)
            },
        );
        let removed = std::fs::remove_file(&draft);
        written.and(removed)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.token");
        (folder, path)
    }

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn is_made_once_for_its_owner_only_and_then_kept() {
        let (folder, path) = folder();
        let (made, new) = Token::load_or_create(&path).unwrap();
        assert!(new);
        assert_eq!(made.reveal().len(), 64);
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        let (kept, new) = Token::load_or_create(&path).unwrap();
        assert!(!new);
        assert_eq!(kept.reveal(), made.reveal());
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "no draft is left behind");
    }

    #[test]
    fn processes_that_start_at_once_agree() {
        let (_folder, path) = folder();
        let tokens: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> =
                (0..8).map(|_| scope.spawn(|| Token::load_or_create(&path).unwrap())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert_eq!(tokens.iter().filter(|(_, new)| *new).count(), 1);
        assert!(tokens.iter().all(|(token, _)| token.reveal() == tokens[0].0.reveal()));
    }

    #[test]
    fn two_are_never_the_same() {
        assert_ne!(Token::random().unwrap().reveal(), Token::random().unwrap().reveal());
    }

    #[test]
    fn a_file_that_others_can_read_is_refused_and_the_error_says_what_to_do() {
        let (_folder, path) = folder();
        for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
            write(&path, &"ab".repeat(32), mode);
            let error = Token::load_or_create(&path).unwrap_err();
            assert!(matches!(error, Error::Exposed { .. }), "{mode:o}: {error}");
            assert!(error.to_string().contains(&format!("{mode:04o}")), "{error}");
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_token_is_refused_and_left_alone() {
        let (_folder, path) = folder();
        for text in
            ["", "\n", "secret", &"ab".repeat(31), &"ab".repeat(33), &"zz".repeat(32), &"é".repeat(32)]
        {
            write(&path, text, 0o600);
            let error = Token::load_or_create(&path).unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{text:?}: {error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_folder_in_its_place_or_a_missing_folder_is_an_error() {
        let (folder, path) = folder();
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(Token::load_or_create(&path), Err(Error::Malformed { .. })));
        let missing = folder.path().join("none").join("operator.token");
        assert!(matches!(Token::load_or_create(&missing), Err(Error::Io { .. })));
    }

    #[test]
    fn only_the_whole_token_matches() {
        let token = Token::random().unwrap();
        let text = token.reveal().as_bytes();
        assert!(token.matches(text));
        for length in 0..text.len() {
            assert!(!token.matches(&text[..length]));
        }
        let mut other = text.to_vec();
        other.push(b'0');
        assert!(!token.matches(&other));
        other.truncate(text.len());
        other[63] ^= 1;
        assert!(!token.matches(&other));
    }

    #[test]
    fn debug_output_keeps_it_secret() {
        let token = Token::random().unwrap();
        assert!(!format!("{token:?}").contains(token.reveal()));
    }
}
