//! Viewers that ask for what is not there, for what is no name, or that never read what they asked for.

use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::support::clip::Clip;
use crate::support::flv::{self, VIDEO, Viewer};
use crate::support::innocent::{Innocent, garbage, throw};
use crate::support::memory::assert_costs_less_than_1_mb;
use crate::support::process::Process;
use crate::support::rtmp::Client;
use crate::support::turn::{self, Load};
use crate::support::weir::Weir;
use crate::support::{until, within};

/// How many streams that are not there are asked for.
const ABSENT: usize = 10_000;

#[tokio::test]
async fn absent_streams_by_the_ten_thousand() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    let innocent = Innocent::start(&weir).await;
    let mut round = 0;
    assert_costs_less_than_1_mb(&weir, || {
        round += 1;
        let client = reqwest::Client::new();
        let weir = &weir;
        async move {
            for n in 0..ABSENT {
                let path = match n % 3 {
                    0 => format!("/live/absent-{round}-{n}.flv"),
                    1 => format!("/live/absent-{round}-{n}/index.m3u8"),
                    _ => format!("/app-{round}-{n}/x/main/media.m3u8?_HLS_msn=3"),
                };
                let status = within("an answer", client.get(weir.url(&path)).send()).await.unwrap().status();
                assert_eq!(status, 404, "{path}");
            }
        }
    })
    .await;
    innocent.assert_undisturbed().await;
    let metrics = weir.admin("/metrics").await.text();
    assert!(!metrics.contains("absent-"), "a name in a label");
}

#[tokio::test]
async fn an_absent_stream_that_comes_is_soon_found() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    assert_eq!(weir.get("/live/innocent.flv").await.status, 404);
    assert_eq!(weir.get("/live/innocent/index.m3u8").await.status, 404);
    let _innocent =
        crate::support::rtmp::Publication::start(weir.rtmp, "live/innocent", &Clip::small().await).await;
    until("the stream", async || {
        let response = reqwest::get(weir.url("/live/innocent.flv")).await.unwrap();
        (response.status() == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_absent_stream_by_rtmp_is_told() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let mut client = Client::open(weir.rtmp, "live").await.unwrap();
    let status = client.play("absent").await.expect("an onStatus");
    assert!(status.says("NetStream.Play.StreamNotFound"), "{}", String::from_utf8_lossy(&status.body));
}

#[tokio::test]
async fn paths_that_name_no_stream() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let innocent = Innocent::start(&weir).await;
    let long = "a".repeat(8192);
    let paths = [
        "/live/../live/innocent.flv",
        "/../../etc/passwd",
        "/live/..%2finnocent.flv",
        "/live%2finnocent.flv",
        "/live/%2e%2e/innocent.flv",
        "/live/innocent%00.flv",
        "/live/inno\0cent.flv",
        "/live/%ff%fe.flv",
        "/live/%zz.flv",
        "/live/innocent/../../../etc/passwd",
        "/live/innocent/..%2f..%2finit-1.mp4",
        "/live/innocent/main/init-99999999999999999999.mp4",
        "/live/innocent/main/1-18446744073709551616.m4s",
        "/live/innocent/nowhere/media.m3u8",
        &format!("/live/{long}.flv"),
        &format!("/{long}/{long}/index.m3u8"),
    ];
    assert_costs_less_than_1_mb(&weir, || async {
        for path in paths {
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            let answer = throw(weir.http, request.as_bytes()).await;
            let status = answer.get(9..12).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            assert!(["400", "404", "414", "431"].contains(&status.as_str()), "{path:.60}: {status}");
        }
    })
    .await;
    innocent.assert_undisturbed().await;
}

#[tokio::test]
async fn garbage_instead_of_http() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let innocent = Innocent::start(&weir).await;
    assert_costs_less_than_1_mb(&weir, || async {
        for seed in 1..=50 {
            throw(weir.http, &garbage(seed, 5000)).await;
        }
        let mut endless = b"GET / HTTP/1.1\r\n".to_vec();
        for n in 0..20_000 {
            endless.extend(format!("x-{n}: y\r\n").bytes());
        }
        throw(weir.http, &endless).await;
    })
    .await;
    innocent.assert_undisturbed().await;
}

/// slowhttptest's attacks: what each asks for, and how.
const SLOW: [(&str, &str, &[&str]); 4] = [
    ("slow headers", "/live/innocent.flv", &["-H", "-i", "1"]),
    ("slow bodies", "/api/v1/streams", &["-B", "-i", "1", "-s", "8192"]),
    (
        "slow reading of a stream",
        "/live/innocent.flv",
        &["-X", "-w", "512", "-y", "1024", "-n", "2", "-z", "32"],
    ),
    ("slow reading of a page", "/", &["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "3"]),
];

/// Connections of an attack.
const SLOW_CONNECTIONS: u32 = 200;

#[tokio::test]
async fn slow_attackers_cost_honest_viewers_no_picture_and_are_hung_up_on() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::configured("[edge.http]\nheader_timeout_ms = 3000\nbody_timeout_ms = 3000\n").await;
    let innocent = Innocent::start(&weir).await;
    for (name, path, how) in SLOW {
        let opened = || weir.metric("weir_edge_protocol_connections_total{protocol=\"h1\"}");
        let before = opened().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut attack = tokio::process::Command::new("slowhttptest");
        attack.current_dir(folder.path()).args([
            "-c",
            &SLOW_CONNECTIONS.to_string(),
            "-r",
            "1000",
            "-l",
            "80",
        ]);
        attack.args(["-p", "3", "-u", &weir.url(path)]).args(how);
        let attack = Process::spawn(name, attack);
        until(name, async || (opened().await? >= before + f64::from(SLOW_CONNECTIONS)).then_some(())).await;
        innocent.assert_undisturbed().await;
        // Whoever comes is served.
        let mut newcomer = Viewer::open(&weir.url("/live/innocent.flv")).await;
        newcomer.next_frame(VIDEO).await;
        weir.until_hls("live/innocent").await;
        assert_eq!(weir.get("/live/innocent/index.m3u8").await.status, 200);
        if !name.contains("reading") {
            until("the attackers to be hung up on", async || {
                let left = weir.metric("weir_edge_connections").await?;
                (left < f64::from(SLOW_CONNECTIONS) / 10.0).then_some(())
            })
            .await;
        }
        innocent.assert_undisturbed().await;
        drop(attack);
    }
    assert!(weir.stop().await.0.success());
}

/// Bytes of each picture that is published: what a viewer who does not read lets pile up soon.
const PICTURE_BYTES: usize = 150_000;

#[tokio::test]
async fn a_viewer_that_never_reads_is_dropped_and_counted() {
    let _turn = turn::take(Load::Encoder).await;
    let config = "[edge.fanout]\nring_bytes = 4194304\n[edge.http]\nwrite_stall_ms = 3000\n";
    let weir = Weir::configured(config).await;
    let innocent = Innocent::start(&weir).await;
    let clip = Clip::small().await;
    let mut publisher = Client::publisher(weir.rtmp, "live/a").await;
    for tag in &clip.configurations {
        publisher.sender.tag(tag).await.unwrap();
    }
    let publish = async {
        let start = tokio::time::Instant::now();
        for mut tag in clip.forever() {
            tokio::time::sleep_until(start + Duration::from_millis(tag.timestamp.into())).await;
            if tag.kind == VIDEO {
                tag = tag.blown_up(PICTURE_BYTES);
            }
            publisher.sender.tag(&tag).await.unwrap();
        }
    };
    let watch = async {
        weir.until_live("live/a", 2).await;
        let mut good = Viewer::open(&weir.url("/live/a.flv")).await;
        let mut bad = flv::never_reads(weir.http, "/live/a.flv").await;
        let viewers = |info: &serde_json::Value| info["viewers"]["flv"].as_u64();
        weir.until_stream("live/a", "with two viewers", |info| viewers(info) == Some(2)).await;
        // The good viewer reads on and misses nothing, until the bad one is gone and after.
        let gone = weir.until_stream("live/a", "with one viewer", |info| viewers(info) == Some(1));
        let mut gone = std::pin::pin!(gone);
        let mut last = good.next_frame(VIDEO).await;
        loop {
            tokio::select! {
                _ = &mut gone => break,
                next = good.next_frame(VIDEO) => {
                    assert_eq!(next.timestamp, last.timestamp + 40, "the good viewer misses a picture");
                    last = next;
                }
            }
        }
        // What was sent before is still in the socket; then comes the end.
        let mut rest = Vec::new();
        let _ = within("the end", bad.read_to_end(&mut rest)).await;
        let dropped = weir.metric(r#"weir_edge_viewer_drops_total{reason="stalled"}"#).await;
        assert_eq!(dropped, Some(1.0), "{}", weir.admin("/metrics").await.text());
        last
    };
    tokio::select! {
        () = publish => unreachable!("the clip goes on for ever"),
        _ = within("the slow viewer's end", watch) => {}
    }
    innocent.assert_undisturbed().await;
}
