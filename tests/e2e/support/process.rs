//! A child process whose output is kept, and shown when the test fails.

use std::collections::VecDeque;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::within;

/// Lines that are kept: more than any story reads back.
const MAX_LINES: usize = 10_000;
/// Lines that a failing test shows.
const SHOWN_LINES: usize = 150;

/// A running child. It is killed when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Output>,
    collectors: [JoinHandle<()>; 2],
}

/// What a process has written to standard output and standard error, line by line.
pub struct Output {
    lines: Mutex<VecDeque<String>>,
    /// Lines that ever came.
    count: watch::Sender<usize>,
    /// Pipes that are not at their end.
    open: AtomicUsize,
}

impl Process {
    /// Starts `command`; `name` is how a failing test calls it.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        let output = Arc::new(Output {
            lines: Mutex::default(),
            count: watch::Sender::new(0),
            open: AtomicUsize::new(2),
        });
        let collectors = [
            tokio::spawn(collect(child.stdout.take().unwrap(), Arc::clone(&output))),
            tokio::spawn(collect(child.stderr.take().unwrap(), Arc::clone(&output))),
        ];
        Self { name: name.to_owned(), child, output, collectors }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_else(|| panic!("{} has ended", self.name))
    }

    /// Everything it wrote so far.
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// Waits for a line with this in it.
    pub async fn line(&self, needle: &str) -> String {
        self.line_after(0, needle).await
    }

    /// The number of lines so far: a place from which to wait for a later one.
    pub fn mark(&self) -> usize {
        *self.output.count.borrow()
    }

    /// Waits for a line with this in it that came after `mark`.
    pub async fn line_after(&self, mark: usize, needle: &str) -> String {
        let mut count = self.output.count.subscribe();
        let mut seen = mark;
        within(&format!("{:?} from {}", needle, self.name), async {
            loop {
                let ended = self.output.open.load(Ordering::Acquire) == 0;
                let now = *count.borrow_and_update();
                if let Some(line) = self.output.since(seen).into_iter().find(|line| line.contains(needle)) {
                    return line;
                }
                assert!(!ended, "{} ended without {needle:?}", self.name);
                seen = now;
                assert!(count.changed().await.is_ok());
            }
        })
        .await
    }

    /// Sends a signal: `TERM`, `HUP`, `STOP`, …
    pub async fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.pid());
        let status = Command::new("sh").arg("-c").arg(&kill).status().await.unwrap();
        assert!(status.success(), "{kill}");
    }

    /// Writes a line to its standard input.
    pub async fn write(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).await.unwrap();
        stdin.flush().await.unwrap();
    }

    /// Ends its standard input.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Has it ended by itself?
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        within(&what, self.child.wait()).await.unwrap()
    }

    /// Waits for its end and for the last of its output.
    pub async fn finish(mut self) -> (ExitStatus, String) {
        let status = self.exit().await;
        for collector in &mut self.collectors {
            within("the last output", collector).await.unwrap();
        }
        (status, self.output())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.output.text();
            let lines: Vec<&str> = text.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
            println!("---- the last of what {} wrote ----\n{}\n----", self.name, shown.join("\n"));
        }
    }
}

impl Output {
    fn text(&self) -> String {
        self.lines.lock().iter().map(|line| format!("{line}\n")).collect()
    }

    fn since(&self, mark: usize) -> Vec<String> {
        let lines = self.lines.lock();
        let first = *self.count.borrow() - lines.len();
        lines.iter().skip(mark.saturating_sub(first)).cloned().collect()
    }

    fn push(&self, line: &[u8]) {
        // The progress lines of ffmpeg end with a carriage return.
        let text = String::from_utf8_lossy(line);
        let mut lines = self.lines.lock();
        for part in text.trim_end().split('\r').filter(|part| !part.is_empty()) {
            lines.push_back(part.to_owned());
            if lines.len() > MAX_LINES {
                lines.pop_front();
            }
            self.count.send_modify(|count| *count += 1);
        }
    }
}

async fn collect(pipe: impl AsyncRead + Unpin, output: Arc<Output>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await.is_ok_and(|n| n > 0) {
        output.push(&line);
        line.clear();
    }
    output.open.fetch_sub(1, Ordering::Release);
    output.count.send_modify(|_| {});
}
