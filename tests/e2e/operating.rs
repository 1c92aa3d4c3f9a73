//! What an operator does: configures, starts, looks, reloads, stops.

use std::os::unix::fs::PermissionsExt;

use tokio::io::AsyncWriteExt;

use crate::support::clip::Clip;
use crate::support::flv::{self, VIDEO, Viewer};
use crate::support::process::Process;
use crate::support::rtmp::{Client, Publication};
use crate::support::turn::{self, Load};
use crate::support::weir::{self, Weir};
use crate::support::{until, within};

#[tokio::test]
async fn metrics_please_promtool_and_name_no_stream() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let clip = Clip::small().await;
    let mut publications = Vec::new();
    for n in 0..5 {
        publications.push(Publication::start(weir.rtmp, &format!("live/name-{n}"), &clip).await);
    }
    weir.until_live("live/name-4", 2).await;
    let mut viewer = Viewer::open(&weir.url("/live/name-0.flv")).await;
    viewer.next_frame(VIDEO).await;
    weir.get("/live/name-0/index.m3u8").await;
    weir.get("/live/absent.flv").await;
    weir.get("/api/v1/streams").await;

    let answer = weir.admin("/metrics").await;
    let text = answer.text();
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(!text.contains("name-"), "a stream's name in a label: the number of series has no bound");
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(samples < 500, "{samples} samples");

    let mut promtool = tokio::process::Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(std::process::Stdio::piped());
    promtool.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = promtool.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let output = within("promtool", child.wait_with_output()).await.unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[tokio::test]
async fn health_and_readiness_are_told() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    assert_eq!(weir.admin("/healthz").await.status, 200);
    let ready = weir.admin("/readyz").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &true.into()));
}

#[tokio::test]
async fn sigterm_drains() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::configured("drain_s = 30\n[edge.http]\ndrain_ms = 2000\n").await;
    let _publication = Publication::start(weir.rtmp, "live/a", &Clip::small().await).await;
    weir.until_live("live/a", 2).await;
    let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
    viewer.next_frame(VIDEO).await;

    weir.process.signal("TERM").await;
    weir.process.line("draining").await;
    // Whoever balances load is told to send nobody any more; the process is alive.
    assert_eq!(weir.admin("/readyz").await.status, 503);
    assert_eq!(weir.admin("/healthz").await.status, 200);
    // Nobody new is let in.
    let refused = match Client::open(weir.rtmp, "live").await {
        Err(_) => true,
        Ok(mut client) => {
            client.publish("b").await.is_none_or(|status| !status.says("NetStream.Publish.Start"))
        }
    };
    assert!(refused, "a publisher was let in");
    // Who watches may watch until the end.
    while viewer.next().await.is_some() {}
    let data = weir.dir.path().join("data");
    let Weir { process, dir, .. } = weir;
    let (status, log) = process.finish().await;
    assert!(status.success(), "{log}");
    assert!(!data.join("run.json").exists());
    drop(dir);
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::configured("drain_s = 7200\n[edge.http]\ndrain_ms = 3600000\n").await;
    let _publication = Publication::start(weir.rtmp, "live/a", &Clip::small().await).await;
    weir.until_live("live/a", 2).await;
    let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
    viewer.next_frame(VIDEO).await;
    weir.process.signal("TERM").await;
    weir.process.line("draining").await;
    weir.process.signal("TERM").await;
    // An hour would be allowed: that it ends is the second signal's doing.
    let Weir { process, dir, .. } = weir;
    process.finish().await;
    drop(dir);
}

#[tokio::test]
async fn a_drain_ends_even_if_viewers_never_read() {
    let _turn = turn::take(Load::Light).await;
    // Only the drain can end a viewer that takes nothing: a stalled one would be kept for an hour.
    let config = "drain_s = 3600\n[edge.http]\ndrain_ms = 1000\nwrite_stall_ms = 3600000\n\
                  [origin.hls]\nsegment_ms = 1000\n";
    let weir = Weir::configured(config).await;
    let clip = Clip::small().await;
    let mut publisher = Client::publisher(weir.rtmp, "live/a").await;
    for tag in &clip.configurations {
        publisher.sender.tag(tag).await.unwrap();
    }
    let mut pictures = clip.forever().filter(|tag| tag.kind == VIDEO).map(|tag| tag.blown_up(150_000));
    publisher.sender.tag(&pictures.next().unwrap()).await.unwrap();
    weir.until_live("live/a", 2).await;
    let mut good = Viewer::open(&weir.url("/live/a.flv")).await;
    good.next_frame(VIDEO).await;
    let _over_http = flv::never_reads(weir.http, "/live/a.flv").await;
    let mut over_rtmp = Client::open_narrow(weir.rtmp, "live").await.unwrap();
    let status = over_rtmp.play("a").await.expect("play is answered");
    assert!(status.says("NetStream.Play"), "{}", String::from_utf8_lossy(&status.body));
    // 30 MB, so that both are stuck: their own buffers are small, and one to send grows to 4 MB (tcp(7), tcp_wmem).
    for tag in pictures.take(200) {
        publisher.sender.tag(&tag).await.unwrap();
        good.next_frame(VIDEO).await;
    }
    weir.process.signal("TERM").await;
    while good.next().await.is_some() {}
    let Weir { process, dir, .. } = weir;
    let (status, log) = process.finish().await;
    assert!(status.success(), "{log}");
    assert!(log.contains("cutting what has not finished"), "{log}");
    assert!(log.contains("cutting players that have not finished"), "{log}");
    assert!(!log.contains("the drain deadline has passed"), "{log}");
    drop(dir);
}

fn keys(key: &str) -> String {
    format!("[origin.auth]\nmode = \"keys\"\nkeys = [{{ streams = \"live/*\", key = \"{key}\" }}]\n")
}

async fn may_publish(weir: &Weir, name: &str) -> bool {
    let mut client = Client::open(weir.rtmp, "live").await.unwrap();
    client.publish(name).await.is_some_and(|status| status.says("NetStream.Publish.Start"))
}

#[tokio::test]
async fn sighup_takes_over_new_keys() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::configured(&keys("old")).await;
    assert!(may_publish(&weir, "a?key=old").await);
    assert!(!may_publish(&weir, "b?key=new").await);

    let reload = async |config: String, word: &str| {
        let mark = reload(&weir, &config).await;
        weir.process.line_after(mark, word).await
    };
    reload(keys("new"), "configuration read again").await;
    assert!(may_publish(&weir, "c?key=new").await);
    assert!(!may_publish(&weir, "d?key=old").await);

    // What needs a restart is named.
    let line = reload(keys("new") + "[edge.http]\nmax_connections = 77\n", "restart").await;
    assert!(line.contains("edge.http.max_connections"), "{line}");

    // A mistake changes nothing and is named with its place.
    let line = reload(keys("third").replace("mode", "mood"), "weir.toml:2:1").await;
    assert!(line.contains("mood"), "{line}");
    assert!(may_publish(&weir, "e?key=new").await);
}

/// Lets it read this configuration; returns a place in the log before what it says of it.
async fn reload(weir: &Weir, config: &str) -> usize {
    let mark = weir.process.mark();
    std::fs::write(weir.dir.path().join("weir.toml"), config).unwrap();
    weir.process.signal("HUP").await;
    mark
}

#[tokio::test]
async fn sighup_takes_over_limits_and_the_log_level() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let mut there =
        [Client::open(weir.rtmp, "live").await.unwrap(), Client::open(weir.rtmp, "live").await.unwrap()];

    let config = "[origin.rtmp]\nmax_connections_per_address = 2\n\
                  [edge.http]\nmax_connections_per_address = 1\n[log]\nlevel = \"debug\"\n";
    let mark = reload(&weir, config).await;
    let changed = weir.process.line_after(mark, "configuration read again").await;
    for key in ["origin.rtmp.max_connections_per_address", "log.level"] {
        assert!(changed.contains(key), "{key} is not in {changed}");
    }
    assert!(!changed.contains("edge"), "{changed}");
    let not_yet = weir.process.line_after(mark, "restart").await;
    assert!(not_yet.contains("edge.http.max_connections_per_address"), "{not_yet}");

    // In force: a third is let go, at the new level the log tells of it, and those who were there stay.
    assert!(Client::connect(weir.rtmp).await.is_err(), "a third was let in");
    weir.process.line_after(mark, "RTMP connection refused").await;
    for (index, client) in there.iter_mut().enumerate() {
        let status = client.publish(&format!("a{index}")).await.expect("publish is answered");
        assert!(status.says("NetStream.Publish.Start"), "{}", String::from_utf8_lossy(&status.body));
    }
    // Not in force, as was said.
    let held = flv::never_reads(weir.http, "/api/v1/streams").await;
    assert_eq!(weir.get("/api/v1/streams").await.status, 200);
    drop(held);

    // And back.
    let mark = reload(&weir, "").await;
    weir.process.line_after(mark, "configuration read again").await;
    let quiet = weir.process.mark();
    Client::open(weir.rtmp, "live").await.expect("a third is welcome again");
    let mark = reload(&weir, "").await;
    weir.process.line_after(mark, "nothing changed").await;
    let lines = weir.process.output();
    assert!(!lines.lines().skip(quiet).any(|line| line.contains("DEBUG")), "{lines}");
}

async fn run(folder: &tempfile::TempDir, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = weir::command(folder);
    command.args(arguments);
    let (status, output) = Process::spawn("weir", command).finish().await;
    (status.code(), output)
}

#[tokio::test]
async fn the_default_configuration_is_commented_and_correct() {
    let _turn = turn::take(Load::Light).await;
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = run(&folder, &["config", "default"]).await;
    assert_eq!(code, Some(0));
    assert!(text.lines().filter(|line| line.starts_with('#')).count() > 20, "{text}");
    std::fs::write(folder.path().join("new.toml"), &text).unwrap();
    let (code, output) = run(&folder, &["config", "check", "new.toml"]).await;
    assert_eq!(code, Some(0), "{output}");
}

#[tokio::test]
async fn a_mistake_in_the_configuration_is_named_with_its_place() {
    let _turn = turn::take(Load::Light).await;
    let folder = tempfile::tempdir().unwrap();
    let file = "drain_s = \"soon\"\n\n[edge.http]\nlisten = \"nowhere\"\n\n[origin.streams]\ngrace = 3\n";
    std::fs::write(folder.path().join("bad.toml"), file).unwrap();
    let (code, output) = run(&folder, &["config", "check", "bad.toml"]).await;
    assert_eq!(code, Some(1));
    for part in [
        "bad.toml:1:11",
        "drain_s",
        "bad.toml:4:10",
        "edge.http.listen",
        "bad.toml:7:1",
        "origin.streams.grace",
    ] {
        assert!(output.contains(part), "{part} is not in\n{output}");
    }
    // It does not start with such a file either.
    let (code, output) = run(&folder, &["--config", "bad.toml"]).await;
    assert!(code != Some(0) && output.contains("bad.toml:1:11"), "{output}");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_key() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    for (flag, address, key) in [
        ("--rtmp", weir.rtmp, "origin.rtmp.listen"),
        ("--srt", weir.srt, "origin.srt.listen"),
        ("--http", weir.http, "edge.http.listen"),
        ("--admin", weir.admin, "admin.listen"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let address = address.to_string();
        let any = ["--rtmp", "--srt", "--http", "--admin"].map(|flag| [flag, "127.0.0.1:0"]);
        let mut arguments = any.concat();
        let place = arguments.iter().position(|argument| *argument == flag).unwrap() + 1;
        arguments[place] = &address;
        let (code, output) = run(&folder, &arguments).await;
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains(&address) && output.contains(key), "{output}");
        // The operator's token is shown once: by a start that succeeds.
        assert!(!folder.path().join("weir-data/operator.token").exists(), "{output}");
    }
}

#[tokio::test]
async fn the_token_is_made_once_shown_once_and_for_the_owner_only() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    let token = weir.token();
    weir.process.line(&token).await;
    let file = weir.dir.path().join("data/operator.token");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let Weir { process, dir, .. } = weir;
    process.signal("TERM").await;
    assert!(process.finish().await.0.success());

    let mut command = weir::command(&dir);
    command.args([
        "--rtmp",
        "127.0.0.1:0",
        "--srt",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--data",
        "data",
    ]);
    let again = Process::spawn("weir", command);
    until("the second start", async || dir.path().join("data/run.json").exists().then_some(())).await;
    again.line("ready").await;
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), token);
    again.signal("TERM").await;
    let (_, output) = again.finish().await;
    assert!(!output.contains(&token), "shown again");
}

#[tokio::test]
async fn logs_can_be_json() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::with("", &["--log-format", "json"]).await;
    let line = weir.process.line("\"ready\"").await;
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["level"], "INFO");
}

#[tokio::test]
async fn any_key_can_come_from_the_environment() {
    let _turn = turn::take(Load::Light).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = weir::command(&folder);
    command.env("WEIR_ORIGIN__RTMP__LISTEN", "127.0.0.1:0").env("WEIR_EDGE__HTTP__LISTEN", "127.0.0.1:0");
    command.env("WEIR_ORIGIN__SRT__LISTEN", "127.0.0.1:0");
    command.env("WEIR_ADMIN__LISTEN", "127.0.0.1:0").env("WEIR_DATA", "elsewhere");
    let process = Process::spawn("weir", command);
    until("run.json", async || folder.path().join("elsewhere/run.json").exists().then_some(())).await;
    process.signal("TERM").await;
    assert!(process.finish().await.0.success());
}
