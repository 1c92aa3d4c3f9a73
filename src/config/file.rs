//! The configuration file: its values, and the line and column each key and value stands on.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use figment::value::Dict;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, Place};

/// A TOML file that was read.
pub(super) struct File {
    path: PathBuf,
    text: String,
}

impl File {
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        Ok(Self::of(path, std::fs::read_to_string(path)?))
    }

    pub(super) fn of(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }

    /// What the file says, or where its syntax is wrong.
    pub(super) fn values(&self) -> Result<Dict, Mistake> {
        toml::from_str(&self.text).map_err(|error| Mistake {
            place: self.at(error.span().map(|s| s.start)),
            what: error.message().to_owned(),
        })
    }

    /// Where `key` stands: the key itself, or its value. A key that is not in the file stands where
    /// the nearest table around it does.
    pub(super) fn place(&self, key: &[String], value: bool) -> Place {
        self.at(self.offset(key, value))
    }

    fn at(&self, offset: Option<usize>) -> Place {
        Place::File { path: self.path.clone(), position: offset.map(|o| self.position(o)) }
    }

    fn offset(&self, key: &[String], value: bool) -> Option<usize> {
        let table = DeTable::parse(&self.text).ok()?;
        let (mut node, mut found) = (Node::Table(table.get_ref()), None);
        for part in key {
            let Some((span, next)) = node.child(part) else { break };
            found = Some((span, next.get_ref(), next.span()));
            node = match next.get_ref() {
                DeValue::Table(t) => Node::Table(t),
                DeValue::Array(a) => Node::Array(a),
                _ => break,
            };
        }
        let (key_span, node, value_span) = found?;
        // The span of a `[table]` is its header, which is where its key stands too.
        Some(if value && !matches!(node, DeValue::Table(_)) { value_span.start } else { key_span.start })
    }

    /// Line and column of a byte offset, from 1; columns count characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let column = before.get(line_start..).map_or(0, |l| l.chars().count());
        (before.matches('\n').count() + 1, column + 1)
    }
}

enum Node<'a> {
    Table(&'a DeTable<'a>),
    Array(&'a [Spanned<DeValue<'a>>]),
}

impl<'a> Node<'a> {
    fn child(&self, part: &str) -> Option<(Range<usize>, &'a Spanned<DeValue<'a>>)> {
        match self {
            Self::Table(t) => {
                t.iter().find(|(k, _)| k.get_ref().as_ref() == part).map(|(k, v)| (k.span(), v))
            }
            Self::Array(a) => a.get(part.parse::<usize>().ok()?).map(|v| (v.span(), v)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, key: &str, value: bool) -> Option<(usize, usize)> {
        let file = File::of(Path::new("x.toml"), text.into());
        let key: Vec<String> = key.split('.').map(Into::into).collect();
        match file.place(&key, value) {
            Place::File { position, .. } => position,
            _ => None,
        }
    }

    #[test]
    fn keys_and_values_are_found() {
        let text = "a = 1\n[b]\n  c = \"é\"\nd.e = [1, 2]\n\n[[f]]\ng = 1\n[[f]]\ng = 2\n";
        assert_eq!(place(text, "a", false), Some((1, 1)));
        assert_eq!(place(text, "a", true), Some((1, 5)));
        assert_eq!(place(text, "b.c", false), Some((3, 3)));
        assert_eq!(place(text, "b.c", true), Some((3, 7)));
        assert_eq!(place(text, "b.d.e.1", true), Some((4, 11)));
        assert_eq!(place(text, "f.1.g", true), Some((9, 5)));
        assert_eq!(place(text, "b", true), Some((2, 2)));
        assert_eq!(place(text, "z", true), None);
        assert_eq!(place(text, "b.zz", true), Some((2, 2)), "the table it would stand in");
    }

    #[test]
    fn syntax_errors_have_a_place() {
        let file = File::of(Path::new("x.toml"), "a = 1\nb = = 2\n".into());
        let mistake = file.values().unwrap_err();
        assert!(mistake.to_string().starts_with("x.toml:2:5: "), "{mistake}");
        let file = File::of(Path::new("x.toml"), "a = 1\na = 2\n".into());
        let mistake = file.values().unwrap_err();
        assert!(mistake.to_string().starts_with("x.toml:2:1: duplicate key"), "{mistake}");
    }
}
