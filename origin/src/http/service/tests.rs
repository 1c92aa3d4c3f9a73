//! What the origin's service answers.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http_body_util::BodyExt;
use serde_json::Value;

use super::*;
use crate::testing::{ask, key, origin, publish, publisher};
use crate::{Config, Publisher};

async fn refusal(origin: &Origin, method: Method, path: &str) -> (StatusCode, String) {
    let response = ask(origin, method, path).await;
    let status = response.status();
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json", "{path}");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["status"], status.as_u16());
    (status, problem["detail"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn absent_streams_and_unknown_paths_are_problems() {
    let origin = origin(Config::default());
    for path in
        ["/", "/a", "/live/a", "/relay", "/relay/live", "/relay/live/a", "/live/a/index.m3u8", "/live/a/x"]
    {
        assert_eq!(refusal(&origin, Method::GET, path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn names_that_cannot_be_are_refused() {
    let origin = origin(Config::default());
    let long = format!("/relay/live/{}", "x".repeat(8192));
    for path in [
        "/relay/live/..",
        "/relay/live/a%2fb",
        "/relay/live/a/b",
        "/relay/live/a%00",
        "/relay/live/%ff",
        "/relay//a",
        "/relay/api/a",
        "/live/%2e%2e/index.m3u8",
        "/live/a%0d%0a/index.m3u8",
        &long,
    ] {
        assert_eq!(refusal(&origin, Method::GET, path).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
    assert!(origin.streams().is_empty());
}

#[tokio::test]
async fn only_get_and_head_are_served() {
    let origin = origin(Config::default());
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let response = ask(&origin, method, "/relay/live/a").await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
    }
}

#[tokio::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let origin = origin(Config::default());
    let _publication = publish(&origin, 0);
    let get = ask(&origin, Method::GET, "/relay/live/a").await;
    let head = ask(&origin, Method::HEAD, "/relay/live/a").await;
    assert_eq!(get.headers(), head.headers());
    assert_eq!(head.headers()[CONTENT_TYPE], "video/x-flv");
    assert_eq!(head.headers()[CACHE_CONTROL], "no-store");
    assert!(head.into_body().collect().await.unwrap().to_bytes().is_empty());
    let absent = ask(&origin, Method::HEAD, "/relay/live/b").await;
    assert_eq!(absent.status(), StatusCode::NOT_FOUND);
    assert!(absent.into_body().collect().await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn percent_encoded_names_are_decoded() {
    let origin = origin(Config::default());
    let _publication = publish(&origin, 0);
    assert_eq!(ask(&origin, Method::HEAD, "/relay/%6cive/%61").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_feed_names_the_span_in_which_it_was_published() {
    let origin = origin(Config::default());
    let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let trace = control_api::trace::Context::read(text.as_bytes());
    let publication = origin.publish(&key(), Publisher { trace, ..publisher() }).unwrap();
    assert_eq!(ask(&origin, Method::GET, "/relay/live/a").await.headers()["traceparent"], text);
    // Where the next publisher is not traced there is none.
    drop(publication);
    let _publication = publish(&origin, 0);
    assert!(!ask(&origin, Method::GET, "/relay/live/a").await.headers().contains_key("traceparent"));
}
