//! MPEG-TS over HTTP: the same rules as for FLV, another body.

use bytes::Bytes;
use http::Method;
use http_body_util::BodyExt;
use media_core::mpegts::{Demuxed, Demuxer};

use super::client::{Server, text};
use super::origin::Origin;
use super::studio::{opening, sample};
use super::{key, until};

/// The next bytes of a body, which are none when it ends.
async fn piece<B: hyper::body::Body<Data = Bytes> + Unpin>(body: &mut B) -> Bytes
where
    B::Error: std::fmt::Debug,
{
    body.frame().await.map(|piece| piece.unwrap().into_data().unwrap_or_default()).unwrap_or_default()
}

/// Reads a body, of which this was read before, until it ends, and counts its frames.
async fn frames<B: hyper::body::Body<Data = Bytes> + Unpin>(begun: Bytes, mut body: B) -> usize
where
    B::Error: std::fmt::Debug,
{
    let (mut demuxer, mut frames, mut bytes) = (Demuxer::new(), 0, 0);
    let mut next = begun;
    while !next.is_empty() {
        let piece = std::mem::take(&mut next);
        bytes += piece.len();
        demuxer.push(&piece);
        while let Some(event) = demuxer.next_event() {
            frames += usize::from(matches!(event, Demuxed::Frame(_)));
        }
        next = self::piece(&mut body).await;
    }
    assert_eq!(bytes % 188, 0);
    assert_eq!(demuxer.counters(), media_core::mpegts::Counters::default());
    frames
}

#[tokio::test]
async fn http_1_and_2_viewers_get_all_frames_and_are_counted() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let media = sample();
    let (first, rest) = media.split_first().unwrap();
    relay.send(opening(first)).await;
    let response = server.get("/live/a.ts?token=x").await;
    let headers = response.headers();
    assert_eq!(headers["content-type"], "video/mp2t");
    assert_eq!(headers["cache-control"], "no-store");
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert!(!headers.contains_key("content-length"));
    let mut client = server.http2().await;
    let request = http::Request::get("http://edge/live/a.ts").body(http_body_util::Empty::new()).unwrap();
    let second = client.send_request(request).await.unwrap();
    assert_eq!(second.headers()["content-type"], "video/mp2t");
    until(|| server.edge.viewers(&key("a")).ts == 2).await;
    // Who is counted may not have begun yet, and would begin at the second keyframe if that came first.
    let (mut first, mut second) = (response.into_body(), second.into_body());
    let begun = (piece(&mut first).await, piece(&mut second).await);
    for encoded in rest {
        relay.send(encoded.bytes.clone()).await;
    }
    drop(relay);
    let counted = tokio::join!(frames(begun.0, first), frames(begun.1, second));
    assert_eq!(counted, (media.len(), media.len()));
    until(|| server.edge.viewers(&key("a")).ts == 0).await;
}

#[tokio::test]
async fn head_is_answered_like_get_and_ends() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    relay.send(opening(&sample()[0])).await;
    let response = server.request(Method::HEAD, "/live/a.ts", &[]).await;
    assert_eq!(
        (response.status().as_u16(), &response.headers()["content-type"] == "video/mp2t"),
        (200, true)
    );
    assert_eq!(text(response).await, "");
    until(|| server.edge.viewers(&key("a")).ts == 0).await;
    assert_eq!(server.request(Method::HEAD, "/live/b.ts", &[]).await.status(), 404);
    assert_eq!(server.get("/live/a.ts?latency=none").await.status(), 400);
    assert_eq!(server.request(Method::POST, "/live/a.ts", &[]).await.status(), 405);
}
