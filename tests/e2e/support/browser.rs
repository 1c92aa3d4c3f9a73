//! Chromium with the project's own pages, driven by a small script (`browser/watch.mjs`).

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::process::Process;
use super::versions::By;
use super::within;

/// How long a browser may take to end, which takes a fraction of a second; then it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A page in a browser of its own.
pub struct Page {
    process: Process,
    mark: usize,
    /// What the browser writes.
    _dir: TempDir,
}

impl Page {
    /// Opens a page.
    pub fn open(url: &str) -> Self {
        Self::launch(url, &[])
    }

    /// Opens a page of a server that shows that certificate, by HTTP/3 or else without it.
    pub fn open_secure(url: &str, certificate: &Path, by: By) -> Self {
        let version = if let By::Http3 = by { "h3" } else { "h2" };
        Self::launch(url, &[certificate.as_os_str(), version.as_ref()])
    }

    /// Publishes a fake camera to an endpoint by WHIP, or watches it by WHEP: `publish` or `play`.
    pub fn webrtc(endpoint: &str, role: &str) -> Self {
        Self::run("webrtc.mjs", endpoint, &[role.as_ref()])
    }

    /// The same with options, or in the role `clock`: see the script.
    pub fn webrtc_with(endpoint: &str, role: &str, options: &Value) -> Self {
        Self::run("webrtc.mjs", endpoint, &[role.as_ref(), options.to_string().as_ref()])
    }

    /// Restarts ICE.
    pub async fn restart_ice(&mut self) {
        self.process.write("restart\n").await;
    }

    fn launch(url: &str, arguments: &[&OsStr]) -> Self {
        Self::run("watch.mjs", url, arguments)
    }

    fn run(script: &str, url: &str, arguments: &[&OsStr]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/browser");
        let modules: PathBuf = folder.join("node_modules/puppeteer-core");
        assert!(modules.exists(), "{} is missing: run make test", modules.display());
        let mut command = Command::new("node");
        let dir = tempfile::tempdir().unwrap();
        command.arg(folder.join(script)).arg(url).args(arguments).env("TMPDIR", dir.path());
        Self { process: Process::spawn("a browser", command), mark: 0, _dir: dir }
    }

    /// The next report, several a second.
    pub async fn report(&mut self) -> Report {
        loop {
            let line = self.process.line_after(self.mark, "{").await;
            self.mark = self.process.mark();
            let Ok(value) = serde_json::from_str::<Value>(&line) else { continue };
            return Report(value);
        }
    }

    /// Reports until one satisfies `is`.
    pub async fn until(&mut self, what: &str, mut is: impl FnMut(&Report) -> bool) -> Report {
        within(what, async {
            loop {
                let report = self.report().await;
                if is(&report) {
                    return report;
                }
            }
        })
        .await
    }
}

impl Drop for Page {
    /// A browser that is only killed still writes, so that its folder could not be removed.
    #[allow(clippy::disallowed_methods, reason = "a drop cannot await")]
    fn drop(&mut self) {
        self.process.close_input();
        let start = Instant::now();
        while self.process.has_ended().is_none() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What the page says of its player, or shows of what is live, and the browser of its page.
#[derive(Debug, Clone)]
pub struct Report(pub Value);

impl Report {
    /// A number of the report.
    pub fn number(&self, key: &str) -> f64 {
        self.0[key].as_f64().unwrap_or(f64::NAN)
    }

    /// A text of the report.
    pub fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// The texts of the live streams on a page without a player.
    pub fn streams(&self) -> Vec<&str> {
        self.0["streams"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    }
}
