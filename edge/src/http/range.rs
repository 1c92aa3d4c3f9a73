//! Byte ranges (RFC 9110 §14): one of a file. Several at once are allowed to be answered with the whole, and are.

use std::ops::Range;

use http::header::{HeaderMap, IF_RANGE, RANGE};

/// What a request asks for of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it, or something that is not understood.
    Whole,
    /// These bytes.
    Bytes(Range<usize>),
    /// Bytes that it does not have.
    Unsatisfiable,
}

/// What is asked for of a file of `len` bytes, of which `etag` tells its versions apart.
pub(super) fn part(headers: &HeaderMap, etag: Option<&[u8]>, len: usize) -> Part {
    let Some(range) = headers.get(RANGE) else { return Part::Whole };
    if let Some(validator) = headers.get(IF_RANGE)
        && (etag != Some(validator.as_bytes()) || validator.as_bytes().starts_with(b"W/"))
    {
        // It has, or may have, parts of another version (§13.1.5).
        return Part::Whole;
    }
    let text = range.to_str().ok().filter(|_| headers.get_all(RANGE).iter().count() == 1);
    text.and_then(|text| read(text, len)).unwrap_or(Part::Whole)
}

/// `bytes=FIRST-LAST`, `bytes=FIRST-` or `bytes=-LENGTH` (§14.1.2); `None` if it is anything else.
fn read(text: &str, len: usize) -> Option<Part> {
    let (unit, set) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    let range = match (first, last) {
        ("", suffix) => match number(suffix)? {
            0 => return Some(Part::Unsatisfiable),
            suffix => len.saturating_sub(suffix)..len,
        },
        (first, "") => number(first)?..len,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(len)
        }
    };
    Some(if range.start < len { Part::Bytes(range) } else { Part::Unsatisfiable })
}

/// Digits only. What is larger than any file is as good as the largest number.
fn number(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn asked(range: &str, len: usize) -> Part {
        let headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_str(range).unwrap())]);
        part(&headers, None, len)
    }

    #[test]
    fn one_range_is_understood() {
        for (range, bytes) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-5", 2..6),
            ("bytes=2-99999999999999999999999", 2..10),
            ("bytes=9-", 9..10),
            ("Bytes=-3", 7..10),
            ("bytes=-30", 0..10),
        ] {
            assert_eq!(asked(range, 10), Part::Bytes(bytes), "{range}");
        }
        for range in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(asked(range, 10), Part::Unsatisfiable, "{range}");
        }
        assert_eq!(asked("bytes=-1", 0), Part::Unsatisfiable);
        for range in
            ["bytes=5-2", "bytes=0-1,4-5", "bytes=", "bytes=-", "bytes=a-b", "lines=0-1", "0-1", "bytes=+1-2"]
        {
            assert_eq!(asked(range, 10), Part::Whole, "{range}");
        }
    }

    #[test]
    fn a_range_of_another_version_is_the_whole() {
        let with = |validator: &'static str, etag: Option<&[u8]>| {
            let mut headers = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=0-1"))]);
            headers.insert(IF_RANGE, HeaderValue::from_static(validator));
            part(&headers, etag, 10)
        };
        assert_eq!(with("\"a\"", Some(b"\"a\"")), Part::Bytes(0..2));
        assert_eq!(with("\"b\"", Some(b"\"a\"")), Part::Whole);
        assert_eq!(with("W/\"a\"", Some(b"W/\"a\"")), Part::Whole);
        assert_eq!(with("\"a\"", None), Part::Whole);
        assert_eq!(with("Sat, 29 Oct 1994 19:43:31 GMT", Some(b"\"a\"")), Part::Whole);
    }

    proptest! {
        #[test]
        fn no_range_leaves_its_file(text in "(bytes=)?[-0-9, a]{0,24}", len in 0..20usize) {
            if let Part::Bytes(range) = asked(&text, len) {
                prop_assert!(range.start < range.end && range.end <= len);
            }
        }
    }
}
