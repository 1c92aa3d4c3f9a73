//! What is wrong with a configuration, and where: file, line and column, environment variable or flag.

use std::fmt;
use std::path::PathBuf;

use figment::error::{Actual, Kind};

/// Where a value, or the lack of one, came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A place in the configuration file; line and column count from 1.
    File { path: PathBuf, position: Option<(usize, usize)> },
    /// An environment variable.
    Env(String),
    /// A command-line flag.
    Flag(String),
    /// Nobody set it: the defaults themselves.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, position: Some((line, column)) } => {
                write!(f, "{}:{line}:{column}", path.display())
            }
            Self::File { path, position: None } => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Default => f.write_str("default configuration"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) place: Place,
    pub(crate) what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mistakes(pub(crate) Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// Says in words what serde found at `key`. Values are never repeated: any of them may be a secret, put where it does
/// not belong.
pub(super) fn describe(key: &str, kind: &Kind) -> String {
    match kind {
        Kind::UnknownField(field, known) => match nearest(field, known) {
            Some(near) => format!("unknown key `{key}`, did you mean `{near}`?"),
            None => format!("unknown key `{}`, expected one of {}", named(key), list(known)),
        },
        Kind::UnknownVariant(variant, known) => match nearest(variant, known) {
            Some(near) => format!("`{key}`: unknown value, did you mean \"{near}\"?"),
            None => format!("`{key}`: unknown value, expected one of {}", list(known)),
        },
        Kind::MissingField(field) => format!("`{key}`: the key `{field}` is missing"),
        Kind::InvalidType(found, expected) => {
            format!("`{key}`: expected {}, found {}", plain(expected), name(found))
        }
        Kind::InvalidValue(Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_), expected) => {
            format!("`{key}`: expected {}", plain(expected))
        }
        Kind::InvalidValue(found, expected) => {
            format!("`{key}`: expected {}, found another value ({})", plain(expected), name(found))
        }
        // Words of our own types and of the standard library, which speak of the syntax.
        Kind::Message(what) => format!("`{key}`: {what}"),
        _ => format!("`{key}`: this value cannot be used here"),
    }
}

/// A key as it may be repeated: the name of an unknown one inside a list may be a publish key that was written in
/// the wrong place.
fn named(key: &str) -> String {
    match key.rsplit_once('.') {
        Some((list, _)) if list.split('.').any(|part| part.parse::<usize>().is_ok()) => format!("{list}.…"),
        _ => key.to_owned(),
    }
}

fn list(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

/// serde's words for what it expects, in a user's words.
fn plain(expected: &str) -> &str {
    match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list ([…])",
        "a map" => "a table",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

fn name(found: &Actual) -> &'static str {
    match found {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
        Actual::Char(_) | Actual::Str(_) => "a string",
        Actual::Bytes(_) => "bytes",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}

/// The known name that was most likely meant.
fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // A third of the letters wrong is still a slip; more is another word.
    let slips = (word.chars().count() / 3).max(1);
    known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), *k))
        .filter(|(distance, _)| *distance <= slips)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        assert_eq!(nearest("rmtp", &["http", "rtmp", "auth"]), Some("rtmp"));
        assert_eq!(nearest("listne", &["listen", "limits"]), Some("listen"));
        assert_eq!(nearest("colour", &["listen", "limits"]), None);
    }

    #[test]
    fn values_are_not_repeated() {
        let expected = "`origin.port`: expected a whole number from 0 to 65535";
        let describe = |kind: Kind| describe("origin.port", &kind);
        let text = describe(Kind::InvalidType(Actual::Str("s3cret".into()), "u16".into()));
        assert_eq!(text, format!("{expected}, found a string"));
        assert_eq!(describe(Kind::InvalidValue(Actual::Unsigned(70_000), "u16".into())), expected);
        for kind in [
            Kind::InvalidType(Actual::Unsigned(70_000), "a string".into()),
            Kind::InvalidType(Actual::Float(70_000.5), "a string".into()),
            Kind::InvalidValue(Actual::Str("70000".into()), "a string".into()),
            Kind::UnknownVariant("70000".into(), &["open", "keys"]),
            Kind::Unsupported(Actual::Other("70000".into())),
            Kind::ISizeOutOfRange(70_000),
        ] {
            let text = describe(kind);
            assert!(!text.contains("70000"), "{text}");
        }
    }
}
