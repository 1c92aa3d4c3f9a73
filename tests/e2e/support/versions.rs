//! One path over every version of HTTP, by curl and curl_cffi.

use std::path::Path;

use tokio::process::Command;

use super::weir::Weir;
use super::{tool, within};

/// How a client asks.
#[derive(Debug, Clone, Copy)]
pub enum By {
    /// HTTP/1.1 without TLS.
    Http1,
    /// HTTP/1.1.
    Https1,
    /// HTTP/2.
    Http2,
    /// HTTP/3.
    Http3,
}

/// All of them.
pub const ALL: [By; 4] = [By::Http1, By::Https1, By::Http2, By::Http3];

/// The port where HTTPS and HTTP/3 are served.
pub fn port(weir: &Weir) -> u16 {
    let run = std::fs::read(weir.dir.path().join("data/run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_slice(&run).unwrap();
    run["https"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

/// A client that writes the body of a path to its standard output, and fails if that has no regular end.
pub fn client(weir: &Weir, by: By, path: &str) -> Command {
    let certificate = weir.dir.path().join("data/self-signed.pem");
    let https = format!("https://localhost:{}{path}", port(weir));
    let mut command = match by {
        By::Http3 => {
            let mut command = Command::new(tool("http3/bin/python"));
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/clients/fetch.py");
            command.arg(script).arg(certificate).arg(https);
            command
        }
        _ => {
            let mut command = Command::new("curl");
            command.args(["--silent", "--show-error", "--fail", "--no-buffer"]);
            match by {
                By::Http1 => command.arg(weir.url(path)),
                By::Https1 => command.args(["--http1.1", "--cacert"]).arg(certificate).arg(https),
                _ => command.args(["--http2", "--cacert"]).arg(certificate).arg(https),
            };
            command
        }
    };
    command.kill_on_drop(true);
    command
}

/// The body of a path, which is there.
pub async fn fetch(weir: &Weir, by: By, path: &str) -> Vec<u8> {
    let output = within(&format!("{path} by {by:?}"), client(weir, by, path).output()).await.unwrap();
    assert!(output.status.success(), "{by:?}, {path}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
