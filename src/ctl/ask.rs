//! Requests to the API.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::cli::Ctl;

/// What stands unescaped in a path segment (RFC 3986 §2.3).
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Streams that are asked for at once: as many as the API hands out.
const PAGE: usize = 1_000;

/// The API of a control plane.
pub(super) struct Api {
    base: String,
    token: Option<String>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Api {
    pub(super) fn new(ctl: &Ctl) -> anyhow::Result<Self> {
        let base = ctl.api.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") {
            bail!("--api {base}: expected a URL such as http://127.0.0.1:8080");
        }
        let token = match (&ctl.token, &ctl.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(file)) => Some(read(file)?),
            (None, None) => None,
        };
        Ok(Self { base, token, client: Client::builder(TokioExecutor::new()).build_http() })
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, None).await
    }

    pub(super) async fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(Method::POST, path, Some(body)).await
    }

    pub(super) async fn patch_json(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(Method::PATCH, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.ask(Method::DELETE, path, None).await
    }

    /// All pages of the list.
    pub(super) async fn all_streams(&self) -> anyhow::Result<Value> {
        let mut streams = Vec::new();
        let mut after = None;
        loop {
            let query = query(&[("limit", Some(&PAGE.to_string())), ("after", after.as_deref())]);
            let mut page = self.get(&format!("/api/v1/streams{query}")).await?;
            if let Some(Value::Array(more)) = page.get_mut("streams").map(Value::take) {
                streams.extend(more);
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = Some(next.to_owned()),
                None => return Ok(json!({ "streams": streams })),
            }
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.base);
        let mut request = Request::builder().method(method).uri(&url);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Bytes::new, |body| Bytes::from(body.to_string()));
        let request = request.body(Full::new(body)).with_context(|| url.clone())?;
        let asked = async {
            let answer = self.client.request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
            anyhow::Ok((status, body))
        };
        let asked = tokio::time::timeout(TIMEOUT, asked).await;
        let (status, body) =
            asked.with_context(|| format!("{url} does not answer"))?.with_context(|| url.clone())?;
        if status.is_success() {
            return if body.is_empty() {
                Ok(Value::Null)
            } else {
                serde_json::from_slice(&body).with_context(|| url)
            };
        }
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let detail = problem.get("detail").and_then(Value::as_str).unwrap_or("no reason is given");
        let hint = match (status, &self.token) {
            (StatusCode::UNAUTHORIZED, None) => "; give it by --token-file, --token or WEIR_TOKEN",
            _ => "",
        };
        bail!("{url}: {status}: {detail}{hint}")
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(text.trim().to_owned())
}

/// `?a=b&c=d` of what is given.
pub(super) fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let given = pairs.iter().filter_map(|(key, value)| Some(format!("{key}={}", segment((*value)?))));
    let all = given.collect::<Vec<_>>().join("&");
    if all.is_empty() { all } else { format!("?{all}") }
}

/// A stream's path, escaped.
pub(super) fn stream(path: &str) -> anyhow::Result<String> {
    let (app, name) = path.split_once('/').with_context(|| format!("{path:?}: expected app/name"))?;
    Ok(format!("{}/{}", segment(app), segment(name)))
}

/// A path segment, escaped.
pub(super) fn segment(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_escaped() {
        assert_eq!(stream("live/a b").unwrap(), "live/a%20b");
        assert!(stream("live").is_err());
        assert_eq!(query(&[("a", None), ("b", Some("c&d"))]), "?b=c%26d");
        assert_eq!(query(&[("a", None)]), "");
    }
}
