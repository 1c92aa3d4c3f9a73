//! Commands (RTMP 1.0 §7.2): a name, a transaction id, a command object, arguments; all in AMF0.

use bytes::{Bytes, BytesMut};

use crate::amf0::{self, Value};

use super::chunk::{Header, type_id};
use super::error::Error;

/// A command, or the answer to one.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Such as `connect`, `publish`, `_result`, `onStatus`.
    pub name: String,
    /// Ties an answer to its command; 0 asks for none.
    pub transaction: f64,
    /// Null for most.
    pub object: Value,
    /// What follows.
    pub arguments: Vec<Value>,
}

impl Command {
    /// A command with a null object.
    pub fn new(name: &str, transaction: f64, arguments: Vec<Value>) -> Self {
        Self { name: name.to_owned(), transaction, object: Value::Null, arguments }
    }

    /// From a command message's body. What follows the name may be missing.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let mut values = amf0::decode(body)?.into_iter();
        let Some(Value::String(name)) = values.next() else { return Err(Error::NoCommandName) };
        let transaction = values.next().and_then(|v| v.as_f64()).unwrap_or(0.0);
        let object = values.next().unwrap_or(Value::Null);
        Ok(Self { name, transaction, object, arguments: values.collect() })
    }

    /// From a message, if it is a command. AMF3 commands carry a 0 byte and AMF0.
    pub(super) fn from_chunk(type_id: u8, body: &Bytes) -> Option<Result<Self, Error>> {
        match type_id {
            type_id::COMMAND_AMF0 => Some(Self::parse(body)),
            type_id::COMMAND_AMF3 => Some(Self::parse(body.strip_prefix(&[0]).unwrap_or(body))),
            _ => None,
        }
    }

    /// The text of an argument.
    pub fn text(&self, index: usize) -> Option<&str> {
        self.arguments.get(index).and_then(Value::as_str)
    }

    /// The body of the command's message.
    pub fn body(&self) -> BytesMut {
        let mut body = BytesMut::new();
        amf0::encode(&mut body, &Value::String(self.name.clone()));
        amf0::encode(&mut body, &Value::Number(self.transaction));
        amf0::encode(&mut body, &self.object);
        amf0::encode_all(&mut body, &self.arguments);
        body
    }
}

/// The header of a command message. Commands of the connection and of a stream have a chunk stream of
/// their own, as librtmp does it.
pub(super) const fn header(stream_id: u32) -> Header {
    let chunk_stream = if stream_id == 0 { 3 } else { 5 };
    Header { chunk_stream, type_id: type_id::COMMAND_AMF0, stream_id, timestamp_ms: 0 }
}
