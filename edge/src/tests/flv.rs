//! FLV over HTTP: what the response looks like, and what it doesn't answer.

use http::Method;

use super::client::{Player, Server, text};
use super::origin::Origin;
use super::studio::{Studio, opening};
use super::{key, until};

#[tokio::test]
async fn a_live_response_is_open_to_all_and_kept_by_nobody() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let response = server.get("/live/a.flv?token=x").await;
    let headers = response.headers();
    assert_eq!(headers["content-type"], "video/x-flv");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert!(!headers.contains_key("content-length"));
    assert!(!headers.contains_key("set-cookie"));
}

#[tokio::test]
async fn http2_viewers_get_the_same_bytes() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    relay.send(studio.picture(false, 100_000).bytes).await;
    let mut client = server.http2().await;
    let request = http::Request::get("http://edge/live/a.flv").body(http_body_util::Empty::new()).unwrap();
    let mut player = Player::new(client.send_request(request).await.unwrap());
    assert_eq!(player.number().await, Some(0));
    assert_eq!(player.number().await, Some(1));
    drop(relay);
    assert_eq!(player.number().await, None);
}

#[tokio::test]
async fn head_is_answered_like_get_and_ends() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let response = server.request(Method::HEAD, "/live/a.flv", &[]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "video/x-flv");
    assert_eq!(text(response).await, "");
    until(|| server.edge.viewers(&key("a")).flv == 0).await;
    assert_eq!(server.request(Method::HEAD, "/live/b.flv", &[]).await.status(), 404);
}

#[tokio::test]
async fn low_latency_begins_with_the_next_keyframe() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;
    let mut early = Player::new(server.get("/live/a.flv").await);
    assert_eq!(early.number().await, Some(0));
    let mut low = Player::new(server.get("/live/a.flv?latency=low").await);
    relay.send(studio.picture(false, 100).bytes).await;
    relay.send(studio.picture(true, 100).bytes).await;
    assert_eq!(low.number().await, Some(2));
    assert_eq!(early.number().await, Some(1));
    assert_eq!(server.get("/live/a.flv?latency=none").await.status(), 400);
}

#[tokio::test]
async fn other_methods_are_told_what_is_allowed() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    for path in ["/live/a.flv", "/live/a/index.m3u8"] {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let response = server.request(method, path, &[]).await;
            assert_eq!(response.status(), 405);
            assert_eq!(response.headers()["allow"], "GET, HEAD, OPTIONS");
        }
        let preflight = [("origin", "https://player.example"), ("access-control-request-method", "GET")];
        let response = server.request(Method::OPTIONS, path, &preflight).await;
        assert_eq!(response.status(), 204);
        assert_eq!(response.headers()["access-control-allow-origin"], "*");
        assert_eq!(response.headers()["access-control-allow-methods"], "GET, HEAD, OPTIONS");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn paths_that_lead_astray_reach_no_origin() {
    let origin = Origin::default();
    let server = Server::start(&origin).await;
    let long = format!("/live/{}.flv", "a".repeat(8 * 1024));
    let longish = format!("/live/{}/index.m3u8", "a".repeat(512));
    for path in [
        "/live/../a.flv",
        "/live/%2e%2e/index.m3u8",
        "/live/a%2fb.flv",
        "/live/a%2F..%2Fb/index.m3u8",
        "/live/a%00.flv",
        "/live/%ff.flv",
        "/live/%3Cscript%3E.flv",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        &long,
        &longish,
    ] {
        let response = server.get(path).await;
        assert_eq!(response.status(), 400, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        let problem: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
        assert_eq!(problem["status"], 400);
    }
    for path in ["/live", "/live/a", "/live/a.mkv", "/live/a/b/c/d.m3u8", "/relay/live/a", "/"] {
        assert_eq!(server.get(path).await.status(), 404, "{path}");
    }
    assert!(origin.requests().is_empty());
}
