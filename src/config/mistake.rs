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

/// Says in words what serde found at `key`. Values are never repeated: they may be secrets.
pub(super) fn describe(key: &str, kind: &Kind) -> String {
    match kind {
        Kind::UnknownField(field, known) => match nearest(field, known) {
            Some(near) => format!("unknown key `{key}`, did you mean `{near}`?"),
            None => format!("unknown key `{key}`, expected one of {}", list(known)),
        },
        Kind::UnknownVariant(variant, known) => match nearest(variant, known) {
            Some(near) => format!("`{key}`: unknown value \"{variant}\", did you mean \"{near}\"?"),
            None => format!("`{key}`: unknown value \"{variant}\", expected one of {}", list(known)),
        },
        Kind::MissingField(field) => format!("`{key}`: the key `{field}` is missing"),
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("`{key}`: expected {}, found {}", plain(expected), name(found))
        }
        other => format!("`{key}`: {other}"),
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

fn name(found: &Actual) -> String {
    match found {
        Actual::Bool(b) => b.to_string(),
        Actual::Unsigned(n) => n.to_string(),
        Actual::Signed(n) => n.to_string(),
        Actual::Float(n) => n.to_string(),
        Actual::Char(_) | Actual::Str(_) => "a string".into(),
        Actual::Seq => "a list".into(),
        Actual::Map => "a table".into(),
        other => other.to_string(),
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
    fn strings_are_not_repeated() {
        let kind = Kind::InvalidType(Actual::Str("s3cret".into()), "u16".into());
        let text = describe("origin.port", &kind);
        assert_eq!(text, "`origin.port`: expected a whole number from 0 to 65535, found a string");
    }
}
