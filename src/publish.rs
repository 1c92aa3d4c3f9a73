//! `weir publish`: sends a file to an RTMP server in real time.

mod connection;
mod flv_file;
mod mp4_file;
mod pace;
mod progress;
mod queue;
mod source;
mod timeline;

use std::future::Future;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::{cli, console, log};
use connection::Connection;
use media_core::rtmp::client::{Target, TargetError};
pub(crate) use queue::Queue;
pub(crate) use source::bundled;
use source::{Input, Source};

/// Between the first two attempts to come back; doubled for each further one.
const FIRST_BACK_OFF: Duration = Duration::from_millis(500);
/// Between two attempts at most: a server that restarts is found again soon.
const MAX_BACK_OFF: Duration = Duration::from_secs(10);
/// What the server gets for a good-bye.
const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// Why a publish ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The file cannot be sent.
    #[error(transparent)]
    File(#[from] source::Error),
    /// The URL is none that can be published to.
    #[error("{0}; expected rtmp://host[:port]/app/name")]
    Url(#[from] TargetError),
    /// The server cannot be reached, or the connection broke.
    #[error("{server}: {what}")]
    Connection { server: String, what: String },
    /// The server said no.
    #[error("{server} refused: {code}: {description}")]
    Refused { server: String, code: String, description: String },
}

impl Error {
    /// Whether a publisher that was live may come back: the connection broke, or the server is going to.
    fn is_passing(&self) -> bool {
        match self {
            Self::Connection { .. } => true,
            Self::Refused { code, .. } => code == "NetConnection.Connect.AppShutdown",
            Self::File(_) | Self::Url(_) => false,
        }
    }

    /// Whether a publisher that wants to come back need not try again. That the name is taken is not for ever:
    /// the server may not have noticed yet that the old connection is gone.
    fn is_final(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "NetStream.Publish.Denied")
    }

    /// As the help of `weir publish` lists them.
    fn exit_code(&self) -> u8 {
        match self {
            Self::File(_) => 1,
            Self::Url(_) => 2,
            Self::Connection { .. } => 3,
            Self::Refused { .. } => 4,
        }
    }
}

/// The command.
pub(crate) async fn command(args: &cli::Publish) -> ExitCode {
    // Without it a connection that is made again would go unnoticed.
    let level = if args.quiet { "error" } else { "warn" };
    if let Err(error) = log::start(&log::Config { level: level.into(), ..log::Config::default() }) {
        console::error(&format!("{error:#}"));
    }
    let queue = Arc::new(Queue::default());
    let publishing = async {
        let target = Target::parse(&args.url)?;
        let input = source::open(&args.file).map_err(source::Error::Io)?;
        publish(input, &target, args.repeat, &queue, crate::signals::terminate()).await
    };
    let result = if args.quiet {
        publishing.await
    } else {
        tokio::select! {
            result = publishing => result,
            () = progress::show(&queue) => Ok(()),
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let about = match &error {
                Error::File(_) => format!("{}: ", args.file.display()),
                _ => String::new(),
            };
            console::error(&format!("{about}{error}"));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Sends `input` to `target` until its end, or until `stop`; with `repeat` again and again, and to a new
/// connection when one breaks.
pub(crate) async fn publish(
    input: Input,
    target: &Target,
    repeat: bool,
    queue: &Arc<Queue>,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut stop = pin!(stop);
    // Opening reads a file's index, which may take as long as the disk wants.
    let opened = tokio::task::spawn_blocking(move || Source::new(input)).await;
    let source = opened.unwrap_or(Err(source::Error::Broken))?;
    let frames = pace::read(source, repeat);
    let connection = tokio::select! {
        connection = Connection::open(target) => connection?,
        () = &mut stop => return Ok(()),
    };
    let mut pacing = pin!(pace::pace(frames, Arc::clone(queue)));
    let mut sending = pin!(send(connection, target, repeat, queue));
    let mut paced = None;
    loop {
        tokio::select! {
            result = &mut sending => return result.and(paced.unwrap_or(Ok(())).map_err(Error::File)),
            result = &mut pacing, if paced.is_none() => {
                paced = Some(result);
                queue.close();
            }
            () = &mut stop => {
                queue.disconnect();
                queue.close();
                // A server that does not take the good-bye will notice that the connection is gone.
                return timeout(STOP_DEADLINE, sending).await.unwrap_or(Ok(()));
            }
        }
    }
}

/// Sends what `queue` hands out; with `reconnect` over as many connections as it takes.
async fn send(first: Connection, target: &Target, reconnect: bool, queue: &Queue) -> Result<(), Error> {
    let mut connection = first;
    loop {
        queue.connect();
        let result = connection.send_all(queue).await;
        queue.disconnect();
        match result {
            Err(error) if reconnect && error.is_passing() => tracing::warn!(%error, "connecting again"),
            result => return result,
        }
        let mut back_off = FIRST_BACK_OFF;
        connection = loop {
            sleep(back_off).await;
            back_off = (back_off * 2).min(MAX_BACK_OFF);
            match Connection::open(target).await {
                Ok(connection) => break connection,
                Err(error) if error.is_final() => return Err(error),
                Err(error) => tracing::warn!(%error, "still not connected"),
            }
        };
    }
}

#[cfg(test)]
mod tests;
