//! The HTTP API as a client meets it: what is live, totals, ending a stream, with and without the token.

use serde_json::Value;

use crate::support::clip::Clip;
use crate::support::flv::{VIDEO, Viewer};
use crate::support::rtmp::Publication;
use crate::support::turn::{self, Load};
use crate::support::until;
use crate::support::weir::{Answer, Weir, send};

async fn kick(weir: &Weir, stream: &str, token: Option<&str>) -> Answer {
    let request = reqwest::Client::new().delete(weir.url(&format!("/api/v1/streams/{stream}")));
    send(match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    })
    .await
}

#[tokio::test]
async fn streams_are_listed_with_what_is_known_of_them() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let empty = weir.get("/api/v1/streams").await;
    assert_eq!(empty.headers["content-type"], "application/json");
    assert_eq!(empty.json()["streams"], Value::Array(Vec::new()));

    let clip = Clip::small().await;
    let _a = Publication::start(weir.rtmp, "live/a", &clip).await;
    let _b = Publication::start(weir.rtmp, "show/b", &clip).await;
    weir.until_live("live/a", 2).await;
    weir.until_live("show/b", 2).await;
    let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
    viewer.next_frame(VIDEO).await;

    let list = weir.get("/api/v1/streams").await.json();
    let names: Vec<&Value> = list["streams"].as_array().unwrap().iter().map(|s| &s["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(weir.get("/api/v1/streams?app=show").await.json()["total"], 1);

    let info = weir
        .until_stream("live/a", "measured", |info| {
            info["bitrate_bps"].as_u64() > Some(0)
                && info["viewers"]["flv"] == 1
                && info["keyframe_interval_ms"] == 1000
        })
        .await;
    assert_eq!(info["app"], "live");
    assert_eq!(info["publisher"]["protocol"], "rtmp");
    assert!(info["publisher"]["remote_addr"].is_null(), "an address for everybody to see");
    let tracks = &info["tracks"];
    assert_eq!(
        (&tracks[0]["codec"], &tracks[0]["width"], &tracks[0]["height"]),
        (&"H.264".into(), &160.into(), &90.into())
    );
    assert!(tracks[0]["rfc6381"].as_str().unwrap().starts_with("avc1."), "{tracks}");
    assert_eq!((&tracks[1]["codec"], &tracks[1]["sample_rate"]), (&"AAC".into(), &48_000.into()));
    assert_eq!(tracks[1]["rfc6381"], "mp4a.40.2");
    until("25 pictures a second", async || {
        let rate = weir.stream("live/a").await?["frame_rate"].as_f64()?;
        (24.0..26.0).contains(&rate).then_some(())
    })
    .await;

    let request = reqwest::Client::new().get(weir.url("/api/v1/streams/live/a")).bearer_auth(weir.token());
    let told = send(request).await.json();
    assert!(told["publisher"]["remote_addr"].as_str().unwrap().starts_with("127.0.0.1"), "{told}");

    let stats = weir.get("/api/v1/stats").await.json();
    assert_eq!(
        (&stats["streams"], &stats["publishers"], &stats["viewers"]["flv"]),
        (&2.into(), &2.into(), &1.into())
    );
}

#[tokio::test]
async fn only_the_operator_ends_a_stream() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let publication = Publication::start(weir.rtmp, "live/a", &Clip::small().await).await;
    weir.until_live("live/a", 2).await;
    let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
    viewer.next_frame(VIDEO).await;

    let wrong = "0".repeat(64);
    for token in [None, Some(""), Some("wrong"), Some(wrong.as_str())] {
        let answer = kick(&weir, "live/a", token).await;
        assert_eq!(answer.status, 401, "{token:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    viewer.next_frame(VIDEO).await;
    assert!(!publication.has_ended());

    let token = weir.token();
    assert_eq!(kick(&weir, "live/absent", Some(&token)).await.status, 404);
    assert_eq!(kick(&weir, "live/a", Some(&token)).await.status, 204);
    while viewer.next().await.is_some() {}
    until("the publisher's end", async || publication.has_ended().then_some(())).await;
    weir.until_gone("live/a").await;
    // The name is free again.
    let _again = Publication::start(weir.rtmp, "live/a", &Clip::small().await).await;
    weir.until_live("live/a", 2).await;
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_a_problem_document() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    for (path, status) in [
        ("/api/v1/streams/live/absent", 404),
        ("/api/v1/nothing", 404),
        ("/api/v1/streams?limit=x", 400),
        ("/api/v1/streams?colour=red", 400),
    ] {
        let answer = weir.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}");
        assert_eq!(answer.json()["status"], status, "{path}");
    }
    let answer = send(reqwest::Client::new().post(weir.url("/api/v1/streams"))).await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn the_openapi_document_names_every_path() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let document = weir.get("/api/v1/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{}", document["openapi"]);
    for (path, method) in [
        ("/api/v1/streams", "get"),
        ("/api/v1/streams/{app}/{name}", "get"),
        ("/api/v1/streams/{app}/{name}", "delete"),
        ("/api/v1/stats", "get"),
    ] {
        assert!(document["paths"][path][method].is_object(), "{method} {path}");
    }
}
