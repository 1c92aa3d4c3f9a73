//! The access log's file: lines go through a bounded queue to a thread of their own, so that no viewer waits for a disk.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::record::Line;
use crate::metrics::Metrics;

/// Lines that wait to be written (some 600 bytes each); further ones are dropped and counted.
const QUEUED: usize = 16_384;

/// How often the end looks whether the last record is written.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum To {
    Stdout,
    File(PathBuf),
}

impl To {
    /// Of a configured path; `None` is nowhere.
    pub(super) fn parse(path: &str) -> Option<Self> {
        match path {
            "off" => None,
            "stdout" => Some(Self::Stdout),
            path => Some(Self::File(path.into())),
        }
    }

    fn open(&self) -> io::Result<Box<dyn Write + Send>> {
        match self {
            Self::Stdout => Ok(Box::new(io::stdout())),
            Self::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                let file = file.map_err(|error| {
                    io::Error::new(error.kind(), format!("access log {}: {error}", path.display()))
                })?;
                Ok(Box::new(file))
            }
        }
    }
}

enum Letter {
    Line(Box<Line>),
    /// Nothing; so that it is looked whether the file is to be opened again.
    Wake,
    /// All that came before is to be in the file, and these.
    Flush(Vec<Line>, oneshot::Sender<()>),
}

/// The log. Its thread ends with it.
pub(super) struct Log {
    queue: SyncSender<Letter>,
    reopen: Arc<AtomicBool>,
    /// The process ends: no line is dropped any more.
    ending: AtomicBool,
    /// What did not fit in the queue since then: all who are there are hung up on at once. No more than there are records.
    last: Mutex<Vec<Line>>,
    metrics: Arc<Metrics>,
}

impl Log {
    /// Opens the file and starts the thread.
    pub(super) fn start(to: To, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let out = to.open()?;
        let (queue, letters) = sync_channel(QUEUED);
        let reopen = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            to,
            out: BufWriter::new(out),
            letters,
            reopen: Arc::clone(&reopen),
            metrics: Arc::clone(metrics),
            broken: false,
        };
        thread::Builder::new().name("access-log".into()).spawn(move || writer.run())?;
        Ok(Self::new(queue, reopen, metrics))
    }

    fn new(queue: SyncSender<Letter>, reopen: Arc<AtomicBool>, metrics: &Arc<Metrics>) -> Self {
        let (ending, last) = (AtomicBool::new(false), Mutex::default());
        Self { queue, reopen, ending, last, metrics: Arc::clone(metrics) }
    }

    pub(super) fn write(&self, line: Box<Line>) {
        match self.queue.try_send(Letter::Line(line)) {
            Ok(()) => {}
            Err(TrySendError::Full(Letter::Line(line))) if self.ending.load(Ordering::Relaxed) => {
                self.last.lock().push(*line);
            }
            Err(_) => self.metrics.log_dropped.inc(),
        }
    }

    /// From now on no line is dropped: only those come that are to come of records that there are.
    pub(super) fn ends(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Resolves when no record is left that has a line to write.
    pub(super) async fn all_left(self: &Arc<Self>) {
        // Each record has a share of the log.
        while Arc::strong_count(self) > 1 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Opens the file again, which was moved away.
    pub(super) fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
        // If the queue is full, the thread is awake.
        let _ = self.queue.try_send(Letter::Wake);
    }

    /// Resolves when what was logged before is written.
    pub(super) async fn flush(&self) {
        let (done, written) = oneshot::channel();
        let (queue, last) = (self.queue.clone(), std::mem::take(&mut *self.last.lock()));
        // It waits for room, but only for the thread.
        let sent = tokio::task::spawn_blocking(move || queue.send(Letter::Flush(last, done)).is_ok());
        if sent.await.unwrap_or(false) {
            // Dropped only if the thread is gone.
            let _ = written.await;
        }
    }
}

struct Writer {
    to: To,
    out: BufWriter<Box<dyn Write + Send>>,
    letters: Receiver<Letter>,
    reopen: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
    /// The last line could not be written, and that was said.
    broken: bool,
}

impl Writer {
    fn run(mut self) {
        loop {
            let letter = match self.letters.try_recv() {
                Ok(letter) => letter,
                Err(TryRecvError::Disconnected) => break,
                Err(TryRecvError::Empty) => {
                    let flushed = self.out.flush();
                    self.note(flushed);
                    match self.letters.recv() {
                        Ok(letter) => letter,
                        Err(_) => break,
                    }
                }
            };
            if self.reopen.swap(false, Ordering::Relaxed) {
                self.open_again();
            }
            match letter {
                Letter::Line(line) => self.write(&line),
                Letter::Wake => {}
                Letter::Flush(last, done) => {
                    last.iter().for_each(|line| self.write(line));
                    let flushed = self.out.flush();
                    self.note(flushed);
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
            }
        }
        let flushed = self.out.flush();
        self.note(flushed);
    }

    fn write(&mut self, line: &Line) {
        let written = serde_json::to_writer(&mut self.out, line).map_err(io::Error::from);
        let written = written.and_then(|()| self.out.write_all(b"\n"));
        self.note(written);
    }

    fn open_again(&mut self) {
        let flushed = self.out.flush();
        self.note(flushed);
        match self.to.open() {
            Ok(out) => self.out = BufWriter::new(out),
            Err(error) => self.note(Err(error)),
        }
    }

    /// Counts a failure and says the first of several.
    fn note(&mut self, result: io::Result<()>) {
        let Err(error) = result else {
            self.broken = false;
            return;
        };
        self.metrics.log_failed.inc();
        if !std::mem::replace(&mut self.broken, true) {
            tracing::error!(%error, "the access log cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::record::line;

    fn lines(path: &std::path::Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn lines_are_in_the_file_that_is_there_after_it_was_moved() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.jsonl");
        let metrics = Arc::new(Metrics::new());
        let log = Log::start(To::File(path.clone()), &metrics).unwrap();
        log.write(line("/one"));
        log.flush().await;
        assert_eq!(lines(&path)[0]["path"], "/one");
        let moved = dir.path().join("access.jsonl.1");
        std::fs::rename(&path, &moved).unwrap();
        log.write(line("/two"));
        log.flush().await;
        log.reopen();
        log.write(line("/three"));
        log.flush().await;
        assert_eq!(lines(&moved).len(), 2);
        assert_eq!(lines(&path).len(), 1);
        assert_eq!((metrics.log_dropped.get(), metrics.log_failed.get()), (0, 0));
    }

    #[tokio::test]
    async fn a_full_disk_is_counted() {
        let metrics = Arc::new(Metrics::new());
        let log = Log::start(To::File("/dev/full".into()), &metrics).unwrap();
        log.write(line("/one"));
        log.flush().await;
        assert!(metrics.log_failed.get() > 0);
        let nowhere = To::File("/nowhere/access.jsonl".into());
        assert!(Log::start(nowhere, &metrics).err().unwrap().to_string().contains("/nowhere/access.jsonl"));
    }

    #[test]
    fn what_does_not_fit_in_the_queue_is_dropped_and_counted() {
        let metrics = Arc::new(Metrics::new());
        let (queue, letters) = sync_channel(2);
        let log = Log::new(queue, Arc::default(), &metrics);
        (0..5).for_each(|_| log.write(line("/")));
        assert_eq!(metrics.log_dropped.get(), 3);
        log.ends();
        (0..5).for_each(|_| log.write(line("/")));
        assert_eq!((metrics.log_dropped.get(), log.last.lock().len()), (3, 5), "kept for the last flush");
        drop(letters);
        log.write(line("/"));
        assert_eq!(metrics.log_dropped.get(), 4);
    }

    #[tokio::test]
    async fn the_lines_of_an_end_are_all_written_however_many_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.jsonl");
        let metrics = Arc::new(Metrics::new());
        let log = Arc::new(Log::start(To::File(path.clone()), &metrics).unwrap());
        let record = Arc::clone(&log);
        log.ends();
        let writes =
            tokio::task::spawn_blocking(move || (0..3 * QUEUED).for_each(|_| record.write(line("/"))));
        log.all_left().await;
        log.flush().await;
        writes.await.unwrap();
        assert_eq!((lines(&path).len(), metrics.log_dropped.get()), (3 * QUEUED, 0));
    }
}
