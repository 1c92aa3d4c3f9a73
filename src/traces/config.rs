//! What an operator can set of traces.

use control_api::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use tonic::metadata::MetadataMap;

/// Where spans go, and of how many viewers there are some.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// A collector of OTLP by gRPC, such as `http://127.0.0.1:4317`. Without one there are no spans.
    pub(crate) endpoint: Option<String>,
    /// What goes along, such as `authorization=Bearer%20…`: as in `OTEL_EXPORTER_OTLP_HEADERS`.
    pub(crate) headers: Option<Secret>,
    /// What the process is called there.
    pub(crate) service_name: String,
    /// The part of viewers, 0 to 1, that are traced.
    pub(crate) play_ratio: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { endpoint: None, headers: None, service_name: "weir".into(), play_ratio: 0.01 }
    }
}

/// Headers that can't be understood. They are not repeated: they are secrets.
#[derive(Debug, thiserror::Error)]
#[error(
    "expected name=value, several parted by commas, and values as they stand in URLs: authorization=Bearer%20…"
)]
pub(crate) struct BadHeaders;

impl Config {
    /// What is wrong: which key, and what with it.
    pub(crate) fn mistakes(&self) -> Vec<(&'static str, String)> {
        let mut mistakes = Vec::new();
        if let Some(url) = &self.endpoint
            && !is_collector(url)
        {
            mistakes.push(("traces.endpoint", "expected a URL such as http://127.0.0.1:4317".to_owned()));
        }
        if let Err(error) = self.metadata() {
            mistakes.push(("traces.headers", error.to_string()));
        }
        if self.service_name.is_empty() {
            mistakes.push(("traces.service_name", "a name is needed".to_owned()));
        }
        if !(0.0..=1.0).contains(&self.play_ratio) {
            mistakes.push(("traces.play_ratio", format!("{} is not between 0 and 1", self.play_ratio)));
        }
        mistakes
    }

    /// The headers.
    pub(super) fn metadata(&self) -> Result<MetadataMap, BadHeaders> {
        let mut headers = HeaderMap::new();
        let all = self.headers.as_ref().map_or("", Secret::reveal);
        for header in all.split(',').map(str::trim).filter(|header| !header.is_empty()) {
            let (name, value) = header.split_once('=').ok_or(BadHeaders)?;
            let name = HeaderName::try_from(name.trim()).map_err(|_| BadHeaders)?;
            let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| BadHeaders)?;
            let mut value = HeaderValue::try_from(&*value).map_err(|_| BadHeaders)?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        Ok(MetadataMap::from_headers(headers))
    }
}

fn is_collector(url: &str) -> bool {
    url.parse::<Uri>()
        .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl FnOnce(&mut Config)) -> Vec<&'static str> {
        let mut config = Config::default();
        change(&mut config);
        config.mistakes().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn what_cannot_be_is_named() {
        assert_eq!(wrong(|_| {}), [""; 0]);
        for good in ["http://127.0.0.1:4317", "https://collector.example.com", "http://[::1]:4317/"] {
            assert_eq!(wrong(|c| c.endpoint = Some(good.into())), [""; 0], "{good}");
        }
        for bad in ["", "127.0.0.1:4317", "grpc://collector", "http://", "a b"] {
            assert_eq!(wrong(|c| c.endpoint = Some(bad.into())), ["traces.endpoint"], "{bad}");
        }
        for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(wrong(|c| c.play_ratio = bad), ["traces.play_ratio"], "{bad}");
        }
        assert_eq!(wrong(|c| c.service_name = String::new()), ["traces.service_name"]);
    }

    #[test]
    fn headers_are_those_of_the_standard_and_secret() {
        let headers = |text: &str| {
            let config = Config { headers: Some(Secret::new(text)), ..Config::default() };
            config.metadata().map(MetadataMap::into_headers)
        };
        let said = headers("authorization=Bearer%20s3cret, x-tenant=a=b,").unwrap();
        assert_eq!(
            (&said["authorization"], &said["x-tenant"]),
            (&"Bearer s3cret".parse().unwrap(), &"a=b".parse().unwrap())
        );
        assert!(!format!("{said:?}").contains("s3cret"));
        assert!(headers("").unwrap().is_empty());
        for bad in ["s3cret", "=s3cret", "a b=s3cret", "a=s3cret%0a", "a=%ff"] {
            let error = headers(bad).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
