//! A Rust file as the rules see it: code apart from comments and literals, and what of it is test code.

use std::ops::Range;

/// A Rust source file.
pub struct Source {
    /// Path from the root of the project, with `/`.
    pub path: String,
    /// The file as it is.
    pub text: String,
    /// `text` with the insides of comments and literals blanked, byte for byte at the same place.
    pub code: String,
    tests: Vec<Range<usize>>,
}

impl Source {
    /// Takes a file apart.
    pub fn new(path: &str, text: &str) -> Self {
        let code = blank(text);
        let whole_file_is_test = code.contains("#![cfg(test)]")
            || path.ends_with("/tests.rs")
            || path.contains("/src/") && path.contains("/tests/");
        let tests =
            if whole_file_is_test { std::iter::once(0..text.len()).collect() } else { test_items(&code) };
        Self { path: path.to_owned(), text: text.to_owned(), code, tests }
    }

    /// The line, from 1, of a byte offset.
    pub fn line_of(&self, offset: usize) -> usize {
        self.text[..offset].matches('\n').count() + 1
    }

    /// Is this offset inside an item under `#[cfg(test)]`?
    pub fn is_test(&self, offset: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&offset))
    }

    /// Lines that are not test code.
    pub fn lines_without_tests(&self) -> usize {
        let mut start = 0;
        let mut lines = 0;
        for line in self.text.split_inclusive('\n') {
            if !self.is_test(start) {
                lines += 1;
            }
            start += line.len();
        }
        lines
    }

    /// Offsets of a piece of code that stands alone: not part of a longer word.
    pub fn words(&self, word: &str) -> Vec<usize> {
        let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
        self.code
            .match_indices(word)
            .filter(|(at, _)| {
                let before = self.code[..*at].chars().next_back();
                let after = self.code[at + word.len()..].chars().next();
                let starts = word.starts_with(part_of_word) && before.is_some_and(part_of_word);
                let ends = word.ends_with(part_of_word) && after.is_some_and(part_of_word);
                !starts && !ends
            })
            .map(|(at, _)| at)
            .collect()
    }
}

/// Replaces the insides of comments and literals by spaces; line ends stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = match rest {
            [b'/', b'/', ..] => at + until(rest, b"\n"),
            [b'/', b'*', ..] => at + block_comment(rest),
            [b'"', ..] => at + quoted(rest),
            [b'r', ..] if !continues_word(bytes, at) && raw_string(&rest[1..]).is_some() => {
                at + 1 + raw_string(&rest[1..]).unwrap()
            }
            [b'b' | b'c', b'r', ..] if !continues_word(bytes, at) && raw_string(&rest[2..]).is_some() => {
                at + 2 + raw_string(&rest[2..]).unwrap()
            }
            [b'\'', ..] => at + char_or_lifetime(text, at),
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end;
    }
    String::from_utf8(out).unwrap()
}

fn continues_word(bytes: &[u8], at: usize) -> bool {
    at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_')
}

/// Length up to the needle, or all.
fn until(bytes: &[u8], needle: &[u8]) -> usize {
    bytes.windows(needle.len()).position(|w| w == needle).unwrap_or(bytes.len())
}

fn block_comment(bytes: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    at
}

fn quoted(bytes: &[u8]) -> usize {
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Length of `#"…"#` with any number of `#`, if that is what stands here.
fn raw_string(bytes: &[u8]) -> Option<usize> {
    let hashes = bytes.iter().take_while(|b| **b == b'#').count();
    (bytes.get(hashes) == Some(&b'"')).then_some(())?;
    let close = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
    let body = hashes + 1;
    Some((body + until(&bytes[body..], &close) + close.len()).min(bytes.len()))
}

/// Length of a character literal; of a lifetime's tick, 1.
fn char_or_lifetime(text: &str, at: usize) -> usize {
    let mut inside = text[at + 1..].char_indices();
    match inside.next() {
        Some((_, '\\')) => text[at + 3..].find('\'').map_or(1, |end| end + 4),
        Some(_) => match inside.next() {
            Some((end, '\'')) => end + 2,
            _ => 1,
        },
        None => 1,
    }
}

/// Ranges of the items under `#[cfg(test)]`, attribute to closing brace or semicolon.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for (start, attribute) in code.match_indices("#[cfg(test)]") {
        if ranges.last().is_some_and(|last| last.contains(&start)) {
            continue;
        }
        let mut depth = 0_usize;
        let mut end = code.len();
        for (offset, c) in code[start + attribute.len()..].char_indices() {
            let here = start + attribute.len() + offset + 1;
            match c {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => {
                    depth = depth.saturating_sub(1);
                    if depth == 0 && c == '}' {
                        end = here;
                        break;
                    }
                }
                ';' if depth == 0 => {
                    end = here;
                    break;
                }
                _ => {}
            }
        }
        ranges.push(start..end);
    }
    ranges
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "let a = \"use x\"; // use y\nlet b = r#\"use \" z\"#; /* use /* w */ v */ let c = '\"'; let d: &'a str = b\"q\\\"use\";";
    let source = Source::new("a.rs", text);
    assert_eq!(source.code.len(), text.len());
    assert!(!source.code.contains("use"), "{}", source.code);
    assert!(source.code.contains("let c = ") && source.code.contains("a str = b"), "{}", source.code);
    assert_eq!(source.line_of(text.find("let b").unwrap()), 2);
}

#[test]
fn test_code_is_told_apart() {
    let text =
        "fn a() {}\n#[cfg(test)]\n#[allow(dead_code)]\nmod tests {\n    fn b() { if x {} }\n}\nfn c() {}\n";
    let source = Source::new("a/src/b.rs", text);
    assert_eq!(source.lines_without_tests(), 2);
    assert!(source.is_test(text.find("fn b").unwrap()));
    assert!(!source.is_test(text.find("fn c").unwrap()));
    assert_eq!(Source::new("a/src/b/tests.rs", text).lines_without_tests(), 0);
    assert_eq!(Source::new("a/src/b.rs", "#[cfg(test)]\nmod tests;\nfn c() {}\n").lines_without_tests(), 1);
}

#[test]
fn words_stand_alone() {
    let source = Source::new("a.rs", "unbounded(); not_unbounded(); unbounded_more()");
    assert_eq!(source.words("unbounded"), [0]);
}
