//! Who may watch and who may publish, where grants are required: from outside, with grants that the binary signed.

use serde_json::Value;

use crate::support::browser::Page;
use crate::support::clip::Clip;
use crate::support::flv::{VIDEO, Viewer};
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::weir::{self, Weir};
use crate::support::{until, within};

/// What the binary prints.
async fn grant(weir: &Weir, args: &[&str]) -> String {
    let mut command = weir::command(&weir.dir);
    command.arg("grant").args(args);
    let output = within("weir grant", command.output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Replaces the configuration and lets it be read.
async fn configure(weir: &Weir, config: &str) {
    let mark = weir.process.mark();
    std::fs::write(weir.dir.path().join("weir.toml"), config).unwrap();
    weir.process.signal("HUP").await;
    weir.process.line_after(mark, "configuration read again").await;
}

/// What an RTMP player is told.
async fn play(weir: &Weir, name: &str) -> Vec<u8> {
    let mut client = Client::open(weir.rtmp, "live").await.unwrap();
    client.play(name).await.expect("play is answered").body
}

fn says(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn the_watch_page_hands_its_grant_on_and_to_nobody_else() {
    let _turn = turn::take(Load::Encoder).await;
    let weir = Weir::start().await;
    let key = grant(&weir, &["keygen", "--kid", "k"]).await;
    let config = "[edge.access_log]\npath = \"access.jsonl\"\n[log]\nlevel = \"debug\"\n[grants]\nplay = \"required\"\n";
    std::fs::write(weir.dir.path().join("weir.toml"), format!("{config}{key}\n")).unwrap();
    let weir = weir.kill_and_restart().await;
    let _publication = Publication::start(weir.rtmp, "live/a", &Clip::small().await).await;
    weir.until_hls("live/a").await;
    let to_play = grant(&weir, &["sign", "--play", "live/a", "--for", "1h"]).await;
    let mut without = Page::open(&weir.url("/watch/live/a?via=flv"));
    without.until("an error", |report| report.number("fatal_errors") > 0.0).await;
    drop(without);
    for via in ["hls", "flv", "ws"] {
        let mut page = Page::open(&weir.url(&format!("/watch/live/a?via={via}&token={to_play}")));
        let report = page.until(via, |report| report.number("total_frames") > 25.0).await;
        assert_eq!(report.number("fatal_errors"), 0.0, "{via}: {report:?}");
    }
    let page = weir.get(&format!("/watch/live/a?token={to_play}")).await;
    assert_eq!(page.headers["referrer-policy"], "no-referrer");
    let Weir { process, dir, .. } = weir;
    process.signal("TERM").await;
    let (status, log) = process.finish().await;
    assert!(status.success(), "{log}");
    let access = std::fs::read_to_string(dir.path().join("access.jsonl")).unwrap();
    assert!(access.contains("/watch/live/a") && access.contains("\"kind\":\"websocket\""), "{access}");
    assert!(!access.contains(&to_play) && !log.contains(&to_play), "the grant is in a log");
}

#[tokio::test]
async fn only_grants_open_a_stream_by_every_protocol() {
    const REQUIRED: &str = "[grants]\nplay = \"required\"\n[origin.auth]\nmode = \"keys\"\n\
                            [edge.access_log]\npath = \"access.jsonl\"\n";
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::configured("[edge.access_log]\npath = \"access.jsonl\"\n").await;
    let old = grant(&weir, &["keygen", "--kid", "old"]).await;
    configure(&weir, &format!("{REQUIRED}{old}\n")).await;

    // Publishing.
    let mut nobody = Client::open(weir.rtmp, "live").await.unwrap();
    assert!(nobody.publish("a").await.expect("an answer").says("NetStream.Publish.Denied"));
    let to_play = grant(&weir, &["sign", "--play", "live/*", "--for", "1h", "--session", "s-1"]).await;
    let mut viewer = Client::open(weir.rtmp, "live").await.unwrap();
    let answer = viewer.publish(&format!("a?token={to_play}")).await.expect("an answer");
    assert!(answer.says("NetStream.Publish.Denied"));
    let to_publish = grant(&weir, &["sign", "--publish", "live/a", "--for", "1h"]).await;
    let mut client = Client::open(weir.rtmp, "live").await.unwrap();
    let answer = client.publish(&format!("a?token={to_publish}")).await.expect("an answer");
    assert!(answer.says("NetStream.Publish.Start"));
    let _publication = Publication::send(client, &Clip::small().await).await;
    weir.until_hls("live/a").await;

    // Nobody without a grant, and nothing is asked for it upstream.
    let elsewhere = grant(&weir, &["sign", "--play", "live/b", "--for", "1h"]).await;
    for (shown, status) in [("x", 401), (&to_publish[..], 403), (&elsewhere[..], 403)] {
        for path in ["/live/a.flv", "/live/a/index.m3u8", "/live/a/main/media.m3u8"] {
            assert_eq!(weir.get(path).await.status, 401, "{path}");
            assert_eq!(weir.get(&format!("/~{shown}{path}")).await.status, status, "{path}");
            assert_eq!(weir.get(&format!("{path}?token={shown}")).await.status, status, "{path}");
        }
        assert!(says(&play(&weir, &format!("a?token={shown}")).await, "NetStream.Play.Failed"));
    }
    assert!(says(&play(&weir, "a").await, "add ?token="));
    for kind in ["relay", "playlist", "blocking", "init", "segment", "part"] {
        let asked = weir.metric(&format!("weir_edge_upstream_requests_total{{kind=\"{kind}\"}}")).await;
        assert_eq!(asked, Some(0.0), "{kind}");
    }

    // With one: FLV, RTMP, and HLS down to a part.
    let mut flv = Viewer::open(&weir.url(&format!("/live/a.flv?token={to_play}"))).await;
    flv.next_frame(VIDEO).await;
    assert!(says(&play(&weir, &format!("a?token={to_play}")).await, "NetStream.Play"));
    let url = weir.url("/live/a/index.m3u8");
    let url = grant(&weir, &["sign", "--play", "live/a", "--for", "1h", "--url", &url]).await;
    let mut base = reqwest::Url::parse(&url).unwrap();
    let mut playlist = weir::get(base.as_str()).await;
    // From the multivariant playlist to a media playlist to a segment or part, each named by the one before.
    for depth in 0..2 {
        assert_eq!(playlist.status, 200, "{base}");
        let text = playlist.text();
        assert!(text.starts_with("#EXTM3U"), "{text}");
        let next = text.lines().rfind(|line| !line.starts_with('#') && !line.is_empty()).unwrap();
        base = base.join(next).unwrap();
        assert!(base.path().starts_with("/~"), "{base}");
        playlist = weir::get(base.as_str()).await;
        assert!(depth == 0 || !playlist.body.is_empty());
    }
    assert_eq!(playlist.status, 200, "{base}");
    // A player that was given the grant in the query is sent where what playlists name inherits it.
    let answer = weir.get(&format!("/live/a/index.m3u8?token={to_play}")).await;
    assert!(answer.status == 200 && answer.text().starts_with("#EXTM3U"));

    // A new key beside the old one, and then without it.
    let new = grant(&weir, &["keygen", "--kid", "new", "--algorithm", "EdDSA"]).await;
    let (public, private) = new.split_once("# For `weir grant sign`").unwrap();
    configure(&weir, &format!("{REQUIRED}{old}\n{public}\n")).await;
    std::fs::write(weir.dir.path().join("signer.toml"), format!("#{private}\n")).unwrap();
    let newer = grant(&weir, &["sign", "--play", "live/a", "--for", "1m", "--config", "signer.toml"]).await;
    for shown in [&to_play, &newer] {
        assert_eq!(weir.get(&format!("/~{shown}/live/a/index.m3u8")).await.status, 200);
    }
    configure(&weir, &format!("{REQUIRED}{public}\n")).await;
    assert_eq!(weir.get(&format!("/~{to_play}/live/a/index.m3u8")).await.status, 401);
    assert_eq!(weir.get(&format!("/~{newer}/live/a/index.m3u8")).await.status, 200);
    // Who watches already goes on.
    flv.next_frame(VIDEO).await;

    // Grants and keys are in no log. Each viewer is in the access log, also those that the end cut off.
    drop(flv);
    let access = weir.dir.path().join("access.jsonl");
    let lines = || {
        let text = std::fs::read_to_string(&access).unwrap();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let line = until("the viewer's line", async || {
        lines().into_iter().find(|line| line["kind"] == "flv" && line["status"] == 200)
    })
    .await;
    assert_eq!((&line["session"], &line["stream"]), (&"s-1".into(), &"live/a".into()));
    assert!(line["bytes"].as_u64().unwrap() > 1_000, "{line}");
    let secret = old.split("secret = \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let Weir { process, dir, .. } = weir;
    process.signal("TERM").await;
    let (status, log) = process.finish().await;
    assert!(status.success(), "{log}");
    let access = std::fs::read_to_string(dir.path().join("access.jsonl")).unwrap();
    for hidden in [&secret, &to_play, &to_publish, &newer, &elsewhere] {
        assert!(!log.contains(hidden.as_str()) && !access.contains(hidden.as_str()));
    }
}
