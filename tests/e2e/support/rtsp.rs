//! A real RTSP server, GStreamer's, with what it is told to serve.

use std::net::TcpListener;
use std::path::Path;

use tokio::process::Command;

use super::process::Process;

/// The user and the password of a server that asks for them.
pub const LOGIN: &str = "admin:hunter2";

/// A running server.
pub struct Camera {
    /// The process: `connected` for each client.
    pub process: Process,
    port: u16,
    login: bool,
    mounts: Vec<(String, String)>,
}

/// H.264 and AAC of an MP4 file.
pub fn h264_aac(file: &Path) -> String {
    format!(
        "filesrc location={} ! qtdemux name=d d. ! queue ! h264parse ! rtph264pay name=pay0 pt=96 \
         d. ! queue ! aacparse ! rtpmp4gpay name=pay1 pt=97",
        file.display()
    )
}

/// H.265 of an MP4 file, and a tone in G.711.
pub fn h265_g711(file: &Path) -> String {
    format!(
        "filesrc location={} ! qtdemux name=d d. ! queue ! h265parse ! rtph265pay name=pay0 pt=96 \
         audiotestsrc is-live=true ! audio/x-raw,rate=8000,channels=1 ! alawenc ! rtppcmapay name=pay1",
        file.display()
    )
}

impl Camera {
    /// Serves those, each a path and what is there. With a login it asks for [`LOGIN`], by Digest.
    pub async fn start(login: bool, mounts: &[(&str, String)]) -> Self {
        // Chosen beforehand, so that it can be started again there.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mounts = mounts.iter().map(|(path, launch)| ((*path).to_owned(), launch.clone())).collect();
        Self::launch(port, login, mounts).await
    }

    async fn launch(port: u16, login: bool, mounts: Vec<(String, String)>) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/support/rtsp_server.py");
        // Debian's own Python, which has what its packages bring.
        let mut command = Command::new("/usr/bin/python3");
        command.arg("-u").arg(script).arg(port.to_string()).arg(if login { LOGIN } else { "-" });
        for (path, launch) in &mounts {
            command.arg(path).arg(launch);
        }
        let process = Process::spawn("an RTSP server", command);
        process.line("ready").await;
        Self { process, port, login, mounts }
    }

    /// Kills it without a warning; where it was.
    pub async fn kill(self) -> Gone {
        let Self { mut process, port, login, mounts } = self;
        process.signal("KILL").await;
        process.exit().await;
        Gone { port, login, mounts }
    }

    /// The address of a path, with a login or none.
    pub fn url(&self, login: &str, path: &str) -> String {
        let at = if login.is_empty() { String::new() } else { format!("{login}@") };
        format!("rtsp://{at}127.0.0.1:{}{path}", self.port)
    }
}

/// A server that was killed.
pub struct Gone {
    port: u16,
    login: bool,
    mounts: Vec<(String, String)>,
}

impl Gone {
    /// Starts it anew where it was.
    pub async fn again(self) -> Camera {
        Camera::launch(self.port, self.login, self.mounts).await
    }
}
