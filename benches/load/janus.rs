//! Debian's Janus, to be compared with: its streaming plugin, which hands RTP on to who watches.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::server::{Addresses, free_address};
use super::{Server, Watchers};

const PLUGINS: &str = "/usr/lib/x86_64-linux-gnu/janus";
/// The type of the payloads that it is fed.
pub(crate) const PAYLOAD_TYPE: u8 = 96;

/// A running Janus with one stream, and where it takes that as RTP.
pub(crate) async fn janus() -> Result<(Server, SocketAddr)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path();
    let http = free_address()?;
    let media = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    // As one would set it up for speed: a loop of events for each core, not a thread for each viewer; no logs.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let general = format!(
        "general: {{ debug_level = 2, session_timeout = 0, event_loops = {cores}, admin_secret = \"bench\"
            plugins_folder = \"{PLUGINS}/plugins\", transports_folder = \"{PLUGINS}/transports\" }}
         media: {{ ipv6 = false }}
         nat: {{ ice_lite = true, full_trickle = false, ice_enforce_list = \"127.0.0.1\", nice_debug = false }}
         plugins: {{ disable = \"{}\" }}
         transports: {{ disable = \"{}\" }}
         loggers: {{ disable = \"libjanus_jsonlog.so\" }}",
        others("plugins", "libjanus_streaming.so")?,
        others("transports", "libjanus_http.so")?,
    );
    let transport = format!(
        "general: {{ json = \"compact\", base_path = \"/janus\", http = true, port = {}, ip = \"127.0.0.1\", https = false }}
         admin: {{ admin_http = false, admin_https = false }}",
        http.port()
    );
    let streaming = format!(
        "bench: {{ type = \"rtp\", id = 1, description = \"bench\", audio = false, video = true, videoport = {},
            videopt = {PAYLOAD_TYPE}, videocodec = \"h264\", videortpmap = \"H264/90000\",
            videofmtp = \"profile-level-id=42e01f;packetization-mode=1\", threads = {cores} }}",
        media.port()
    );
    std::fs::write(path.join("janus.jcfg"), general)?;
    std::fs::write(path.join("janus.transport.http.jcfg"), transport)?;
    std::fs::write(path.join("janus.plugin.streaming.jcfg"), streaming)?;
    let mut command = Command::new("/usr/bin/janus");
    command.arg("-F").arg(path);
    let server =
        Server::start(command, folder, Addresses { http: Some(http), ..Addresses::default() }).await?;
    Ok((server, media))
}

/// All files of a folder of its modules but one.
fn others(folder: &str, but: &str) -> Result<String> {
    let mut names = Vec::new();
    for file in std::fs::read_dir(format!("{PLUGINS}/{folder}"))? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".so") && name != but {
            names.push(name);
        }
    }
    Ok(names.join(","))
}

/// Has so many watch its stream.
pub(crate) async fn watch(server: &Server, watchers: &Watchers, count: usize) -> Result<()> {
    let base = format!("http://{}/janus", server.http()?);
    let http = reqwest::Client::new();
    let post = async |url: &str, mut body: Value| -> Result<Value> {
        body["transaction"] = "bench".into();
        let answer: Value = http.post(url).json(&body).send().await?.error_for_status()?.json().await?;
        if answer["janus"] == "error" {
            bail!("{url}: {answer}");
        }
        Ok(answer)
    };
    let session =
        post(&base, json!({ "janus": "create" })).await?["data"]["id"].as_u64().context("a session")?;
    let session = format!("{base}/{session}");
    // What happens is asked for by requests that wait.
    let event = async |wanted: fn(&Value) -> bool| -> Result<Value> {
        loop {
            let event: Value = http.get(&session).send().await?.error_for_status()?.json().await?;
            if wanted(&event) {
                return Ok(event);
            }
            if !event["plugindata"]["data"]["error"].is_null() {
                bail!("{event}");
            }
        }
    };
    for _ in 0..count {
        let attach = json!({ "janus": "attach", "plugin": "janus.plugin.streaming" });
        let handle = post(&session, attach).await?["data"]["id"].as_u64().context("a handle")?;
        let handle = format!("{session}/{handle}");
        let watch = json!({ "janus": "message", "body": { "request": "watch", "id": 1 } });
        post(&handle, watch).await?;
        let offered = event(|event| event["jsep"]["type"] == "offer").await?;
        let offer = offered["jsep"]["sdp"].as_str().context("an offer")?;
        let answer = watchers.answer(offer)?;
        let start = json!({
            "janus": "message", "body": { "request": "start" }, "jsep": { "type": "answer", "sdp": answer },
        });
        post(&handle, start).await?;
    }
    // It wants to be asked, or it holds everybody's events.
    let url = session.clone();
    tokio::spawn(async move { while http.get(&url).send().await.is_ok() {} });
    Ok(())
}
