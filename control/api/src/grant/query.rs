//! What of a client's URL others may know.

/// A query without the parameters that are secrets (`key`, `token`) and the empty ones, within so many bytes: whole
/// parameters from its beginning.
pub fn without_secrets(query: &str, max_bytes: usize) -> String {
    let is_secret = |pair: &str| pair.starts_with("key=") || pair.starts_with("token=");
    let mut kept = String::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !is_secret(pair)) {
        if kept.len() + 1 + pair.len() > max_bytes {
            break;
        }
        if !kept.is_empty() {
            kept.push('&');
        }
        kept.push_str(pair);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_told_without_secrets_and_bounded() {
        assert_eq!(without_secrets("a=1&token=x&&key=y&b=2", 100), "a=1&b=2");
        assert_eq!(without_secrets(&format!("a=1&b={}", "x".repeat(100)), 100), "a=1");
    }
}
