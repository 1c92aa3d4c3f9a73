//! The names of a rendition's objects. Each is given once and never means anything else, so any cache may keep it.

use std::fmt;
use std::str::FromStr;

/// An object of a rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Name {
    /// `init-{epoch}-{version}.mp4`: the init segment of a layout. `version` tells layouts of one epoch apart.
    Init {
        /// The publish lease.
        epoch: u64,
        /// Counts the stream's layouts.
        version: u32,
    },
    /// `{epoch}-{msn}.m4s`
    Segment {
        /// The publish lease.
        epoch: u64,
        /// Media sequence number.
        msn: u64,
    },
    /// `{epoch}-{msn}.{part}.m4s`
    Part {
        /// The publish lease.
        epoch: u64,
        /// Media sequence number of the segment it belongs to.
        msn: u64,
        /// Counted from 0 within the segment.
        part: u32,
    },
}

/// The text names no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such object")]
pub struct NameError;

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Init { epoch, version } => write!(f, "init-{epoch}-{version}.mp4"),
            Self::Segment { epoch, msn } => write!(f, "{epoch}-{msn}.m4s"),
            Self::Part { epoch, msn, part } => write!(f, "{epoch}-{msn}.{part}.m4s"),
        }
    }
}

impl FromStr for Name {
    type Err = NameError;

    /// Reads exactly what [`fmt::Display`] writes: one object, one name.
    fn from_str(text: &str) -> Result<Self, NameError> {
        if let Some(rest) = text.strip_prefix("init-") {
            let (epoch, version) =
                rest.strip_suffix(".mp4").and_then(|r| r.split_once('-')).ok_or(NameError)?;
            return Ok(Self::Init { epoch: number(epoch)?, version: number(version)? });
        }
        let (epoch, rest) =
            text.strip_suffix(".m4s").and_then(|rest| rest.split_once('-')).ok_or(NameError)?;
        let epoch = number(epoch)?;
        match rest.split_once('.') {
            Some((msn, part)) => Ok(Self::Part { epoch, msn: number(msn)?, part: number(part)? }),
            None => Ok(Self::Segment { epoch, msn: number(rest)? }),
        }
    }
}

/// A decimal number without sign or leading zeros.
fn number<T: FromStr>(text: &str) -> Result<T, NameError> {
    let canonical = text == "0" || !text.starts_with('0');
    if !canonical || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(NameError);
    }
    text.parse().map_err(|_| NameError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_are_not_canonical_name_nothing() {
        for text in [
            "",
            "init-1.mp4",
            "init-1-01.mp4",
            "init-1-1.m4s",
            "01-1.m4s",
            "1-1",
            "1-.m4s",
            "1-1..m4s",
            "1-+1.m4s",
            "1-1.1.1.m4s",
            "-1-1.m4s",
            "1-1.m4s.m4s",
            "1-99999999999999999999.m4s",
            "1-1.4294967296.m4s",
            "é-1.m4s",
        ] {
            assert_eq!(text.parse::<Name>(), Err(NameError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn names_come_back(epoch in any::<u64>(), msn in any::<u64>(), n in any::<u32>()) {
            for name in [
                Name::Init { epoch, version: n },
                Name::Segment { epoch, msn },
                Name::Part { epoch, msn, part: n },
            ] {
                prop_assert_eq!(name.to_string().parse::<Name>(), Ok(name));
            }
        }

        #[test]
        fn what_is_read_is_what_would_be_written(text in "[-a-z0-9.]{0,24}") {
            if let Ok(name) = text.parse::<Name>() {
                prop_assert_eq!(name.to_string(), text);
            }
        }
    }
}
