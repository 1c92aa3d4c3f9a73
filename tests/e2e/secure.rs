//! HTTPS, HTTP/2 and HTTP/3: the same bytes whatever they are asked for by, browsers that play by them, and a certificate
//! that is replaced while people watch.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::support::browser::Page;
use crate::support::certificate::pair;
use crate::support::clip::Clip;
use crate::support::flv::{VIDEO, Viewer};
use crate::support::process::Process;
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::versions::{ALL, By, client, fetch, port};
use crate::support::weir::Weir;
use crate::support::{until, within};

#[tokio::test]
async fn flv_is_the_same_to_the_last_byte_over_every_version() {
    let _turn = turn::take(Load::Light).await;
    let clip = Clip::small().await;
    let weir = Weir::with("[origin.streams]\ngrace_ms = 100\n", &["--https", "127.0.0.1:0"]).await;
    let mut publisher = Client::publisher(weir.rtmp, "live/a").await;
    let media = clip.frames.iter().filter(|tag| tag.timestamp < 1000);
    for tag in clip.configurations.iter().chain(media.clone().take(1)) {
        publisher.sender.tag(tag).await.unwrap();
    }
    weir.until_live("live/a", 2).await;
    let mut viewers = Vec::new();
    for by in ALL {
        let mut command = client(&weir, by, "/live/a.flv");
        viewers.push((by, tokio::spawn(async move { command.output().await.unwrap() })));
    }
    until("four viewers", async || {
        let watching = weir.stream("live/a").await?["viewers"]["flv"] == 4;
        watching.then_some(())
    })
    .await;
    for tag in media.skip(1) {
        publisher.sender.tag(tag).await.unwrap();
    }
    drop(publisher);
    let mut bodies = Vec::new();
    for (by, viewer) in viewers {
        let output = within(&format!("the end by {by:?}"), viewer).await.unwrap();
        assert!(output.status.success(), "{by:?}: {}", String::from_utf8_lossy(&output.stderr));
        bodies.push(output.stdout);
    }
    assert!(bodies[0].len() > 5_000, "{}", bodies[0].len());
    for (by, body) in ALL.iter().zip(&bodies) {
        assert!(*body == bodies[0], "{by:?}: {} of {} bytes", body.len(), bodies[0].len());
    }
    for (protocol, least) in [("h1", 2.0), ("h2", 1.0), ("h3", 1.0)] {
        let sample = format!("weir_edge_protocol_connections_total{{protocol=\"{protocol}\"}}");
        assert!(weir.metric(&sample).await.unwrap() >= least, "{protocol}");
    }
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn hls_is_the_same_over_every_version_and_names_http3() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::with("", &["--https", "127.0.0.1:0"]).await;
    let _publication = Publication::start(weir.rtmp, "live/a", &Clip::small().await).await;
    weir.until_hls("live/a").await;
    let playlist = weir.get("/live/a/main/media.m3u8?_HLS_msn=1").await.text();
    let names: Vec<&str> = playlist.lines().filter(|line| line.ends_with(".m4s")).collect();
    let init = playlist.split('"').find(|part| part.starts_with("init-")).expect("an init segment");
    assert!(!names.is_empty());
    for name in names.iter().chain([&init]) {
        let path = format!("/live/a/main/{name}");
        let expected = weir.get(&path).await.body;
        for by in ALL {
            assert!(fetch(&weir, by, &path).await == expected, "{path} by {by:?}");
        }
    }
    // A blocking reload is one for all of them.
    let path = "/live/a/main/media.m3u8?_HLS_msn=2";
    let answers = futures_util::future::join_all(ALL.map(|by| fetch(&weir, by, path))).await;
    assert!(answers.iter().all(|answer| String::from_utf8_lossy(answer).contains("#EXTM3U")));

    let port = port(&weir);
    let head = trusting(&weir.dir.path().join("data/self-signed.pem"), port).await.unwrap();
    assert!(head.contains(&format!("alt-svc: h3=\":{port}\"; ma=86400")), "{head}");
    assert!(weir.stop().await.0.success());
}

/// Chromium plays a stream on its page, all media of these kinds by that version of HTTP.
async fn chromium_plays(by: By, via: &str, kinds: &[&str]) {
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::with("", &["--https", "127.0.0.1:0"]).await;
    let _publication = Publication::start(weir.rtmp, "live/a", &Clip::large().await).await;
    weir.until_hls("live/a").await;
    let url = format!("https://localhost:{}/watch/live/a?via={via}", port(&weir));
    let mut page = Page::open_secure(&url, &weir.dir.path().join("data/self-signed.pem"), by);
    let report = page
        .until(&format!("ten seconds of {via} by {by:?}"), |report| report.number("total_frames") > 250.0)
        .await;
    assert_eq!((report.number("fatal_errors"), report.number("errors")), (0.0, 0.0), "{report:?}");
    let expected = if let By::Http3 = by { "h3" } else { "h2" };
    for kind in kinds {
        let protocols = report.0["protocols"][kind].as_object();
        let protocols: Vec<&String> = protocols.into_iter().flatten().map(|(name, _)| name).collect();
        assert_eq!(protocols, [expected], "{kind}: {report:?}");
    }
}

#[tokio::test]
async fn hls_js_plays_over_http2() {
    chromium_plays(By::Http2, "hls", &["m3u8", "mp4", "m4s"]).await;
}

#[tokio::test]
async fn hls_js_plays_over_http3() {
    chromium_plays(By::Http3, "hls", &["m3u8", "mp4", "m4s"]).await;
}

#[tokio::test]
async fn mpegts_js_plays_over_http2() {
    chromium_plays(By::Http2, "flv", &["flv"]).await;
}

#[tokio::test]
async fn mpegts_js_plays_over_http3() {
    chromium_plays(By::Http3, "flv", &["flv"]).await;
}

/// The head of an answer over HTTPS to a client that trusts one certificate alone. `None` if another is shown.
async fn trusting(certificate: &Path, port: u16) -> Option<String> {
    /// curl's exit code for a certificate that it does not trust.
    const UNTRUSTED: i32 = 60;
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--output", "/dev/null", "--dump-header", "-", "--cacert"]);
    curl.arg(certificate).arg(format!("https://localhost:{port}/api/v1/streams"));
    let output = within("an answer over HTTPS", curl.output()).await.unwrap();
    let code = output.status.code();
    assert!(matches!(code, Some(0 | UNTRUSTED)), "{}", String::from_utf8_lossy(&output.stderr));
    (code == Some(0)).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn a_certificate_is_replaced_without_a_restart_and_a_broken_one_is_not_taken() {
    let _turn = turn::take(Load::Light).await;
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (pair(folder.path(), "first").await, pair(folder.path(), "second").await);
    let (certificate, key) = (folder.path().join("shown.crt"), folder.path().join("shown.key"));
    let show = |(c, k): (&PathBuf, &PathBuf)| {
        std::fs::copy(c, &certificate).unwrap();
        std::fs::copy(k, &key).unwrap();
    };
    show((&first.0, &first.1));
    let config = format!(
        "[edge.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
        certificate.display(),
        key.display()
    );
    let weir = Weir::configured(&config).await;
    let port = port(&weir);
    assert!(trusting(&second.0, port).await.is_none());
    assert!(trusting(&first.0, port).await.is_some());
    let _publication = Publication::start(weir.rtmp, "live/a", &Clip::small().await).await;
    weir.until_live("live/a", 2).await;
    let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
    viewer.next_frame(VIDEO).await;

    show((&second.0, &first.1));
    let mark = weir.process.mark();
    weir.process.signal("HUP").await;
    let said = weir.process.line_after(mark, "certificate stays").await;
    assert!(said.contains("shown.key") && said.contains("shown.crt"), "{said}");
    assert!(trusting(&first.0, port).await.is_some());

    show((&second.0, &second.1));
    weir.process.signal("HUP").await;
    weir.process.line_after(mark, "a new certificate is shown").await;
    assert!(trusting(&second.0, port).await.is_some());
    assert!(trusting(&first.0, port).await.is_none());
    viewer.next_frame(VIDEO).await;

    // Without being told, a little later.
    let mark = weir.process.mark();
    show((&first.0, &first.1));
    weir.process.line_after(mark, "a new certificate is shown").await;
    assert!(trusting(&first.0, port).await.is_some());
    assert!(weir.stop().await.0.success());
}

#[tokio::test]
async fn a_start_without_its_certificate_names_the_file_and_the_key() {
    let _turn = turn::take(Load::Light).await;
    let dir = tempfile::tempdir().unwrap();
    let text = "[edge.tls]\nlisten = \"127.0.0.1:0\"\ncertificate = \"no.crt\"\nkey = \"no.key\"\n";
    std::fs::write(dir.path().join("weir.toml"), text).unwrap();
    let mut command = crate::support::weir::command(&dir);
    for listener in ["--rtmp", "--srt", "--http", "--admin"] {
        command.args([listener, "127.0.0.1:0"]);
    }
    let (status, said) = Process::spawn("weir", command).finish().await;
    assert!(!status.success());
    assert!(said.contains("no.crt") && said.contains("`edge.tls.certificate`"), "{said}");
}
