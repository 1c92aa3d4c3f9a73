//! The encoder.

use bytes::{BufMut, BytesMut};

use super::{Value, marker};

/// Appends values, one after the other: the body of a command or script tag.
pub fn encode_all(out: &mut BytesMut, values: &[Value]) {
    for value in values {
        encode(out, value);
    }
}

/// Appends one value.
pub fn encode(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Number(n) => {
            out.put_u8(marker::NUMBER);
            out.put_f64(*n);
        }
        Value::Boolean(b) => {
            out.put_u8(marker::BOOLEAN);
            out.put_u8(u8::from(*b));
        }
        Value::String(s) => match u16::try_from(s.len()) {
            Ok(len) => {
                out.put_u8(marker::STRING);
                out.put_u16(len);
                out.put_slice(s.as_bytes());
            }
            Err(_) => long(out, marker::LONG_STRING, s),
        },
        Value::Object(p) => {
            out.put_u8(marker::OBJECT);
            properties(out, p);
        }
        Value::Null => out.put_u8(marker::NULL),
        Value::Undefined => out.put_u8(marker::UNDEFINED),
        Value::Reference(index) => {
            out.put_u8(marker::REFERENCE);
            out.put_u16(*index);
        }
        Value::EcmaArray(p) => {
            out.put_u8(marker::ECMA_ARRAY);
            out.put_u32(u32::try_from(p.len()).unwrap_or(u32::MAX));
            properties(out, p);
        }
        Value::StrictArray(elements) => {
            let count = u32::try_from(elements.len()).unwrap_or(u32::MAX);
            out.put_u8(marker::STRICT_ARRAY);
            out.put_u32(count);
            for element in elements.iter().take(usize::try_from(count).unwrap_or(usize::MAX)) {
                encode(out, element);
            }
        }
        Value::Date { unix_ms, time_zone } => {
            out.put_u8(marker::DATE);
            out.put_f64(*unix_ms);
            out.put_i16(*time_zone);
        }
        Value::LongString(s) => long(out, marker::LONG_STRING, s),
        Value::Unsupported => out.put_u8(marker::UNSUPPORTED),
        Value::Xml(s) => long(out, marker::XML_DOCUMENT, s),
    }
}

fn long(out: &mut BytesMut, marker: u8, s: &str) {
    let s = prefix(s, usize::try_from(u32::MAX).unwrap_or(usize::MAX));
    out.put_u8(marker);
    out.put_u32(u32::try_from(s.len()).unwrap_or(u32::MAX));
    out.put_slice(s.as_bytes());
}

fn properties(out: &mut BytesMut, properties: &[(String, Value)]) {
    for (name, value) in properties {
        key(out, name);
        encode(out, value);
    }
    out.put_slice(&[0, 0, marker::OBJECT_END]);
}

/// A name: the wire has 16 bits for its length, and no long form.
fn key(out: &mut BytesMut, name: &str) {
    let name = prefix(name, usize::from(u16::MAX));
    out.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
    out.put_slice(name.as_bytes());
}

/// The longest prefix of at most `max` bytes that does not split a character.
fn prefix(s: &str, max: usize) -> &str {
    s.get(..s.floor_char_boundary(max)).unwrap_or(s)
}
