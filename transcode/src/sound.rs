//! A stream's tracks and frames with its sound in another codec.

use media_core::frame::{Codec, Frame, Kind, Timestamp, Track};

use crate::{Counters, Error, Options, Transcoder};

/// Stands between a stream's tracks and frames and those who take sound in one codec only. The first track of sound that
/// can be made into it is replaced, unless there already is one in that codec; all else passes as it is.
#[derive(Debug)]
pub struct Sound {
    into: Codec,
    options: Options,
    work: Option<Work>,
    /// Of transcoders before.
    past: Counters,
    /// When the newest of the frames that were made is for.
    newest: Option<Timestamp>,
}

#[derive(Debug)]
struct Work {
    from: Track,
    made: Track,
    transcoder: Transcoder,
}

impl Sound {
    /// Into Opus or AAC.
    pub fn new(into: Codec, options: Options) -> Self {
        Self { into, options, work: None, past: Counters::default(), newest: None }
    }

    /// Whether the stream has sound only in a codec that can be made into the other.
    pub fn is_wanted(tracks: &[Track], into: Codec) -> bool {
        candidate(tracks, into).is_some()
    }

    /// The tracks that come out. A track that is as it was goes on without a gap. An error says why the sound stays as it
    /// is.
    pub fn set_tracks(&mut self, tracks: &[Track]) -> (Vec<Track>, Option<Error>) {
        let from = candidate(tracks, self.into);
        let mut problem = None;
        if self.work.as_ref().map(|work| &work.from) != from {
            self.stop();
            match from.map(|from| (from, Transcoder::new(from, self.into, &self.options))) {
                Some((from, Ok((transcoder, made)))) => {
                    self.work = Some(Work { from: from.clone(), made, transcoder });
                }
                Some((_, Err(error))) => problem = Some(error),
                None => {}
            }
        }
        let made = |track: &Track| match &self.work {
            Some(work) if work.from.id == track.id => work.made.clone(),
            _ => track.clone(),
        };
        (tracks.iter().map(made).collect(), problem)
    }

    /// Takes a frame, and appends those that come of it: itself, if it is not of the track that is replaced.
    pub fn push(&mut self, frame: Frame, out: &mut Vec<Frame>) {
        match self.work.as_mut().filter(|work| work.from.id == frame.track) {
            Some(work) => {
                let from = out.len();
                work.transcoder.push(&frame, out);
                // Where samples are counted anew, or by another transcoder, they may be for a time that has passed: what is
                // made goes only forward, as what comes does.
                let mut at = from;
                while let Some(made) = out.get(at) {
                    if self.newest.is_some_and(|newest| made.dts <= newest) {
                        out.remove(at);
                    } else {
                        self.newest = Some(made.dts);
                        at += 1;
                    }
                }
            }
            None => out.push(frame),
        }
    }

    /// The track that replaces another one, if one does.
    pub fn made(&self) -> Option<&Track> {
        self.work.as_ref().map(|work| &work.made)
    }

    /// Replaces nothing any more, until tracks are set again.
    pub fn stop(&mut self) {
        self.past = self.counters();
        self.work = None;
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        let Some(work) = &self.work else { return self.past };
        let (past, now) = (self.past, work.transcoder.counters());
        Counters {
            frames: past.frames + now.frames,
            damaged: past.damaged + now.damaged,
            filled: past.filled + now.filled,
            restarts: past.restarts + now.restarts,
            stretched: past.stretched + now.stretched,
            failed: past.failed + now.failed,
        }
    }
}

fn candidate(tracks: &[Track], into: Codec) -> Option<&Track> {
    let from = match into {
        Codec::Opus => Codec::Aac,
        Codec::Aac => Codec::Opus,
        _ => return None,
    };
    let sound = || tracks.iter().filter(|track| track.id.kind == Kind::Audio);
    if sound().any(|track| track.codec == into) {
        return None;
    }
    sound().find(|track| track.codec == from)
}
