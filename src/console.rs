//! What a person at the terminal is told: results on standard output, errors on standard error.

use std::io::Write;

/// Writes to standard output. Nobody to read it is no error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes an error, however many lines it has, to standard error.
pub(crate) fn error(text: &str) {
    let mut out = std::io::stderr().lock();
    for line in text.lines() {
        let _ = writeln!(out, "weir: {line}");
    }
}
