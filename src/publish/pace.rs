//! Hands a file's frames on when they are due.

use std::sync::Arc;

use media_core::flv;
use media_core::frame::{Frame, Kind as TrackKind, Timescale, Track};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep_until};

use super::queue::{Body, Due, Kind, Queue};
use super::source::{Error, Media, Source};
use super::timeline::Timeline;

/// Frames read ahead of their time: a slow disk is not noticed, and a large file is not all in memory.
const READ_AHEAD: usize = 64;

/// Reads `source` in a thread of its own, from `repeat` again and again, without a gap in time.
pub(crate) fn read(mut source: Source, repeat: bool) -> mpsc::Receiver<Result<Media, Error>> {
    let (media, frames) = mpsc::channel(READ_AHEAD);
    tokio::spawn(async move {
        let sender = media.clone();
        let reading = tokio::task::spawn_blocking(move || {
            // A closed channel means that nobody wants more; only the file's own errors are told.
            if let Err(error) = read_rounds(&mut source, repeat, &sender) {
                let _ = sender.blocking_send(Err(error));
            }
        });
        // The reader of a hostile MP4 file may panic; that is the file's fault.
        if reading.await.is_err() {
            let _ = media.send(Err(Error::Broken)).await;
        }
    });
    frames
}

fn read_rounds(
    source: &mut Source,
    repeat: bool,
    sender: &mpsc::Sender<Result<Media, Error>>,
) -> Result<(), Error> {
    let mut timeline = Timeline::default();
    let mut tracks = Vec::new();
    loop {
        while let Some(media) = source.next()? {
            let media = match media {
                // The same again in every round is no news.
                Media::Tracks(again) if again == tracks => continue,
                Media::Tracks(changed) => {
                    tracks.clone_from(&changed);
                    Media::Tracks(changed)
                }
                Media::Frame(frame) => Media::Frame(timeline.place(frame)),
            };
            if sender.blocking_send(Ok(media)).is_err() {
                return Ok(());
            }
        }
        if timeline.is_empty() {
            return Err(Error::Empty);
        }
        if !repeat {
            return Ok(());
        }
        timeline.next_round();
        source.rewind()?;
    }
}

/// Puts every frame into `queue` when it is due, counted from now. Ends with the file.
pub(crate) async fn pace(
    mut frames: mpsc::Receiver<Result<Media, Error>>,
    queue: Arc<Queue>,
) -> Result<(), Error> {
    let begin = Instant::now();
    let mut tracks: Vec<Track> = Vec::new();
    while let Some(media) = frames.recv().await {
        match media? {
            Media::Tracks(changed) => {
                tracks = changed;
                queue.describe(
                    headers(&tracks, elapsed_ms(begin)),
                    tracks.iter().any(|t| t.video().is_some()),
                );
            }
            Media::Frame(frame) => {
                let Some(track) = tracks.iter().find(|t| t.id == frame.track) else { continue };
                sleep_until(begin + since_start(&frame)).await;
                queue.push(due(track, &frame));
            }
        }
    }
    Ok(())
}

fn since_start(frame: &Frame) -> Duration {
    // Frames are on the 90 kHz clock that `source` promises.
    let ticks = u64::try_from(frame.dts.0).unwrap_or_default();
    let second = u64::from(Timescale::HZ_90K.get());
    Duration::from_secs(ticks / second) + Duration::from_micros(ticks % second * 1_000_000 / second)
}

fn elapsed_ms(begin: Instant) -> u32 {
    // Modulo 2³², as RTMP's timestamps are.
    u32::try_from(begin.elapsed().as_millis() & 0xffff_ffff).unwrap_or_default()
}

fn due(track: &Track, frame: &Frame) -> Due {
    let kind = match track.id.kind {
        TrackKind::Video => Kind::Video { keyframe: frame.keyframe },
        TrackKind::Audio => Kind::Audio,
    };
    Due {
        kind,
        timestamp_ms: flv::timestamp_ms(track, frame),
        body: flv::frame_body(track, frame).to_bytes(),
    }
}

/// What a server must know before the first frame: `onMetaData` and the sequence headers.
fn headers(tracks: &[Track], timestamp_ms: u32) -> Vec<Due> {
    let metadata = Due { kind: Kind::Header(Body::Data), timestamp_ms, body: flv::metadata(tracks, &[]) };
    let sequence_headers = tracks.iter().filter_map(|track| {
        let kind = match track.id.kind {
            TrackKind::Video => Kind::Header(Body::Video),
            TrackKind::Audio => Kind::Header(Body::Audio),
        };
        Some(Due { kind, timestamp_ms, body: flv::sequence_header(track)?.to_bytes() })
    });
    std::iter::once(metadata).chain(sequence_headers).collect()
}

#[cfg(test)]
mod tests {
    use media_core::codec;
    use media_core::frame::{Codec, Timestamp, TrackId};

    use super::*;
    use crate::publish::source::bundled;

    fn aac() -> Track {
        codec::track(TrackId::AUDIO, Codec::Aac, Timescale::HZ_90K, vec![0x11, 0x90].into()).unwrap()
    }

    fn frame(ms: i64) -> Frame {
        Frame {
            track: TrackId::AUDIO,
            dts: Timestamp::from_millis(ms, Timescale::HZ_90K),
            cts: 0,
            keyframe: true,
            data: vec![1, 2, 3].into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn frames_come_when_they_are_due() {
        let (media, frames) = mpsc::channel(8);
        let queue = Arc::new(Queue::default());
        queue.connect();
        media.send(Ok(Media::Tracks(vec![aac()]))).await.unwrap();
        for ms in [0, 21, 1_000] {
            media.send(Ok(Media::Frame(frame(ms)))).await.unwrap();
        }
        drop(media);
        let begin = Instant::now();
        let pacing = tokio::spawn(pace(frames, Arc::clone(&queue)));
        let mut came = Vec::new();
        while came.len() < 3 {
            let due = queue.next().await.unwrap();
            if due.kind == Kind::Audio {
                came.push((due.timestamp_ms, begin.elapsed().as_millis()));
            }
        }
        // The paused clock moves in whole milliseconds, to the next timer.
        assert_eq!(came, [(0, 0), (21, 21), (1_000, 1_000)]);
        pacing.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_error_is_told() {
        let (media, frames) = mpsc::channel(1);
        media.send(Err(Error::Empty)).await.unwrap();
        assert!(matches!(pace(frames, Arc::default()).await, Err(Error::Empty)));
    }

    #[tokio::test]
    async fn the_demo_clip_repeats_without_a_gap() {
        let mut frames = read(Source::new(bundled(crate::demo::CLIP)).unwrap(), true);
        let (mut video, mut audio) = (Vec::new(), Vec::new());
        while video.len() < 500 {
            match frames.recv().await.unwrap().unwrap() {
                Media::Tracks(tracks) => assert!(video.is_empty(), "tracks change in the middle: {tracks:?}"),
                Media::Frame(frame) => match frame.track.kind {
                    TrackKind::Video => video.push(frame),
                    TrackKind::Audio => audio.push(frame),
                },
            }
        }
        let ms = |f: &Frame| f.dts.millis(Timescale::HZ_90K);
        assert!(video.windows(2).all(|w| ms(&w[1]) - ms(&w[0]) == 40), "25 pictures a second");
        assert!(audio.windows(2).all(|w| (21..=22).contains(&(ms(&w[1]) - ms(&w[0])))), "1024 samples each");
        assert!(video.iter().enumerate().all(|(i, f)| f.keyframe == (i % 25 == 0)), "a GOP a second");
        assert!(video.iter().all(|f| f.cts == 0), "no B-frames");
    }
}
