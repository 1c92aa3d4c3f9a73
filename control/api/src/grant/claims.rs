//! What a grant says.

use serde::{Deserialize, Deserializer, Serialize};

use crate::Network;

/// Longest session id, in bytes: it stands in each line of the access log.
const MAX_SESSION_BYTES: usize = 128;

/// What a grant is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Sending a stream in.
    Publish,
    /// Watching one.
    Play,
}

/// The claims of a grant (RFC 7519 §4). Claims that are not known are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Until when it holds: seconds since 1970.
    #[serde(deserialize_with = "date")]
    pub exp: u64,
    /// From when on it holds: seconds since 1970.
    #[serde(default, deserialize_with = "optional_date", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// What it is for.
    pub aud: Audience,
    /// Streams that it is for, as `app/name`; `*` stands for any characters.
    pub stream: String,
    /// Who may use it; without it, whoever has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<Network>,
    /// The session that the access log names.
    #[serde(default, deserialize_with = "session", skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
}

/// A date, which may have a fraction (RFC 7519 §2, NumericDate).
fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let seconds = serde_json::Number::deserialize(deserializer)?;
    let whole = seconds.as_u64();
    // A fraction is cut off, and what is below or above all dates becomes the nearest.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    let rounded = || seconds.as_f64().map(|seconds| seconds as u64);
    whole.or_else(rounded).ok_or_else(|| serde::de::Error::custom("expected seconds since 1970"))
}

fn optional_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    date(deserializer).map(Some)
}

fn session<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > MAX_SESSION_BYTES || text.chars().any(char::is_control) {
        return Err(serde::de::Error::custom("the session id is too long or no text"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_as_others_write_them() {
        let read = |text: &str| serde_json::from_str::<Claims>(text);
        let claims = read(
            r#"{"exp":1700000000.9,"aud":"play","stream":"live/*","ip":"192.0.2.0/24","sid":"s-1","iss":"x"}"#,
        )
        .unwrap();
        let ip = Some("192.0.2.0/24".parse().unwrap());
        let expected = Claims {
            exp: 1_700_000_000,
            nbf: None,
            aud: Audience::Play,
            stream: "live/*".into(),
            ip,
            sid: Some("s-1".into()),
        };
        assert_eq!(claims, expected);
        assert_eq!(read(&serde_json::to_string(&claims).unwrap()).unwrap(), claims);
        assert_eq!(read(r#"{"exp":-5,"aud":"play","stream":"a"}"#).unwrap().exp, 0);
        for wrong in [
            r#"{"aud":"play","stream":"live/a"}"#.to_owned(),
            r#"{"exp":"1","aud":"play","stream":"live/a"}"#.to_owned(),
            r#"{"exp":1,"aud":"both","stream":"live/a"}"#.to_owned(),
            r#"{"exp":1,"aud":"play"}"#.to_owned(),
            r#"{"exp":1,"aud":"play","stream":"live/a","ip":"everywhere"}"#.to_owned(),
            r#"{"exp":1,"aud":"play","stream":"live/a","nbf":null}"#.to_owned(),
            r#"{"exp":1,"aud":"play","stream":"live/a","sid":"a\nb"}"#.to_owned(),
            format!(r#"{{"exp":1,"aud":"play","stream":"live/a","sid":"{}"}}"#, "x".repeat(129)),
        ] {
            assert!(read(&wrong).is_err(), "{wrong}");
        }
    }
}
