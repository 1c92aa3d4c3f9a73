//! The binary under test, on free ports and with a data folder of its own.

use std::net::{IpAddr, SocketAddr};
use std::process::ExitStatus;

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::process::Process;
use super::{until, within};

/// A running weir. It is killed when this is dropped.
pub struct Weir {
    /// Its working folder, with the data folder `data` and the configuration `weir.toml`.
    pub dir: TempDir,
    /// The process, with its log.
    pub process: Process,
    /// Where it listens for RTMP.
    pub rtmp: SocketAddr,
    /// Where it listens for SRT.
    pub srt: SocketAddr,
    /// Where it listens for HTTP.
    pub http: SocketAddr,
    /// Where it answers probes and scrapers.
    pub admin: SocketAddr,
    /// How it was started.
    arguments: Vec<String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub headers: reqwest::header::HeaderMap,
    /// Body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.text()))
    }
}

/// A free port of this machine.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A working folder with that configuration.
fn folder(config: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("weir.toml"), config).unwrap();
    dir
}

/// The binary as a command that knows nothing of this machine's environment.
pub fn command(dir: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.env_clear().env("HOME", dir.path()).current_dir(dir.path());
    command
}

impl Weir {
    /// Starts it as it comes.
    pub async fn start() -> Self {
        Self::with("", &[]).await
    }

    /// Starts it with this configuration.
    pub async fn configured(config: &str) -> Self {
        Self::with(config, &[]).await
    }

    /// Starts it with this configuration and these flags, and waits until it is ready.
    pub async fn with(config: &str, flags: &[&str]) -> Self {
        let arguments = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Self::launch(folder(config), arguments, [ANY_PORT; 3]).await
    }

    /// Starts it with this configuration, in an environment with these variables.
    pub async fn with_env(config: &str, variables: &[(&str, &str)]) -> Self {
        let dir = folder(config);
        let mut command = command(&dir);
        command.envs(variables.iter().copied());
        Self::launch_as(command, dir, Vec::new(), [ANY_PORT; 3]).await
    }

    /// Starts one role alone: `origin` or `edge`.
    pub async fn role(role: &str, config: &str, flags: &[&str]) -> Self {
        let arguments = [&[role], flags].concat().into_iter().map(ToOwned::to_owned).collect();
        Self::launch(folder(config), arguments, [ANY_PORT; 3]).await
    }

    /// The same in a network namespace, where it listens on that address.
    pub async fn role_in(namespace: &str, at: IpAddr, role: &str, config: &str, flags: &[&str]) -> Self {
        let dir = folder(config);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, env!("CARGO_BIN_EXE_weir")]);
        command.env("HOME", dir.path()).current_dir(dir.path());
        let arguments = [&[role], flags].concat().into_iter().map(ToOwned::to_owned).collect();
        Self::launch_as(command, dir, arguments, [SocketAddr::new(at, 0); 3]).await
    }

    /// Kills it without a warning and starts it anew where it was.
    pub async fn kill_and_restart(self) -> Self {
        let Self { dir, mut process, rtmp, http, admin, arguments, .. } = self;
        process.signal("KILL").await;
        process.exit().await;
        drop(process);
        Self::launch(dir, arguments, [rtmp, http, admin]).await
    }

    /// The same with other flags behind its role.
    pub async fn kill_and_restart_with(mut self, flags: &[&str]) -> Self {
        self.arguments.truncate(1);
        self.arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
        self.kill_and_restart().await
    }

    /// Ends it by SIGTERM and starts it anew where it was; how it ended and its log, too.
    pub async fn stop_and_restart(self) -> (Self, ExitStatus, String) {
        let Self { dir, process, rtmp, http, admin, arguments, .. } = self;
        process.signal("TERM").await;
        let (status, log) = process.finish().await;
        (Self::launch(dir, arguments, [rtmp, http, admin]).await, status, log)
    }

    async fn launch(dir: TempDir, arguments: Vec<String>, at: [SocketAddr; 3]) -> Self {
        Self::launch_as(command(&dir), dir, arguments, at).await
    }

    async fn launch_as(
        mut command: Command,
        dir: TempDir,
        arguments: Vec<String>,
        [rtmp, http, admin]: [SocketAddr; 3],
    ) -> Self {
        // What one that was killed left behind says nothing of this one.
        let _ = std::fs::remove_file(dir.path().join("data/run.json"));
        // Memory is then counted in pages of 4 KiB; a huge page of 2 MiB would hide whether a client cost 1 MB.
        command.env("MIMALLOC_ALLOW_THP", "0").args(&arguments);
        let srt = SocketAddr::new(rtmp.ip(), 0);
        for (listener, at) in [("--rtmp", rtmp), ("--srt", srt), ("--http", http), ("--admin", admin)] {
            command.args([listener, &at.to_string()]);
        }
        command.args(["--data", "data"]);
        let mut process = Process::spawn("weir", command);
        let run = until("data/run.json", || {
            if let Some(status) = process.has_ended() {
                panic!("weir ended at once: {status}");
            }
            let file = std::fs::read(dir.path().join("data/run.json")).ok();
            std::future::ready(file.and_then(|json| serde_json::from_slice::<Value>(&json).ok()))
        })
        .await;
        assert_eq!(run["pid"], process.pid());
        let address = |key: &str| run[key].as_str().unwrap().parse().unwrap();
        let (rtmp, srt, http, admin) = (address("rtmp"), address("srt"), address("http"), address("admin"));
        let weir = Self { dir, process, rtmp, srt, http, admin, arguments };
        let ready = get(&format!("http://{}/readyz", weir.admin)).await;
        assert_eq!(ready.status, 200, "{}", ready.text());
        weir
    }

    /// The RTMP address of a stream: `rtmp://…/live/a`.
    pub fn rtmp_url(&self, stream: &str) -> String {
        format!("rtmp://{}/{stream}", self.rtmp)
    }

    /// The SRT address for that stream id: `srt://…?streamid=…`.
    pub fn srt_url(&self, stream_id: &str) -> String {
        format!("srt://{}?streamid={stream_id}", self.srt)
    }

    /// The HTTP address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Asks the HTTP port.
    pub async fn get(&self, path: &str) -> Answer {
        get(&self.url(path)).await
    }

    /// Asks the API, as the operator.
    pub async fn operator(&self, path: &str) -> Answer {
        send(reqwest::Client::new().get(self.url(path)).bearer_auth(self.token())).await
    }

    /// Asks the admin port.
    pub async fn admin(&self, path: &str) -> Answer {
        get(&format!("http://{}{path}", self.admin)).await
    }

    /// The value of a sample in /metrics: its name with its labels as they stand there.
    pub async fn metric(&self, sample: &str) -> Option<f64> {
        let text = self.admin("/metrics").await.text();
        let line =
            text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ').map(str::to_owned));
        line.map(|value| value.parse().unwrap())
    }

    /// What the API says of a stream.
    pub async fn stream(&self, stream: &str) -> Option<Value> {
        let answer = self.get(&format!("/api/v1/streams/{stream}")).await;
        (answer.status == 200).then(|| answer.json())
    }

    /// Waits until the API says something of a stream.
    pub async fn until_stream(&self, stream: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{stream} {what}"), async || self.stream(stream).await.filter(&is)).await
    }

    /// Waits until a stream is live with this many tracks.
    pub async fn until_live(&self, stream: &str, tracks: usize) -> Value {
        self.until_stream(stream, &format!("live with {tracks} tracks"), |info| {
            info["state"] == "live" && info["tracks"].as_array().is_some_and(|t| t.len() == tracks)
        })
        .await
    }

    /// Waits until a stream can be had as HLS.
    pub async fn until_hls(&self, stream: &str) -> Value {
        self.until_stream(stream, "ready as HLS", |info| info["hls"]["ready"] == true).await
    }

    /// Waits until the API knows nothing of a stream.
    pub async fn until_gone(&self, stream: &str) {
        until(&format!("the end of {stream}"), async || self.stream(stream).await.is_none().then_some(()))
            .await;
    }

    /// The operator's token.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("data/operator.token")).unwrap().trim().to_owned()
    }

    /// Ends it by SIGTERM; returns how it ended and its log.
    pub async fn stop(self) -> (ExitStatus, String) {
        self.process.signal("TERM").await;
        self.process.finish().await
    }
}

/// Asks for a URL and reads the answer to its end.
pub async fn get(url: &str) -> Answer {
    send(reqwest::Client::new().get(url)).await
}

/// Sends a request and reads the answer to its end.
pub async fn send(request: reqwest::RequestBuilder) -> Answer {
    within("an answer", async {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, body: response.bytes().await.unwrap().to_vec() }
    })
    .await
}
