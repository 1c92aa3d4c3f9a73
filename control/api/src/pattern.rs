//! Patterns of stream keys: what publish keys and grants are for.

/// Whether `text` is `pattern`, in which `*` stands for any characters. Takes at most the product of
/// their lengths, both of which are short.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // There is always a first part.
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("live/a", "live/a", true),
            ("live/a", "live/ab", false),
            ("live/*", "live/a", true),
            ("live/*", "live/", true),
            ("live/*", "lives/a", false),
            ("*", "live/a", true),
            ("*/a", "live/a", true),
            ("*/a", "live/ba", false),
            ("live/*-cam-*", "live/x-cam-7", true),
            ("live/*-cam-*", "live/x-cam7", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("*b*b", "ab", false),
            ("", "live/a", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
