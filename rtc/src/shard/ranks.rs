//! Which of a publisher's layers is which track: the largest picture is the main one, whatever came first.

use media_core::frame::{Kind, Track, TrackId};

/// The tracks that layers are handed on as. What one is called stays as it is while the publisher stays.
#[derive(Debug, Default)]
pub(super) struct Ranks(Vec<(TrackId, TrackId)>);

impl Ranks {
    /// Names tracks, in their order then.
    pub(super) fn tracks(&mut self, mut tracks: Vec<Track>) -> Vec<Track> {
        let pixels =
            |track: &Track| track.video().map_or(0, |video| u64::from(video.width) * u64::from(video.height));
        // Those of one size stay in the order they were named in.
        tracks.sort_by_key(|track| (track.id.kind, std::cmp::Reverse(pixels(track)), track.id.index));
        for track in &mut tracks {
            track.id = self.name(track.id);
        }
        tracks.sort_by_key(|track| track.id);
        tracks
    }

    /// The name of a track that was among [`Self::tracks`].
    pub(super) fn of(&self, id: TrackId) -> TrackId {
        self.0.iter().find(|(own, _)| *own == id).map_or(id, |(_, name)| *name)
    }

    fn name(&mut self, id: TrackId) -> TrackId {
        if id.kind != Kind::Video {
            return id;
        }
        if let Some((_, name)) = self.0.iter().find(|(own, _)| *own == id) {
            return *name;
        }
        let name = TrackId::video(u8::try_from(self.0.len()).unwrap_or(u8::MAX));
        self.0.push((id, name));
        name
    }
}

#[cfg(test)]
mod tests {
    use media_core::codec;
    use media_core::frame::{Codec, Timescale};

    use super::*;

    fn track(index: u8, side: u8) -> Track {
        // VP9's configuration ends in the picture's size.
        let config = [1, 0, 0, 0, 0, 10, 0x82, 2, 2, 2, 0, 0, 0, side, 0, side];
        codec::track(TrackId::video(index), Codec::Vp9, Timescale::HZ_90K, config.to_vec().into()).unwrap()
    }

    #[test]
    fn the_largest_is_the_main_one_and_names_stay() {
        let mut ranks = Ranks::default();
        let widths = |tracks: &[Track]| tracks.iter().map(|t| t.video().unwrap().width).collect::<Vec<_>>();
        let tracks = ranks.tracks(vec![track(0, 16), track(1, 64)]);
        assert_eq!(widths(&tracks), [64, 16]);
        assert_eq!((tracks[0].id, ranks.of(TrackId::video(0))), (TrackId::VIDEO, TrackId::video(1)));
        // A layer that comes later, and one that becomes smaller, change nobody's name.
        let tracks = ranks.tracks(vec![track(0, 16), track(1, 8), track(2, 32)]);
        assert_eq!(widths(&tracks), [8, 16, 32]);
        assert_eq!(ranks.of(TrackId::AUDIO), TrackId::AUDIO);
    }
}
