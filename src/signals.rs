//! What the operating system tells the process.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a serving process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// SIGTERM, SIGINT: end.
    End,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals a serving process listens to.
pub(crate) struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// From now on these signals do nothing but come out of [`Signals::next`].
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.term.recv() => Told::End,
            _ = self.int.recv() => Told::End,
            _ = self.hup.recv() => Told::Reload,
        }
    }

    /// Waits for a signal to end, whatever else comes.
    pub(crate) async fn end(&mut self) {
        while self.next().await != Told::End {}
    }
}

/// Waits until the process is to end; for commands that have nothing to read again.
pub(crate) async fn terminate() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Signals then end the process as they always do.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
