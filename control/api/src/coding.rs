//! Which content codings a client takes.

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

/// Whether the client takes gzip.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    // The other name means the same (RFC 9110 §8.4.1.3).
    accepts(headers, &["gzip", "x-gzip"])
}

/// Whether the client takes Brotli (RFC 7932).
pub fn accepts_brotli(headers: &HeaderMap) -> bool {
    accepts(headers, &["br"])
}

/// Whether the client takes a coding (RFC 9110 §12.5.3): it is named, or else everything is, and not with weight 0. A
/// weight that is none counts as 0: everybody can read what has no coding.
fn accepts(headers: &HeaderMap, names: &[&str]) -> bool {
    let mut any = false;
    let lists = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for item in lists.flat_map(|list| list.split(',')) {
        let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
        let accepted = is_above_0(weight.trim());
        match coding.trim() {
            name if names.iter().any(|known| name.eq_ignore_ascii_case(known)) => return accepted,
            "*" => any = accepted,
            _ => {}
        }
    }
    any
}

/// Of `q=0.5`, or of nothing, which means 1 (§12.4.2).
fn is_above_0(weight: &str) -> bool {
    let value = weight.strip_prefix("q=").or_else(|| weight.strip_prefix("Q="));
    weight.is_empty() || value.is_some_and(|value| value.parse::<f32>().is_ok_and(|value| value > 0.0))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn accepts(lists: &[&'static str]) -> bool {
        let lists = lists.iter().map(|list| (ACCEPT_ENCODING, HeaderValue::from_static(list)));
        accepts_gzip(&lists.collect())
    }

    #[test]
    fn gzip_is_accepted_as_the_client_says() {
        for list in [
            "gzip",
            "br, GZIP;q=0.5",
            "x-gzip",
            "*",
            "gzip;q=1.000",
            "gzip ; Q=0.001",
            "*;q=0, gzip",
            "gzip;",
        ] {
            assert!(accepts(&[list]), "{list}");
        }
        for list in [
            "",
            "br",
            "gzip;q=0",
            "gzip; q=0.000",
            "*, gzip;q=0",
            "gzip;q=0, *",
            "*;q=0",
            "gzip;q=much",
            "gzip;q=NaN",
            "gzip;level=1",
            "gzipped",
        ] {
            assert!(!accepts(&[list]), "{list}");
        }
        assert!(accepts(&["br", "deflate, gzip"]));
        assert!(!accepts(&["*", "gzip;q=0"]));
        assert!(!accepts(&[]));
    }

    #[test]
    fn brotli_is_accepted_where_it_is_named() {
        let accepts =
            |list| accepts_brotli(&HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(list))]));
        assert!(accepts("gzip, deflate, br, zstd") && accepts("*"));
        assert!(!accepts("gzip") && !accepts("gzip, br;q=0") && !accepts("brotli"));
    }
}
