//! Grants: whoever has none that holds gets nothing, by whatever protocol, and costs the origin nothing.

use std::sync::Arc;

use bytes::Bytes;
use control_api::Secret;
use control_api::grant::{Algorithm, Audience, Claims, Grants, Key, KeySet, Play, Signer};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};

use super::client::{Player, Server, text};
use super::limits::metric;
use super::origin::Origin;
use super::secure::Secure;
use super::studio::{Studio, opening};
use super::{h3, rtmp};
use crate::{Access, Config};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// `{"alg":"none","kid":"h"}`
const NONE: &str = "eyJhbGciOiJub25lIiwia2lkIjoiaCJ9";

/// `{"alg":"RS256","kid":"e"}`
const RS256: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImUifQ";

const MEDIA: [&str; 5] = [
    "/live/a/index.m3u8",
    "/live/a/v0/media.m3u8",
    "/live/a/v0/init-1-1.mp4",
    "/live/a/v0/1-1.m4s",
    "/live/a/v0/1-1.0.m4s",
];

fn key(text: &str) -> Key {
    Key::new(Algorithm::Hs256, text).unwrap()
}

fn pems() -> (String, String) {
    Key::ed25519_pems(&[7; 32]).unwrap()
}

/// A secret by the name of `h`, and a public key by the name of `e`.
pub(super) fn access() -> Access {
    let public = Key::new(Algorithm::EdDsa, &pems().1).unwrap();
    let keys = KeySet::new([("h".to_owned(), key(SECRET)), ("e".to_owned(), public)]).unwrap();
    Access { play: Play::Required, grants: Arc::new(Grants::new(keys)) }
}

pub(super) fn claims() -> Claims {
    let ip = Some("127.0.0.0/8".parse().unwrap());
    Claims { exp: u64::MAX, nbf: None, aud: Audience::Play, stream: "live/a".into(), ip, sid: None }
}

fn sign(kid: &str, key: Key, claims: &Claims) -> String {
    Signer::new(kid, key).sign(claims).unwrap()
}

pub(super) fn good() -> String {
    with(&claims())
}

/// A grant that says so.
pub(super) fn with(claims: &Claims) -> String {
    sign("h", key(SECRET), claims)
}

/// What does not open `live/a`, and what is said to it.
fn bad() -> Vec<(&'static str, String, u16)> {
    let with = |claims| sign("h", key(SECRET), &claims);
    let good = good();
    let (_, rest) = good.split_once('.').unwrap();
    let (unsigned, _) = rest.split_once('.').unwrap();
    let private = Key::new(Algorithm::EdDsa, &pems().0).unwrap();
    vec![
        ("nothing", String::new(), 401),
        ("nonsense", "a.b.c".into(), 401),
        ("wrong key", sign("h", key("another secret of as many bytes."), &claims()), 401),
        ("expired", with(Claims { exp: 1_700_000_000, ..claims() }), 401),
        ("not yet", with(Claims { nbf: Some(u64::MAX), ..claims() }), 401),
        ("other stream", with(Claims { stream: "live/b".into(), ..claims() }), 403),
        ("to publish", with(Claims { aud: Audience::Publish, ..claims() }), 403),
        ("other address", with(Claims { ip: Some("192.0.2.7".parse().unwrap()), ..claims() }), 403),
        ("alg none", format!("{NONE}.{unsigned}."), 401),
        ("alg none, signed", format!("{NONE}.{rest}"), 401),
        ("RS256", format!("{RS256}.{rest}"), 401),
        ("public key as secret", sign("e", key(&pems().1), &claims()), 401),
        ("other algorithm", sign("h", private, &claims()), 401),
        ("unknown kid", sign("x", key(SECRET), &claims()), 401),
        ("cut", good[..good.len() - 1].to_owned(), 401),
        ("too long", "a".repeat(4_000), 401),
    ]
}

async fn server(origin: &Origin) -> Server {
    Server::guarded(origin, Config::default(), access(), None).await
}

pub(super) const WEBSOCKET: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

#[tokio::test]
async fn another_edge_shows_its_key_instead_of_a_grant() {
    let origin = Origin::default();
    origin.file(MEDIA[0], Response::new("#EXTM3U"));
    let mut config = Config::default();
    config.http.relay_key = Some(Secret::new("between-edges"));
    let server = Server::guarded(&origin, config, access(), None).await;
    for wrong in ["Bearer between-edge", "Bearer ", "between-edges"] {
        let headers = [("authorization", wrong)];
        assert_eq!(server.request(Method::GET, MEDIA[0], &headers).await.status(), 401, "{wrong}");
    }
    let headers = [("authorization", "Bearer between-edges")];
    assert_eq!(server.request(Method::GET, MEDIA[0], &headers).await.status(), 200);
}

#[tokio::test]
async fn the_way_of_a_question_is_for_edges_to_say_which_are_no_viewers() {
    let origin = Origin::default();
    let mut config = Config::default();
    config.http.relay_key = Some(Secret::new("between-edges"));
    let server = Server::with(&origin, config, None).await;
    let key = super::key("a");
    let bearer = ("authorization", "Bearer between-edges");
    let asked = async |headers: &[(&str, &str)]| {
        origin.file(MEDIA[0], Response::new("#EXTM3U"));
        server.request(Method::GET, MEDIA[0], headers).await.status()
    };
    assert_eq!(asked(&[bearer, ("x-weir-via", "a,b,c,d,e")]).await, 508);
    assert_eq!(asked(&[bearer, ("x-weir-via", "a")]).await, 200);
    assert_eq!(server.edge.viewers(&key).hls, 0, "an edge");
    assert_eq!(asked(&[("x-weir-via", "a,b,c,d,e")]).await, 200, "a viewer has no say in it");
    assert_eq!(server.edge.viewers(&key).hls, 1);
}

#[tokio::test]
async fn no_wrong_grant_lets_anybody_in_or_is_asked_about_upstream() {
    let origin = Origin::default();
    let server = server(&origin).await;
    let mut http2 = server.http2().await;
    for path in MEDIA.iter().chain(&["/live/a.flv"]) {
        let response = server.get(path).await;
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(response.headers()["cache-control"], "no-store");
        assert!(text(response).await.contains("a grant is needed"));
    }
    for (what, grant, status) in bad() {
        let bearer = format!("Bearer {grant}");
        let mut headers = vec![("authorization", bearer.as_str())];
        for path in MEDIA.iter().chain(&["/live/a.flv"]) {
            let before = format!("/~{grant}{path}");
            let query = format!("{path}?x=1&token={grant}");
            // Longer heads than the path may be are read, and refused here too.
            for (path, headers) in [(&before, &[][..]), (&query, &[]), (&(*path).to_owned(), &headers)] {
                for method in [Method::GET, Method::HEAD] {
                    let response = server.request(method, path, headers).await;
                    assert_eq!(response.status(), status, "{what}: {path} {headers:?}");
                    assert!(!text(response).await.contains(SECRET));
                }
            }
            let request = Request::get(format!("http://edge{before}")).body(Empty::<Bytes>::new()).unwrap();
            http2.ready().await.unwrap();
            assert_eq!(http2.send_request(request).await.unwrap().status(), status, "{what}: {path}");
        }
        headers = WEBSOCKET.to_vec();
        for path in [format!("/live/a.flv?token={grant}"), format!("/~{grant}/live/a.flv")] {
            let response = server.request(Method::GET, &path, &headers).await;
            assert_eq!(response.status(), status, "{what}: {path} by WebSocket");
        }
        let mut player = rtmp::Player::connect(&server.edge, &format!("a?token={grant}")).await;
        assert_eq!(player.refusal().await, "NetStream.Play.Failed", "{what} by RTMP");
    }
    let mut player = rtmp::Player::connect(&server.edge, "a").await;
    assert_eq!(player.refusal().await, "NetStream.Play.Failed");
    assert!(player.heard("add ?token=").await);
    assert_eq!(origin.requests(), []);
    let refused = |reason: &str| {
        metric(&server, &format!(r#"weir_edge_requests_refused_total{{reason="{reason}"}}"#)).parse::<u64>()
    };
    for reason in
        ["missing", "expired", "stream", "audience", "address", "algorithm", "unknown_key", "signature"]
    {
        assert!(refused(&format!("grant_{reason}")).unwrap() > 0, "{reason}");
    }
}

/// What a grant for `live/a` does not open, however it is spelled.
const TRICKS: [&str; 19] = [
    "/live/a%2f..%2fb/index.m3u8",
    "/live/a/..%2f..%2fb/index.m3u8",
    "/live/a/../b/index.m3u8",
    "/live/../live/b.flv",
    "/live/%2e%2e/b.flv",
    "/live%2fa.flv",
    "/live/a%2fb.flv",
    "/live/a%00.flv",
    "/live/a%00/index.m3u8",
    "/live/a/%00/index.m3u8",
    "/live/a\\..\\b.flv",
    "/live/b.flv",
    "/live/b/v0/media.m3u8",
    "/live/A.flv",
    "//live/a.flv",
    "/live//a.flv",
    "/relay/live/a",
    "/~x/live/a.flv",
    "/api/v1/streams",
];

#[tokio::test]
async fn no_trick_with_the_path_leads_to_another_stream() {
    let origin = Origin::default();
    let server = server(&origin).await;
    let grant = good();
    for path in TRICKS {
        for (path, bearer) in [
            (format!("/~{grant}{path}"), String::new()),
            (format!("{path}?token={grant}"), String::new()),
            (path.to_owned(), format!("Bearer {grant}")),
        ] {
            let response = server.request(Method::GET, &path, &[("authorization", &bearer)]).await;
            let status = response.status();
            assert!(matches!(status.as_u16(), 400 | 401 | 403 | 404), "{path}: {status}");
        }
    }
    for name in ["a%2f..%2fb", "..", "a/../b", "a%00", "b"] {
        let mut player = rtmp::Player::connect(&server.edge, &format!("{name}?token={grant}")).await;
        let code = player.refusal().await;
        assert!(
            ["NetStream.Play.Failed", "NetStream.Play.StreamNotFound"].contains(&code.as_str()),
            "{code}"
        );
    }
    assert_eq!(origin.requests(), []);
}

#[tokio::test]
async fn neither_wrong_grants_nor_tricks_get_any_further_over_tls_and_quic() {
    let origin = Origin::default();
    let secure = Secure::guarded(&origin, Config::default(), access(), None).await;
    let mut http3 = h3::Client::connect(&secure).await;
    let mut asked = 0;
    let mut ask = async |path: &str| {
        let mut statuses = Vec::new();
        for protocol in ["http/1.1", "h2"] {
            statuses.push(secure.request(protocol, path, &[]).await.status().as_u16());
        }
        statuses.push(secure.request("http/1.1", path, &WEBSOCKET).await.status().as_u16());
        statuses.push(http3.get(path).await.0.status().as_u16());
        asked += 1;
        statuses
    };
    for path in MEDIA.iter().chain(&["/live/a.flv"]) {
        assert_eq!(ask(path).await, [401; 4], "{path}");
    }
    for (what, grant, status) in bad() {
        for path in [MEDIA[0], MEDIA[3], "/live/a.flv"] {
            for path in [format!("/~{grant}{path}"), format!("{path}?token={grant}")] {
                assert_eq!(ask(&path).await, [status; 4], "{what}: {path}");
            }
        }
    }
    let grant = good();
    // No URL has a backslash, says the client.
    for path in TRICKS.iter().filter(|path| !path.contains('\\')) {
        for path in [format!("/~{grant}{path}"), format!("{path}?token={grant}")] {
            let statuses = ask(&path).await;
            let refused = |status: &u16| matches!(status, 400 | 401 | 403 | 404);
            assert!(statuses.iter().all(refused), "{path}: {statuses:?}");
        }
    }
    assert!(asked > 100);
    assert_eq!(origin.requests(), []);
}

#[tokio::test]
async fn a_grant_opens_every_file_of_its_stream_and_goes_no_further() {
    let origin = Origin::default();
    for path in MEDIA {
        origin.file(path, Response::new(path));
    }
    let server = server(&origin).await;
    let grant = good();
    for path in MEDIA {
        let response = server.get(&format!("/~{grant}{path}")).await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(text(response).await, path);
    }
    // What is asked for by query is where its children inherit the grant.
    let response = server.get(&format!("/live/a/index.m3u8?x=1&token={grant}")).await;
    assert_eq!(response.status(), 307);
    assert_eq!(response.headers()["location"], format!("/~{grant}/live/a/index.m3u8?x=1").as_str());
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let asked: Vec<_> = origin.requests().into_iter().map(|(path, _)| path).collect();
    assert_eq!(asked, MEDIA);
}

#[tokio::test]
async fn viewers_with_grants_watch_by_every_protocol_from_one_pull() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = server(&origin).await;
    relay.send(opening(&Studio::new().picture(true, 100))).await;
    let private = Key::new(Algorithm::EdDsa, &pems().0).unwrap();
    for grant in [good(), sign("e", private, &claims())] {
        let bearer = format!("bearer {grant}");
        for (path, header) in [
            (format!("/live/a.flv?token={grant}"), ""),
            (format!("/~{grant}/live/a.flv?latency=frame"), ""),
            ("/live/a.flv".to_owned(), bearer.as_str()),
        ] {
            let response = server.request(Method::GET, &path, &[("authorization", header)]).await;
            assert_eq!(Player::new(response).number().await, Some(0));
        }
        let path = format!("/live/a.flv?token={grant}");
        let response = server.request(Method::GET, &path, &WEBSOCKET).await;
        assert_eq!(response.status(), 101);
        let request = Request::get(format!("http://edge{path}")).body(Empty::<Bytes>::new()).unwrap();
        let mut response = server.http2().await.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(response.body_mut().frame().await.unwrap().is_ok());
        let mut player = rtmp::Player::connect(&server.edge, &format!("a?token={grant}")).await;
        assert_eq!(player.number().await, 0);
    }
    assert_eq!(origin.requests(), [("/relay/live/a".to_owned(), None)]);
    // What is not required is not looked at.
    server.edge.reload(&Config::default(), Play::Open);
    assert_eq!(Player::new(server.get("/~nonsense/live/a.flv").await).number().await, Some(0));
}
