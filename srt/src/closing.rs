//! Closes sockets in a thread of its own: libsrt waits there for a socket's threads to end.

use std::sync::OnceLock;

use parking_lot::{Condvar, Mutex};

use crate::raw::{self, Id};

struct Closing {
    /// Sockets that nobody has any more; no more than there were.
    sockets: Mutex<Vec<Id>>,
    more: Condvar,
}

static CLOSING: OnceLock<Option<Closing>> = OnceLock::new();

/// Closes a socket soon.
pub(crate) fn close(id: Id) {
    let closing = CLOSING.get_or_init(|| {
        // The thread waits for the cell to be set.
        let thread = std::thread::Builder::new().name("srt-close".to_owned()).spawn(run);
        if let Err(error) = &thread {
            tracing::warn!(%error, "no thread for closing SRT sockets; it is done in place");
        }
        thread.ok().map(|_| Closing { sockets: Mutex::default(), more: Condvar::new() })
    });
    match closing {
        Some(closing) => {
            closing.sockets.lock().push(id);
            closing.more.notify_one();
        }
        None => raw::close(id),
    }
}

fn run() {
    let Some(closing) = CLOSING.wait() else { return };
    loop {
        let mut sockets = closing.sockets.lock();
        while sockets.is_empty() {
            closing.more.wait(&mut sockets);
        }
        let these = std::mem::take(&mut *sockets);
        drop(sockets);
        these.into_iter().for_each(raw::close);
    }
}
