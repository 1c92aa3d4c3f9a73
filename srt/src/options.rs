//! What a socket is told before it connects.

use std::fmt;
use std::time::Duration;

use crate::raw::{self, Failed, Id, option};

/// What a stream is encrypted with: 10 to 79 bytes (draft §6.1.4). It is in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(String);

/// A passphrase is too short or too long for SRT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a passphrase of SRT has 10 to 79 bytes, and this one {0}")]
pub struct PassphraseLength(pub usize);

impl Passphrase {
    /// One of that text.
    pub fn new(text: impl Into<String>) -> Result<Self, PassphraseLength> {
        let text = text.into();
        if (10..=79).contains(&text.len()) { Ok(Self(text)) } else { Err(PassphraseLength(text.len())) }
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// How long the keys are that a caller encrypts with. Who is called takes the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyLength {
    /// 16 bytes.
    #[default]
    Aes128,
    /// 24 bytes.
    Aes192,
    /// 32 bytes.
    Aes256,
}

impl KeyLength {
    /// That of so many bytes.
    pub fn of_bytes(bytes: u32) -> Option<Self> {
        match bytes {
            16 => Some(Self::Aes128),
            24 => Some(Self::Aes192),
            32 => Some(Self::Aes256),
            _ => None,
        }
    }

    fn bytes(self) -> i32 {
        match self {
            Self::Aes128 => 16,
            Self::Aes192 => 24,
            Self::Aes256 => 32,
        }
    }
}

/// A day, and what an `int` of milliseconds holds.
const MAX_MS: u128 = 86_400_000;

fn ms(time: Duration) -> i32 {
    i32::try_from(time.as_millis().min(MAX_MS)).unwrap_or(i32::MAX)
}

/// How a connection is to be. Both sides say a latency, and the longer one holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How long packets may be sent again before they are due, at either end.
    pub latency: Duration,
    /// The peer is gone when nothing was heard of it for so long.
    pub idle: Duration,
    /// How long a handshake may take.
    pub connect: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(120),
            idle: Duration::from_secs(5),
            connect: Duration::from_secs(3),
        }
    }
}

impl Options {
    pub(crate) fn set(&self, id: Id) -> Result<(), Failed> {
        raw::set_switch(id, option::RCVSYN, false)?;
        raw::set_switch(id, option::SNDSYN, false)?;
        raw::set_switch(id, option::TLPKTDROP, true)?;
        raw::set_number(id, option::LATENCY, ms(self.latency))?;
        raw::set_number(id, option::PEERIDLETIMEO, ms(self.idle))?;
        raw::set_number(id, option::CONNTIMEO, ms(self.connect))
    }
}

pub(crate) fn set_latency(id: Id, latency: Duration) -> Result<(), Failed> {
    raw::set_number(id, option::LATENCY, ms(latency))
}

pub(crate) fn set_passphrase(id: Id, passphrase: &Passphrase) -> Result<(), Failed> {
    raw::set_text(id, option::PASSPHRASE, passphrase.0.as_bytes())
}

pub(crate) fn set_key_length(id: Id, length: KeyLength) -> Result<(), Failed> {
    raw::set_number(id, option::PBKEYLEN, length.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passphrases_have_ten_to_seventy_nine_bytes_and_stay_out_of_logs() {
        assert_eq!(Passphrase::new("123456789"), Err(PassphraseLength(9)));
        assert_eq!(Passphrase::new("x".repeat(80)), Err(PassphraseLength(80)));
        let fine = Passphrase::new("x".repeat(79)).unwrap();
        assert!(!format!("{fine:?}").contains('x'));
    }
}
