//! Places: how much of a feed its reader has.

use std::fmt;
use std::str::FromStr;

use super::Mark;
use crate::hub::Epoch;

/// The query parameter by which whoever lost a feed says what it has.
const AFTER: &str = "after=";

/// A frame of a stream, written `{epoch}-{sequence}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The publish lease it came under.
    pub epoch: Epoch,
    /// Its number in the stream.
    pub sequence: u64,
}

/// What no reader of a feed says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a feed is asked for as it is, or by ?after={{epoch}}-{{sequence}}")]
pub struct BadPlace;

impl Place {
    /// The newest frame that the asker has, of the query of a request for a feed. `None`: it has nothing.
    pub fn of_query(query: Option<&str>) -> Result<Option<Self>, BadPlace> {
        let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(None) };
        query.strip_prefix(AFTER).ok_or(BadPlace)?.parse().map(Some)
    }

    /// The query by which what follows is asked for.
    pub fn query(&self) -> String {
        format!("{AFTER}{self}")
    }
}

impl From<Mark> for Place {
    fn from(mark: Mark) -> Self {
        Self { epoch: mark.epoch, sequence: mark.sequence }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch.0, self.sequence)
    }
}

impl FromStr for Place {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        let (epoch, sequence) = text.split_once('-').ok_or(BadPlace)?;
        Ok(Self { epoch: Epoch(number(epoch)?), sequence: number(sequence)? })
    }
}

/// Digits alone: Rust's own parser takes a sign, too.
fn number(digits: &str) -> Result<u64, BadPlace> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadPlace);
    }
    digits.parse().map_err(|_| BadPlace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_through_a_query() {
        let place = Place { epoch: Epoch(u64::MAX), sequence: 7 };
        assert_eq!(place.query(), "after=18446744073709551615-7");
        assert_eq!(Place::of_query(Some(&place.query())), Ok(Some(place)));
        assert_eq!(Place::of_query(None), Ok(None));
        assert_eq!(Place::of_query(Some("")), Ok(None));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for query in [
            "after",
            "after=",
            "after=1",
            "after=-1",
            "after=1-",
            "after=+1-2",
            "after=1-+2",
            "after=1--2",
            "after=1-2-3",
            "after=1-2&after=1-2",
            "after=1-2&x",
            "after=18446744073709551616-1",
            "after=1-18446744073709551616",
            "after=\u{661}-2",
            "after=%31-2",
            "AFTER=1-2",
            "x",
            "&",
        ] {
            assert_eq!(Place::of_query(Some(query)), Err(BadPlace), "{query}");
        }
    }
}
