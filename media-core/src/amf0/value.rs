//! The values AMF0 can carry.

/// An AMF0 value. Properties of objects keep the order they were sent in.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// IEEE 754 double.
    Number(f64),
    /// True or false.
    Boolean(bool),
    /// Up to 65,535 bytes on the wire; a longer one is written as a long string.
    String(String),
    /// Object. The class name of a typed object is not kept.
    Object(Vec<(String, Value)>),
    /// Null.
    Null,
    /// Undefined.
    Undefined,
    /// The index of an object sent before in the same message. Kept, not resolved.
    Reference(u16),
    /// Associative array: what `onMetaData` carries.
    EcmaArray(Vec<(String, Value)>),
    /// Array with ordinal indexes.
    StrictArray(Vec<Value>),
    /// A moment, in milliseconds since 1970 (UTC).
    Date {
        /// Milliseconds since 1970.
        unix_ms: f64,
        /// Reserved, should be 0: minutes from UTC.
        time_zone: i16,
    },
    /// A string with a 32-bit length.
    LongString(String),
    /// A type that the sender could not serialize.
    Unsupported,
    /// An XML document, as text.
    Xml(String),
}

impl Value {
    /// An object of the given properties.
    pub fn object<K: Into<String>>(properties: impl IntoIterator<Item = (K, Value)>) -> Self {
        Self::Object(properties.into_iter().map(|(k, v)| (k.into(), v)).collect())
    }

    /// The number, if it is one.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(n) => Some(*n),
            _ => None,
        }
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(b) => Some(*b),
            _ => None,
        }
    }

    /// The text, if it is a string, long string or XML document.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(s) | Self::LongString(s) | Self::Xml(s) => Some(s),
            _ => None,
        }
    }

    /// The properties of an object or associative array; of anything else, none.
    pub fn properties(&self) -> &[(String, Value)] {
        match self {
            Self::Object(p) | Self::EcmaArray(p) => p,
            _ => &[],
        }
    }

    /// The elements of a strict array; of anything else, none.
    pub fn elements(&self) -> &[Value] {
        match self {
            Self::StrictArray(e) => e,
            _ => &[],
        }
    }

    /// The first property of that name.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.properties().iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }
}

impl From<f64> for Value {
    fn from(n: f64) -> Self {
        Self::Number(n)
    }
}

impl From<u32> for Value {
    fn from(n: u32) -> Self {
        Self::Number(f64::from(n))
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Boolean(b)
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Self::String(s.to_owned())
    }
}

impl From<String> for Value {
    fn from(s: String) -> Self {
        Self::String(s)
    }
}
