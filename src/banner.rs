//! What a person reads when weir starts: where to publish and where to watch.

use std::net::{IpAddr, SocketAddr};

use crate::data::Run;
use crate::roles::Role;

/// The name of the stream that `--demo` publishes, in its app.
pub(crate) const DEMO: (&str, &str) = ("live", "demo");

/// The banner of a process that listens where `run` says. `shown`: an origin shows edges a certificate.
pub(crate) fn banner(role: Role, run: &Run, demo: bool, shown: bool) -> String {
    match role {
        Role::All => all(run, demo),
        Role::Origin => origin(run, shown),
        // A control plane has one of its own.
        Role::Edge | Role::Control => edge(run),
    }
}

/// The banner of a control plane that listens there.
pub(crate) fn control(http: SocketAddr, grpc: SocketAddr, admin: SocketAddr) -> String {
    let (http, grpc) = (format!("http://{}", reachable(http)), format!("http://{}", reachable(grpc)));
    format!(
        "\
weir {version}, the control plane

  Nodes     weir origin --control {grpc}
            weir edge --control {grpc}
  Streams   {http}/
  Play      {http}/api/v1/play/live/a
  Metrics   http://{admin}/metrics

",
        version = env!("CARGO_PKG_VERSION"),
        admin = reachable(admin)
    )
}

/// How to play by SRT, where that is served.
fn play_srt(run: &Run, app: &str, name: &str) -> String {
    let line = |at| format!("    SRT     srt://{}?streamid=read:{app}/{name}\n", reachable(at));
    run.srt.map_or_else(String::new, line)
}

/// How to publish by SRT, where that is served.
fn publish_srt(run: &Run, app: &str) -> String {
    let line = |at| format!("    SRT     srt://{}?streamid=publish:{app}/a\n", reachable(at));
    run.srt.map_or_else(String::new, line)
}

/// How to watch by WebRTC, where that is served.
fn play_webrtc(run: &Run, http: &str, app: &str, name: &str) -> String {
    if run.webrtc { format!("    WHEP    {http}/{app}/{name}/whep\n") } else { String::new() }
}

/// How to publish by WebRTC, where that is served.
fn publish_webrtc(run: &Run, http: &str, app: &str) -> String {
    if !run.webrtc {
        return String::new();
    }
    format!("    browser {http}/studio?app={app}&name=a\n    WHIP    {http}/{app}/a/whip\n")
}

fn origin(run: &Run, shown: bool) -> String {
    let srt = publish_srt(run, "live");
    let scheme = if shown { "https" } else { "http" };
    let (rtmp, http) = (rtmp_base(run.rtmp), format!("{scheme}://{}", reachable(run.http)));
    format!(
        "\
weir {version}, the origin

  Publish
    OBS     server {rtmp}/live   stream key a
    ffmpeg  ffmpeg -re -i FILE -c copy -f flv {rtmp}/live/a
{srt}  Edges     weir edge --origin {http}
  Streams   {http}/api/v1/streams
  Metrics   http://{admin}/metrics

",
        version = env!("CARGO_PKG_VERSION"),
        admin = reachable(run.admin)
    )
}

fn edge(run: &Run) -> String {
    let play = play_srt(run, "live", "a");
    let https = run.https.map_or_else(String::new, |at| format!("  HTTPS     https://{}/\n", reachable(at)));
    let (rtmp, http) = (rtmp_base(run.rtmp), format!("http://{}", reachable(run.http)));
    let webrtc = play_webrtc(run, &http, "live", "a");
    format!(
        "\
weir {version}, an edge

  Watch
    page    {http}/watch/live/a
    FLV     {http}/live/a.flv
    TS      {http}/live/a.ts
    HLS     {http}/live/a/index.m3u8
    RTMP    {rtmp}/live/a
{play}{webrtc}{https}  Metrics   http://{admin}/metrics

",
        version = env!("CARGO_PKG_VERSION"),
        admin = reachable(run.admin)
    )
}

fn all(run: &Run, demo: bool) -> String {
    let https = run.https.map_or_else(String::new, |at| format!("  HTTPS     https://{}/\n", reachable(at)));
    let (rtmp, http) = (rtmp_base(run.rtmp), format!("http://{}", reachable(run.http)));
    let (app, name) = if demo { DEMO } else { ("live", "a") };
    let srt = publish_srt(run, app) + &publish_webrtc(run, &http, app);
    let play = play_srt(run, app, name) + &play_webrtc(run, &http, app, name);
    let version = env!("CARGO_PKG_VERSION");
    let playing = if demo { "\n  The demo is playing: open the first link below.\n" } else { "" };
    format!(
        "\
weir {version}
{playing}
  Publish
    OBS     server {rtmp}/{app}   stream key a
    ffmpeg  ffmpeg -re -i FILE -c copy -f flv {rtmp}/{app}/a
{srt}  Watch
    page    {http}/watch/{app}/{name}
    FLV     {http}/{app}/{name}.flv
    TS      {http}/{app}/{name}.ts
    HLS     {http}/{app}/{name}/index.m3u8
    RTMP    {rtmp}/{app}/{name}
{play}  Streams   {http}/
{https}  Metrics   http://{admin}/metrics

",
        admin = reachable(run.admin)
    )
}

/// How the operator's token is shown, the one time it is.
pub(crate) fn token(token: &str, file: &std::path::Path) -> String {
    format!("  Operator token, shown only now and kept in {}:\n    {token}\n\n", file.display())
}

/// By what a certificate that was made here can be told from another.
pub(crate) fn fingerprint(fingerprint: &str) -> String {
    format!(
        "  The certificate was made here and is trusted by nobody; its SHA-256 fingerprint:\n    {fingerprint}\n\n"
    )
}

fn rtmp_base(at: SocketAddr) -> String {
    let at = reachable(at);
    // RTMP's own port need not be named.
    format!("rtmp://{}", at.strip_suffix(":1935").unwrap_or(&at))
}

/// An address that can be connected to from this machine.
fn reachable(at: SocketAddr) -> String {
    match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => format!("127.0.0.1:{}", at.port()),
        IpAddr::V6(ip) if ip.is_unspecified() => format!("localhost:{}", at.port()),
        _ => at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(rtmp: &str, http: &str) -> Run {
        let admin = "127.0.0.1:9910".parse().unwrap();
        Run {
            pid: 1,
            rtmp: rtmp.parse().unwrap(),
            srt: None,
            http: http.parse().unwrap(),
            https: None,
            admin,
            turn: None,
            webrtc: true,
        }
    }

    #[test]
    fn it_says_where_to_publish_and_watch() {
        let text = banner(Role::All, &run("0.0.0.0:1935", "[::]:8080"), false, false);
        for part in [
            "server rtmp://127.0.0.1/live ",
            "-f flv rtmp://127.0.0.1/live/a\n",
            "http://localhost:8080/watch/live/a\n",
            "http://localhost:8080/live/a.flv\n",
            "http://localhost:8080/live/a/index.m3u8\n",
            "RTMP    rtmp://127.0.0.1/live/a\n",
            "http://localhost:8080/studio?app=live&name=a\n",
            "http://localhost:8080/live/a/whip\n",
            "http://localhost:8080/live/a/whep\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn https_is_named_where_it_is_served() {
        let mut run = run("0.0.0.0:1935", "0.0.0.0:8080");
        assert!(!banner(Role::All, &run, false, false).contains("HTTPS"));
        run.https = Some("0.0.0.0:8443".parse().unwrap());
        let text = banner(Role::All, &run, false, false);
        assert!(text.contains("  HTTPS     https://127.0.0.1:8443/\n  Metrics "), "{text}");
    }

    #[test]
    fn a_role_says_what_it_is_for() {
        let run = run("0.0.0.0:1935", "0.0.0.0:8081");
        let text = banner(Role::Origin, &run, false, false);
        assert!(
            text.contains("weir edge --origin http://127.0.0.1:8081\n") && !text.contains("Watch"),
            "{text}"
        );
        let text = banner(Role::Edge, &run, false, false);
        assert!(text.contains("http://127.0.0.1:8081/live/a.flv\n") && !text.contains("Publish"), "{text}");
    }

    #[test]
    fn other_ports_are_named() {
        let text = banner(Role::All, &run("127.0.0.1:1936", "127.0.0.1:80"), true, false);
        assert!(text.contains("rtmp://127.0.0.1:1936/live/demo"), "{text}");
        assert!(text.contains("http://127.0.0.1:80/watch/live/demo"), "{text}");
    }
}
