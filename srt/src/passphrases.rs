//! Which streams are encrypted, and with what.

use std::io;
use std::path::PathBuf;

use control_api::{Secret, pattern};
use serde::{Deserialize, Serialize};

use crate::{Passphrase, PassphraseLength};

/// Streams that are encrypted: who publishes or plays one by SRT needs the passphrase. The first whose pattern fits holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassphraseConfig {
    /// Streams, as `app/name`; `*` stands for any characters.
    pub streams: String,
    /// The passphrase: 10 to 79 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<Secret>,
    /// The file that it stands in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
}

/// A passphrase that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// Its file cannot be read.
    #[error("the passphrase of {streams:?}: {file}: {error}")]
    File {
        /// The streams that it is for.
        streams: String,
        /// Where it should stand.
        file: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It is too short or too long.
    #[error("the passphrase of {streams:?}: {error}")]
    Length {
        /// The streams that it is for.
        streams: String,
        /// Its length.
        error: PassphraseLength,
    },
    /// There is neither a passphrase nor a file.
    #[error("the passphrase of {0:?}: there is neither `passphrase` nor `file`")]
    Nothing(String),
}

/// The passphrases in force.
#[derive(Debug, Default)]
pub struct Passphrases(Vec<(String, Passphrase)>);

impl Passphrases {
    /// Those of a configuration; files are read.
    pub fn load(configured: &[PassphraseConfig]) -> Result<Self, PassphraseError> {
        configured.iter().map(load).collect::<Result<_, _>>().map(Self)
    }

    /// What a stream is encrypted with, if it is.
    pub fn of(&self, stream: &str) -> Option<&Passphrase> {
        self.0.iter().find(|(streams, _)| pattern::matches(streams, stream)).map(|(_, passphrase)| passphrase)
    }
}

fn load(configured: &PassphraseConfig) -> Result<(String, Passphrase), PassphraseError> {
    let streams = configured.streams.clone();
    let text = match (&configured.passphrase, &configured.file) {
        (Some(passphrase), _) => passphrase.reveal().to_owned(),
        (None, Some(file)) => match std::fs::read_to_string(file) {
            Ok(text) => text.trim_end_matches(['\r', '\n']).to_owned(),
            Err(error) => return Err(PassphraseError::File { streams, file: file.clone(), error }),
        },
        (None, None) => return Err(PassphraseError::Nothing(streams)),
    };
    match Passphrase::new(text) {
        Ok(passphrase) => Ok((streams, passphrase)),
        Err(error) => Err(PassphraseError::Length { streams, error }),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(streams: &str, passphrase: Option<&str>, file: Option<&Path>) -> PassphraseConfig {
        PassphraseConfig {
            streams: streams.to_owned(),
            passphrase: passphrase.map(Secret::new),
            file: file.map(Path::to_owned),
        }
    }

    #[test]
    fn the_first_pattern_that_fits_holds() {
        let all =
            [config("live/vip", Some("only for this"), None), config("live/*", Some("for all of it"), None)];
        let all = Passphrases::load(&all).unwrap();
        assert_eq!(all.of("live/vip"), Some(&Passphrase::new("only for this").unwrap()));
        assert_eq!(all.of("live/a"), Some(&Passphrase::new("for all of it").unwrap()));
        assert_eq!(all.of("open/a"), None);
    }

    #[test]
    fn mistakes_name_the_streams_and_not_the_secret() {
        let why = |config| Passphrases::load(&[config]).unwrap_err().to_string();
        let short = why(config("live/*", Some("s3cret"), None));
        assert!(short.contains("live/*") && !short.contains("s3cret"), "{short}");
        assert!(why(config("live/*", None, None)).contains("neither"));
        assert!(why(config("live/*", None, Some(Path::new("/nowhere/at/all")))).contains("/nowhere/at/all"));
    }
}
