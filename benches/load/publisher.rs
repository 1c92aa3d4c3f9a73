//! Publishers that send the clip in real time, over and over.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use media_core::flv::{self, TagKind};
use media_core::rtmp::Kind;
use media_core::rtmp::client::{Config, Event, Mode, Session, Target};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::clock;

use crate::clip::{self, Clip};

/// What publishers send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Send {
    /// The clip, in real time, until they are dropped.
    Clip,
    /// The clip's pictures, without its sound.
    Pictures,
    /// Sequence headers and one keyframe, then nothing.
    FirstPicture,
}

/// The media as messages' bodies.
struct Media {
    headers: Vec<(Kind, Bytes)>,
    bodies: Vec<(Kind, u32, Bytes)>,
}

impl Media {
    fn new(clip: &Clip, send: Send) -> Self {
        let header = |track| Some((kind(clip::kind(track)), flv::sequence_header(track)?.to_bytes()));
        let mut headers: Vec<_> = clip.tracks.iter().filter_map(header).collect();
        let mut bodies: Vec<_> = clip.bodies().into_iter().map(|(k, ms, body)| (kind(k), ms, body)).collect();
        if send == Send::Pictures {
            headers.retain(|(kind, _)| *kind == Kind::Video);
            bodies.retain(|(kind, ..)| *kind == Kind::Video);
        }
        Self { headers, bodies }
    }
}

fn kind(kind: TagKind) -> Kind {
    match kind {
        TagKind::Audio => Kind::Audio,
        TagKind::Video => Kind::Video,
        TagKind::Script => Kind::Data,
    }
}

/// Publishers at work. Dropped, they disconnect.
pub(crate) struct Publishers {
    tasks: JoinSet<Result<()>>,
    sent: Arc<Counts>,
    paused: watch::Sender<bool>,
}

/// What a publisher has sent.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) bytes: u64,
    pub(crate) pictures: u64,
}

#[derive(Default)]
struct Counts {
    /// Bytes and pictures of each stream.
    streams: Vec<(AtomicU64, AtomicU64)>,
    part_ns: AtomicU64,
    key_ns: AtomicU64,
}

/// Tells when pictures were sent with which something of HLS is complete.
#[derive(Clone)]
pub(crate) struct PartClock(Arc<Counts>);

impl PartClock {
    /// The newest picture behind a part, on the [`clock`](clock::now_ns).
    pub(crate) fn part_ns(&self) -> u64 {
        self.0.part_ns.load(Ordering::Relaxed)
    }

    /// The newest keyframe, on the same clock.
    pub(crate) fn key_ns(&self) -> u64 {
        self.0.key_ns.load(Ordering::Relaxed)
    }
}

impl Publishers {
    /// Pictures of a part of 200 ms.
    const PART_PICTURES: usize = 6;

    /// Connects `count` publishers of `live/s0`, `live/s1`, … spread over a second, and returns when all send.
    pub(crate) async fn start(server: SocketAddr, count: usize, send: Send) -> Result<Self> {
        let media = Arc::new(Media::new(&Clip::new(&clock::nal_unit()), send));
        let streams = (0..count).map(|_| Default::default()).collect();
        let sent = Arc::new(Counts { streams, ..Counts::default() });
        let (paused, pauses) = watch::channel(false);
        let (started, mut all_started) = tokio::sync::mpsc::channel(count.max(1));
        let mut tasks = JoinSet::new();
        for index in 0..count {
            let (media, sent, started) = (Arc::clone(&media), Arc::clone(&sent), started.clone());
            let mut pauses = pauses.clone();
            let spread = Duration::from_secs(1).mul_f64(index as f64 / count as f64);
            tasks.spawn(async move {
                tokio::time::sleep(spread).await;
                let mut publisher = Publisher::connect(server, index).await?;
                started.send(()).await?;
                publisher.run(&media, send, &sent, &mut pauses).await
            });
        }
        let mut publishers = Self { tasks, sent, paused };
        for _ in 0..count {
            tokio::select! {
                Some(()) = all_started.recv() => {}
                error = publishers.failure() => return Err(error),
            }
        }
        Ok(publishers)
    }

    /// Bytes of media sent so far, by all of them.
    pub(crate) fn sent_bytes(&self) -> u64 {
        self.sent().iter().map(|sent| sent.bytes).sum()
    }

    /// What was sent of each stream so far.
    pub(crate) fn sent(&self) -> Vec<Sent> {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let streams = self.sent.streams.iter();
        streams.map(|(bytes, pictures)| Sent { bytes: read(bytes), pictures: read(pictures) }).collect()
    }

    /// Tells when parts and segments were complete.
    pub(crate) fn part_clock(&self) -> PartClock {
        PartClock(Arc::clone(&self.sent))
    }

    /// Has them stop after the frame that each is at, or go on from there.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.send_replace(paused);
    }

    /// Lets them send for a while; an error if one of them fails.
    pub(crate) async fn keep_sending(&mut self, time: Duration) -> Result<()> {
        tokio::select! {
            () = tokio::time::sleep(time) => Ok(()),
            error = self.failure() => Err(error),
        }
    }

    async fn failure(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Err(error)) => error.into(),
            // Publishers only end with an error.
            _ => std::future::pending().await,
        }
    }
}

struct Publisher {
    index: usize,
    socket: TcpStream,
    session: Session,
    input: Vec<u8>,
}

impl Publisher {
    async fn connect(server: SocketAddr, index: usize) -> Result<Self> {
        let config = Config {
            target: Target::parse(&format!("rtmp://{server}/live/s{index}"))?,
            mode: Mode::Publish,
            flash_ver: "FMLE/3.0 (compatible; weir bench)".to_owned(),
            capabilities: Default::default(),
            timeout: Duration::from_secs(20),
        };
        let socket = TcpStream::connect(server).await?;
        socket.set_nodelay(true)?;
        let session = Session::new(config, Instant::now())?;
        let mut publisher = Self { index, socket, session, input: vec![0; 4 << 10] };
        loop {
            publisher.flush().await?;
            publisher.read().await?;
            match publisher.session.poll_event() {
                Some(Event::Started) => return Ok(publisher),
                Some(other) => bail!("stream {index}: {other:?}"),
                None => publisher.session.handle_timeout(Instant::now())?,
            }
        }
    }

    async fn flush(&mut self) -> Result<()> {
        while let Some(bytes) = self.session.poll_output() {
            self.socket.write_all(&bytes).await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        let count = self.socket.read(&mut self.input).await?;
        let input = self.input.get(..count).filter(|input| !input.is_empty());
        Ok(self.session.handle_input(Instant::now(), input.context("the server closed the connection")?)?)
    }

    /// Waits, and answers what the server says meanwhile.
    async fn wait_until(&mut self, moment: tokio::time::Instant) -> Result<()> {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(moment) => return Ok(()),
                read = self.read() => read?,
            }
            self.flush().await?;
        }
    }

    async fn send(&mut self, kind: Kind, timestamp_ms: u32, body: &[u8], sent: &Counts) -> Result<()> {
        let (bytes, pictures) = sent.streams.get(self.index).context("a stream")?;
        match clock::pieces(body).filter(|_| kind == Kind::Video) {
            Some((before, after)) => {
                let digits = clock::digits(clock::now_ns());
                self.session.send_parts(kind, timestamp_ms, &[before, &digits, after])?;
                pictures.fetch_add(1, Ordering::Relaxed);
            }
            None => self.session.send_parts(kind, timestamp_ms, &[body])?,
        }
        bytes.fetch_add(body.len() as u64, Ordering::Relaxed);
        self.flush().await
    }

    async fn run(
        &mut self,
        media: &Media,
        send: Send,
        sent: &Counts,
        pauses: &mut watch::Receiver<bool>,
    ) -> Result<()> {
        for (kind, body) in &media.headers {
            self.send(*kind, 0, body, sent).await?;
        }
        if send == Send::FirstPicture {
            let first = media.bodies.iter().find(|(kind, ..)| *kind == Kind::Video);
            let (kind, timestamp_ms, body) = first.context("a clip has a picture")?;
            self.send(*kind, *timestamp_ms, body, sent).await?;
            loop {
                self.read().await?;
                self.flush().await?;
            }
        }
        let mut began = tokio::time::Instant::now();
        let mut round_ms = 0;
        loop {
            let mut pictures = 0;
            for (kind, clip_ms, body) in &media.bodies {
                if *pauses.borrow() {
                    let since = tokio::time::Instant::now();
                    pauses.wait_for(|paused| !*paused).await?;
                    began += since.elapsed();
                }
                let timestamp_ms = round_ms + clip_ms;
                self.wait_until(began + Duration::from_millis(timestamp_ms.into())).await?;
                if *kind == Kind::Video {
                    if pictures == 0 {
                        sent.key_ns.store(clock::now_ns(), Ordering::Relaxed);
                    }
                    if pictures % Publishers::PART_PICTURES == 0 {
                        sent.part_ns.store(clock::now_ns(), Ordering::Relaxed);
                    }
                    pictures += 1;
                }
                self.send(*kind, timestamp_ms, body, sent).await?;
            }
            round_ms += 1_000 * Clip::SECONDS as u32;
        }
    }
}
