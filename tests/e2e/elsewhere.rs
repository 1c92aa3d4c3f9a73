//! What pages of other origins and the caches in between rely on: CORS, OPTIONS, HEAD, gzip.

use reqwest::Method;
use reqwest::header::HeaderMap;

use crate::support::clip::Clip;
use crate::support::rtmp::Publication;
use crate::support::turn::{self, Load};
use crate::support::weir::{Answer, Weir, send};

const FLV: &str = "/live/a.flv";
const MULTIVARIANT: &str = "/live/a/index.m3u8";
const PLAYLIST: &str = "/live/a/main/media.m3u8";

async fn ask(weir: &Weir, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = reqwest::Client::new().request(method, weir.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request).await
}

/// A stream that can be watched, and the path of a segment of it.
async fn on_air(weir: &Weir) -> (Publication, String) {
    let publication = Publication::start(weir.rtmp, "live/a", &Clip::small().await).await;
    weir.until_hls("live/a").await;
    // Answered once a whole segment is there.
    let playlist = weir.get(&format!("{PLAYLIST}?_HLS_msn=1")).await.text();
    let segment = playlist.lines().find(|line| line.ends_with(".m4s")).expect("a segment").to_owned();
    (publication, format!("/live/a/main/{segment}"))
}

fn field<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn pages_of_other_origins_may_watch() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let (_publication, segment) = on_air(&weir).await;
    let origin = ("origin", "https://example.org");
    let absent = "/live/absent/index.m3u8";
    for path in [FLV, MULTIVARIANT, PLAYLIST, &segment, absent] {
        let preflight =
            [origin, ("access-control-request-method", "GET"), ("access-control-request-headers", "range")];
        let answer = ask(&weir, Method::OPTIONS, path, &preflight).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{path}");
        assert_eq!(field(&answer.headers, "access-control-allow-origin"), "*", "{path}");
        let list = |name| field(&answer.headers, name).to_lowercase();
        assert!(list("access-control-allow-methods").contains("get"), "{path}");
        assert!(list("access-control-allow-headers").contains("range"), "{path}");
        assert!(list("access-control-max-age").parse::<u32>().unwrap() > 0, "{path}");
        assert_eq!(list("allow"), "get, head, options", "{path}");

        // HEAD, as the stream itself has no end.
        let method = if path == FLV { Method::HEAD } else { Method::GET };
        let answer = ask(&weir, method, path, &[origin]).await;
        assert_eq!(answer.status, if path == absent { 404 } else { 200 }, "{path}");
        assert_eq!(field(&answer.headers, "access-control-allow-origin"), "*", "{path}");
        assert!(!answer.headers.contains_key("set-cookie"), "{path}");

        let answer = ask(&weir, Method::POST, path, &[origin]).await;
        assert_eq!(answer.status, 405, "{path}");
        assert_eq!(field(&answer.headers, "allow"), "GET, HEAD, OPTIONS", "{path}");
        assert_eq!(field(&answer.headers, "access-control-allow-origin"), "*", "{path}");
    }
    // The API's state is changed by its own pages and by programs alone.
    let preflight = [origin, ("access-control-request-method", "DELETE")];
    let answer = ask(&weir, Method::OPTIONS, "/api/v1/streams/live/a", &preflight).await;
    assert!(!field(&answer.headers, "access-control-allow-methods").contains("DELETE"), "{answer:?}");
}

#[tokio::test]
async fn head_says_what_get_would() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let (_publication, segment) = on_air(&weir).await;
    for path in [MULTIVARIANT, PLAYLIST, &segment] {
        let get = ask(&weir, Method::GET, path, &[]).await;
        let head = ask(&weir, Method::HEAD, path, &[]).await;
        assert_eq!((get.status, head.status, head.body.len()), (200, 200, 0), "{path}");
        for name in ["content-type", "cache-control", "vary", "content-encoding"] {
            assert_eq!(field(&get.headers, name), field(&head.headers, name), "{path}: {name}");
        }
        let length = |answer: &Answer| field(&answer.headers, "content-length").parse::<usize>().unwrap();
        assert_eq!(length(&get), get.body.len(), "{path}");
        // Playlists change.
        assert!(length(&head) > 0 && (path != segment || length(&head) == length(&get)), "{path}");
    }
    let head = ask(&weir, Method::HEAD, FLV, &[]).await;
    assert_eq!((head.status, field(&head.headers, "content-type")), (200, "video/x-flv"));
    assert_eq!(field(&head.headers, "cache-control"), "no-store");
    weir.until_stream("live/a", "watched by nobody", |info| info["viewers"]["flv"] == 0).await;
    assert_eq!(ask(&weir, Method::HEAD, "/live/absent.flv", &[]).await.status, 404);
}

#[tokio::test]
async fn playlists_are_compressed_for_those_who_accept_it() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let (_publication, segment) = on_air(&weir).await;
    for (accepted, compressed) in
        [("gzip", true), ("br, gzip;q=0.5", true), ("*", true), ("gzip;q=0", false), ("*, gzip;q=0", false)]
    {
        for path in [MULTIVARIANT, PLAYLIST] {
            let answer = ask(&weir, Method::GET, path, &[("accept-encoding", accepted)]).await;
            assert_eq!(answer.status, 200);
            assert_eq!(
                field(&answer.headers, "content-encoding") == "gzip",
                compressed,
                "{path}: {accepted}"
            );
            assert_eq!(field(&answer.headers, "vary").to_lowercase(), "accept-encoding", "{path}");
            let text = if compressed { gunzip(&answer.body) } else { answer.text() };
            assert!(text.starts_with("#EXTM3U\n"), "{path}: {text}");
        }
        let answer = ask(&weir, Method::GET, &segment, &[("accept-encoding", accepted)]).await;
        assert_eq!((answer.status, field(&answer.headers, "content-encoding")), (200, ""));
    }
}

fn gunzip(bytes: &[u8]) -> String {
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(bytes), &mut text).unwrap();
    text
}
