//! Streams whose sound an operator does not want to be heard.

use std::collections::HashSet;

use media_core::hub::{Registry, Stream, StreamKey};
use parking_lot::Mutex;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Mutes(Mutex<HashSet<StreamKey>>);

impl Mutes {
    /// These are muted from now on, and no others.
    pub(crate) fn replace(&self, muted: HashSet<StreamKey>, registry: &Registry) {
        let mut now = self.0.lock();
        // Under the lock: a stream that begins meanwhile is seen here, or waits for it.
        for stream in registry.streams() {
            let is_muted = muted.contains(stream.key());
            if is_muted != now.contains(stream.key()) {
                tracing::info!(stream = %stream.key(), is_muted, "told whether a stream is heard");
            }
            stream.mute(is_muted);
        }
        *now = muted;
    }

    /// A stream begins.
    pub(crate) fn apply(&self, stream: &Stream) {
        let muted = self.0.lock();
        stream.mute(muted.contains(stream.key()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use crate::Config;
    use crate::testing::{key, origin, publish, send};

    #[tokio::test]
    async fn who_is_muted_is_not_heard_also_when_it_comes_later_and_pictures_go_on() {
        let origin = origin(Config::default());
        origin.mute(HashSet::from([key()]));
        let mut publication = publish(&origin, 0);
        let counts = || {
            let snapshot = origin.registry().stream(&key()).unwrap().snapshot();
            (snapshot.video_frames, snapshot.audio_frames)
        };
        let (pictures, sound) = counts();
        assert!(pictures > 0 && sound == 0, "{pictures} pictures, {sound} frames of sound");
        origin.mute(HashSet::new());
        send(&mut publication, 1_000);
        assert!(counts().0 == pictures * 2 && counts().1 > 0);
        let heard = counts().1;
        origin.mute(HashSet::from([key()]));
        send(&mut publication, 2_000);
        assert_eq!(counts(), (pictures * 3, heard));
        // What is told of how loud it is is told once.
        publication.stream().set_audio_level(40);
        assert_eq!(origin.audio_levels(|_| true), [(key(), 40)]);
        assert!(origin.audio_levels(|_| true).is_empty());
    }
}
