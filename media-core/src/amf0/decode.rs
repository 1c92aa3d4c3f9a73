//! The decoder. Depth, number of elements and every length are checked before anything is allocated
//! or entered, so that a message costs no more than a small multiple of its bytes.

use super::{Value, marker};

/// How deep containers may nest. Real metadata needs 3 (`onMetaData` → `keyframes` → array); the
/// decoder recurses, so this also bounds the stack.
pub const MAX_DEPTH: usize = 16;

/// How many values one message may hold in total. The largest real ones are the keyframe indexes of
/// recorded files: two arrays of some thousand entries. A property takes 56 bytes in memory beside its
/// text, twice that while a list grows, so a message costs less than 1 MB.
pub const MAX_ELEMENTS: usize = 8_192;

/// Why bytes are not AMF0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A length or a type needs more bytes than the message has.
    #[error("AMF0 value is cut short")]
    Truncated,
    /// An unknown or reserved type marker.
    #[error("AMF0 type marker {0:#04x} is unknown")]
    Marker(u8),
    /// A switch to AMF3, which is not spoken here.
    #[error("AMF3 values (AVM+ marker) are not supported")]
    Amf3,
    /// Containers nest deeper than [`MAX_DEPTH`].
    #[error("AMF0 value nests deeper than {MAX_DEPTH}")]
    TooDeep,
    /// More than [`MAX_ELEMENTS`] values.
    #[error("AMF0 message has more than {MAX_ELEMENTS} values")]
    TooMany,
}

/// All values of a message or script tag.
///
/// What real encoders do wrong and is harmless is accepted: an object whose end marker is missing at
/// the end of the message, and up to 8 bytes of zeros or a stray end marker after the last value.
/// Text that is not UTF-8 is kept with replacement characters.
pub fn decode(input: &[u8]) -> Result<Vec<Value>, Error> {
    let mut decoder = Decoder { rest: input, elements: 0 };
    let mut values = Vec::new();
    while !decoder.at_end(!values.is_empty()) {
        values.push(decoder.value(0)?);
    }
    Ok(values)
}

struct Decoder<'a> {
    rest: &'a [u8],
    elements: usize,
}

impl<'a> Decoder<'a> {
    fn at_end(&self, tolerant: bool) -> bool {
        match self.rest {
            [] => true,
            [marker::OBJECT_END] | [0, 0, marker::OBJECT_END] => tolerant,
            // A number takes 9 bytes: fewer zeros are padding.
            rest => tolerant && rest.len() < 9 && rest.iter().all(|b| *b == 0),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (head, tail) = self.rest.split_at_checked(len).ok_or(Error::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Error::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// A 32-bit length or count; one beyond the address space is beyond the message, too.
    fn u32(&mut self) -> Result<usize, Error> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| Error::Truncated)
    }

    fn f64(&mut self) -> Result<f64, Error> {
        Ok(f64::from_be_bytes(self.array()?))
    }

    fn text(&mut self, len: usize) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(self.take(len)?).into_owned())
    }

    fn string(&mut self) -> Result<String, Error> {
        let len = self.u16()?;
        self.text(usize::from(len))
    }

    fn long_string(&mut self) -> Result<String, Error> {
        let len = self.u32()?;
        self.text(len)
    }

    fn count(&mut self) -> Result<(), Error> {
        self.elements += 1;
        if self.elements > MAX_ELEMENTS { Err(Error::TooMany) } else { Ok(()) }
    }

    fn value(&mut self, depth: usize) -> Result<Value, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        self.count()?;
        Ok(match self.u8()? {
            marker::NUMBER => Value::Number(self.f64()?),
            marker::BOOLEAN => Value::Boolean(self.u8()? != 0),
            marker::STRING => Value::String(self.string()?),
            marker::OBJECT => Value::Object(self.properties(depth)?),
            marker::NULL => Value::Null,
            marker::UNDEFINED => Value::Undefined,
            marker::REFERENCE => Value::Reference(self.u16()?),
            marker::ECMA_ARRAY => {
                // The count is a hint that encoders get wrong: the end marker is what counts.
                self.u32()?;
                Value::EcmaArray(self.properties(depth)?)
            }
            marker::STRICT_ARRAY => Value::StrictArray(self.elements(depth)?),
            marker::DATE => {
                Value::Date { unix_ms: self.f64()?, time_zone: i16::from_be_bytes(self.array()?) }
            }
            marker::LONG_STRING => Value::LongString(self.long_string()?),
            marker::UNSUPPORTED => Value::Unsupported,
            marker::XML_DOCUMENT => Value::Xml(self.long_string()?),
            marker::TYPED_OBJECT => {
                self.string()?;
                Value::Object(self.properties(depth)?)
            }
            0x11 => return Err(Error::Amf3),
            other => return Err(Error::Marker(other)),
        })
    }

    fn properties(&mut self, depth: usize) -> Result<Vec<(String, Value)>, Error> {
        let mut properties = Vec::new();
        while !self.rest.is_empty() {
            let key = self.string()?;
            if key.is_empty() && self.rest.first() == Some(&marker::OBJECT_END) {
                self.u8()?;
                break;
            }
            properties.push((key, self.value(depth + 1)?));
        }
        Ok(properties)
    }

    fn elements(&mut self, depth: usize) -> Result<Vec<Value>, Error> {
        let count = self.u32()?;
        // Each element takes at least its marker.
        if count > self.rest.len() {
            return Err(Error::Truncated);
        }
        if count > MAX_ELEMENTS {
            return Err(Error::TooMany);
        }
        // Grows by pushing: nested arrays that each announce thousands must not reserve them all.
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(self.value(depth + 1)?);
        }
        Ok(elements)
    }
}
