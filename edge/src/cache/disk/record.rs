//! How a file is written to disk: a version, its kind, when it was made, its headers and its body.
//!
//! foyer sums all of it up and looks at the sum before it is read here; lengths are checked nevertheless. What is not
//! understood is as good as not there.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use foyer::{Code, Error, ErrorKind, Result};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::cache::Kind;
use crate::cache::object::{Head, Object};
use crate::cache::store::Stored;

/// Raise it with the layout: what older versions wrote is then forgotten.
const VERSION: u8 = 1;

/// Headers of one file. Origins give a dozen, and hyper reads no more than this.
const MAX_HEADERS: u16 = 128;

/// Bytes of a header's name or value: what of a head hyper's buffer holds at most.
const MAX_HEADER_BYTES: u32 = 64 * 1024;

/// Bytes of a body: a block holds no more.
const MAX_BODY_BYTES: u64 = 16 << 20;

impl Code for Stored {
    fn encode(&self, writer: &mut impl Write) -> Result<()> {
        let Object { head, body, .. } = self.0.as_ref();
        // The clock of the process means nothing to the next one.
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let born_ms = u64::try_from(now_ms).unwrap_or(u64::MAX).saturating_sub(head.age_ms());
        let kind = u8::try_from(head.kind.index()).map_err(|_| odd("kind"))?;
        put(writer, &[VERSION, kind])?;
        put(writer, &born_ms.to_le_bytes())?;
        let count = u16::try_from(head.headers.len()).map_err(|_| odd("headers"))?;
        put(writer, &count.to_le_bytes())?;
        for (name, value) in &head.headers {
            for text in [name.as_str().as_bytes(), value.as_bytes()] {
                let len = u32::try_from(text.len()).map_err(|_| odd("header"))?;
                put(writer, &len.to_le_bytes())?;
                put(writer, text)?;
            }
        }
        put(writer, &(body.len() as u64).to_le_bytes())?;
        put(writer, body)
    }

    fn decode(reader: &mut impl Read) -> Result<Self> {
        let [version, kind] = array(reader)?;
        if version != VERSION {
            return Err(odd("version"));
        }
        let kind = *Kind::ALL.get(usize::from(kind)).ok_or_else(|| odd("kind"))?;
        let born_ms = u64::from_le_bytes(array(reader)?);
        let count = u16::from_le_bytes(array(reader)?);
        if count > MAX_HEADERS {
            return Err(odd("headers"));
        }
        let mut headers = HeaderMap::with_capacity(count.into());
        for _ in 0..count {
            let (name, value) = (text(reader)?, text(reader)?);
            let name = HeaderName::from_bytes(&name).map_err(|_| odd("header"))?;
            headers.append(name, HeaderValue::from_bytes(&value).map_err(|_| odd("header"))?);
        }
        let len = u64::from_le_bytes(array(reader)?);
        if len > MAX_BODY_BYTES {
            return Err(odd("body"));
        }
        let body = exactly(reader, len)?;
        let born = UNIX_EPOCH.checked_add(std::time::Duration::from_millis(born_ms));
        let age = born.and_then(|born| SystemTime::now().duration_since(born).ok()).unwrap_or_default();
        Ok(Self(Arc::new(Head::restored(kind, headers, age).whole(Bytes::from(body), None))))
    }

    fn estimated_size(&self) -> usize {
        let Object { head, body, .. } = self.0.as_ref();
        let headers = head.headers.iter().map(|(name, value)| 8 + name.as_str().len() + value.len());
        2 + 8 + 2 + headers.sum::<usize>() + 8 + body.len()
    }
}

/// What foyer takes for an entry that is no longer there, and not for an error of the disk.
fn odd(what: &'static str) -> Error {
    Error::new(ErrorKind::OutOfRange, "not a file of this cache").with_context("what", what)
}

fn put(writer: &mut impl Write, bytes: &[u8]) -> Result<()> {
    writer.write_all(bytes).map_err(Error::io_error)
}

fn array<const N: usize>(reader: &mut impl Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes).map_err(|_| odd("end"))?;
    Ok(bytes)
}

fn text(reader: &mut impl Read) -> Result<Vec<u8>> {
    let len = u32::from_le_bytes(array(reader)?);
    if len > MAX_HEADER_BYTES {
        return Err(odd("header"));
    }
    exactly(reader, len.into())
}

/// So many bytes, for which no more memory is taken than there are.
fn exactly(reader: &mut impl Read, len: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.by_ref().take(len).read_to_end(&mut bytes).map_err(|_| odd("end"))?;
    if bytes.len() as u64 != len {
        return Err(odd("end"));
    }
    bytes.shrink_to_fit();
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;
    use http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG};
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;

    fn stored(body: &[u8]) -> Stored {
        let headers = HeaderMap::from_iter([
            (CACHE_CONTROL, HeaderValue::from_static("max-age=60, immutable")),
            (CONTENT_TYPE, HeaderValue::from_static("video/mp4")),
            (ETAG, HeaderValue::from_bytes(b"\"\xff\"").unwrap()),
            (AGE, HeaderValue::from_static("7")),
        ]);
        let head = Head::new(Kind::Segment, StatusCode::OK, headers);
        Stored(Arc::new(head.whole(Bytes::copy_from_slice(body), None)))
    }

    fn written(stored: &Stored) -> Vec<u8> {
        let mut bytes = Vec::new();
        stored.encode(&mut bytes).unwrap();
        assert_eq!(bytes.len(), stored.estimated_size());
        bytes
    }

    #[test]
    fn a_file_is_the_same_afterwards_and_as_old() {
        let before = stored(b"media");
        let Stored(after) = Stored::decode(&mut &written(&before)[..]).unwrap();
        assert_eq!(after.head.headers, before.0.head.headers);
        assert_eq!((after.head.kind, after.head.status), (Kind::Segment, StatusCode::OK));
        assert_eq!(after.body, "media");
        assert!(after.stale_for(Instant::now() + Duration::from_secs(1_000_000)).is_none());
        assert!((7..20).contains(&after.age_s(Instant::now())), "{}", after.age_s(Instant::now()));
    }

    #[test]
    fn what_another_version_wrote_is_not_understood() {
        let mut bytes = written(&stored(b"media"));
        bytes[0] = VERSION + 1;
        assert_eq!(Stored::decode(&mut &bytes[..]).unwrap_err().kind(), ErrorKind::OutOfRange);
    }

    proptest! {
        /// Whatever stands there instead, it is an answer or an error that means nothing is there.
        #[test]
        fn garbage_is_no_file(at in 0..200usize, byte: u8, cut in 0..200usize) {
            let mut bytes = written(&stored(b"media"));
            let (at, cut) = (at % bytes.len(), cut % bytes.len());
            bytes[at] = byte;
            if let Err(error) = Stored::decode(&mut &bytes[..]) {
                prop_assert_eq!(error.kind(), ErrorKind::OutOfRange);
            }
            let cut = Stored::decode(&mut &bytes[..cut]);
            prop_assert_eq!(cut.unwrap_err().kind(), ErrorKind::OutOfRange);
        }
    }
}
