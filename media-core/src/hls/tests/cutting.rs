//! Where parts and segments are cut, and what is in them.

use mp4_atom::{Decode, Moof};
use proptest::prelude::*;

use super::station::*;
use crate::frame::{Track, TrackId};
use crate::hls::{Config, Name, Object, Problem};

/// Per track: `tfdt` and the sum of the sample durations of each fragment, in order.
fn times(station: &Station, rendition: usize) -> Vec<(u32, u64, u64)> {
    let mut out = Vec::new();
    for segment in station.window.listed() {
        for part in (0..).take(segment.parts.len()) {
            let name = Name::Part { epoch: segment.layout.epoch, msn: segment.msn, part };
            let Object::Ready(pieces) = station.window.object(rendition, name) else { panic!("{name}") };
            let moof = Moof::decode(&mut pieces[0].bytes()).unwrap();
            for traf in &moof.traf {
                let default = traf.tfhd.default_sample_duration;
                let samples = traf.trun.iter().flat_map(|t| &t.samples);
                let sum: u64 = samples.map(|e| u64::from(e.duration.or(default).unwrap())).sum();
                out.push((traf.tfhd.track_id, traf.tfdt.as_ref().unwrap().base_media_decode_time, sum));
            }
        }
    }
    out
}

fn assert_continuous(times: &[(u32, u64, u64)]) {
    let mut next = std::collections::BTreeMap::new();
    for (track, base, sum) in times {
        if let Some(expected) = next.insert(*track, base + sum) {
            assert_eq!(*base, expected, "track {track}");
        }
    }
}

fn durations(station: &Station) -> Vec<f64> {
    station.playlist().segments.iter().filter_map(|s| s.extinf).collect()
}

fn video_only(rate: (u64, u64), gop_frames: u64, track: Track) -> Station {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[track]);
    station.frame_rate = rate;
    station.gop_frames = gop_frames;
    station.play_tracks(0..24_000, &[TrackId::VIDEO], &[]);
    station
}

#[test]
fn tfdt_is_continuous_over_parts_and_segments() {
    let station = Station::live(20);
    let times = times(&station, 0);
    assert!(times.iter().any(|(id, ..)| *id == 1) && times.iter().any(|(id, ..)| *id == 2));
    assert_continuous(&times);
}

#[test]
fn segments_begin_at_keyframes_and_only_true_independence_is_told() {
    let station = Station::live(12);
    assert!(durations(&station).iter().all(|d| (d - 2.0).abs() < 1e-9), "{:?}", durations(&station));
    for (_, index, part) in station.playlist().parts() {
        assert_eq!(part.independent, index == 0);
    }
}

#[test]
fn a_gop_that_does_not_fit_ends_the_segment_early() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.gop_frames = 45;
    station.play(0..12_000);
    assert!(durations(&station).iter().all(|d| (d - 1.5).abs() < 1e-9), "{:?}", durations(&station));
}

#[test]
fn short_gops_share_a_segment() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.gop_frames = 15;
    station.play(0..12_000);
    assert!(durations(&station).iter().all(|d| (d - 2.0).abs() < 1e-9), "{:?}", durations(&station));
}

#[test]
fn a_long_gop_is_cut_at_part_boundaries() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.gop_frames = 300;
    station.play(0..24_000);
    assert!(durations(&station).iter().all(|d| (d - 2.0).abs() < 1e-9), "{:?}", durations(&station));
    let independent: Vec<_> = station
        .seen
        .iter()
        .flat_map(|s| s.playlists[0].parts().map(|(m, i, p)| (m, i, p.independent)).collect::<Vec<_>>())
        .filter(|(.., independent)| *independent)
        .map(|(m, i, _)| (m, i))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    assert_eq!(independent, [(1, 0), (6, 0), (11, 0)], "10 s of GOP are five segments");
}

#[test]
fn a_gop_a_little_longer_than_the_target_is_not_torn() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.gop_frames = 66;
    station.play(0..24_000);
    let durations = durations(&station);
    // The first GOP's length could not be known.
    assert!(durations.iter().skip(2).all(|d| (d - 2.2).abs() < 1e-9), "{durations:?}");
}

#[test]
fn honest_part_targets_at_common_frame_rates() {
    for (rate, gop, target, part) in [
        ((60, 1), 120, 0.2, 0.2),
        ((50, 1), 100, 0.2, 0.2),
        ((25, 1), 50, 0.2, 0.2),
        ((24, 1), 48, 0.21, 0.2085),
        ((15, 1), 30, 0.2, 0.2),
        ((5, 1), 10, 0.2, 0.2),
        ((1, 1), 2, 1.0, 1.0),
    ] {
        let station = video_only(rate, gop, video_of_unknown_rate());
        let playlist = station.playlist();
        assert!((playlist.part_target - target).abs() <= 0.0011, "{rate:?}: {}", playlist.part_target);
        for segment in playlist.segments.iter().filter(|s| s.uri.is_some()) {
            let inner = segment.parts.len().saturating_sub(1);
            for p in &segment.parts[..inner] {
                assert!((p.duration - part).abs() <= 0.0011, "{rate:?}: {}", p.duration);
            }
        }
        assert!(
            durations(&station).iter().all(|d| (d - 2.0).abs() <= 0.0011),
            "{rate:?}: {:?}",
            durations(&station)
        );
        assert_continuous(&times(&station, 0));
    }
}

#[test]
fn part_targets_follow_the_frame_rate_of_the_configuration_if_the_frames_do() {
    let ntsc = video_only((30_000, 1_001), 60, video(0, AVC_2997));
    assert_eq!(ntsc.playlist().part_target, 0.201);
    // The configuration says 29.97, the frames come at 15.
    let lied = video_only((15, 1), 30, video(0, AVC_2997));
    assert_eq!(lied.playlist().part_target, 0.2);
}

#[test]
fn a_picture_that_stays_longer_than_a_part_makes_no_illegal_playlist() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30)]);
    // Every state is checked by the station.
    let mut ms = 0;
    for n in 0..400 {
        station.frame(TrackId::VIDEO, ms, n % 20 == 0);
        ms += match n % 10 {
            3 => 730,
            7 => 199,
            8 => 201,
            9 => 2_900,
            _ => 33,
        };
    }
    station.end();
    assert_continuous(&times(&station, 0));
    let playlist = station.playlist();
    assert!(playlist.segments.iter().all(|s| !s.gap && s.parts.iter().all(|p| !p.gap)));
}

#[test]
fn parts_are_published_at_most_a_part_target_and_20_ms_apart() {
    for (rate, gop) in
        [((30, 1), 60), ((30_000, 1_001), 60), ((25, 1), 50), ((24, 1), 48), ((60, 1), 250), ((5, 1), 7)]
    {
        for sound in [false, true] {
            let mut station = Station::new(Config::default());
            station.frame_rate = rate;
            station.gop_frames = gop;
            let tracks =
                if sound { vec![video_of_unknown_rate(), audio(0)] } else { vec![video_of_unknown_rate()] };
            station.tracks(1, &tracks);
            station.play_tracks(0..20_000, &[TrackId::VIDEO], if sound { &[TrackId::AUDIO] } else { &[] });
            let target = station.playlist().part_target * 1_000.0;
            let gaps = station.seen.windows(2).map(|pair| (pair[1].at_ms - pair[0].at_ms) as f64);
            let longest = gaps.fold(0.0, f64::max);
            assert!(longest <= target + 20.0, "{rate:?}: {longest} ms apart, PART-TARGET {target} ms");
        }
    }
}

#[test]
fn a_part_is_published_one_picture_after_its_last() {
    let station = Station::live(10);
    for seen in &station.seen {
        let whole: f64 = seen.playlists[0]
            .segments
            .iter()
            .map(|s| s.extinf.unwrap_or_else(|| s.parts.iter().map(|p| p.duration).sum()))
            .sum();
        // The picture behind the part begins where the part ends.
        assert!((seen.at_ms as f64 - whole * 1_000.0).abs() < 1.0, "{} for {whole} s", seen.at_ms);
    }
}

#[test]
fn tracks_that_are_seconds_apart_are_packaged_together() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    let mut sound = 0;
    for n in 0..600 {
        station.frame(TrackId::VIDEO, (n * 100 + 1) / 3, n % 60 == 0);
        while sound < n * 100 / 3 {
            station.frame(TrackId::AUDIO, sound + 3_000, true);
            sound += 21;
        }
    }
    assert!(station.playlist().segments.iter().all(|s| !s.discontinuity));
    assert_eq!(station.window.layout().unwrap().renditions[0].tracks.len(), 2);
    assert_continuous(&times(&station, 0));
}

#[test]
fn the_end_is_no_problem() {
    let mut station = Station::live(5);
    station.end();
    assert_eq!(station.segmenter.problem(), None);
}

#[test]
fn sound_alone_works() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[audio(0)]);
    station.play_tracks(0..30_000, &[], &[TrackId::AUDIO]);
    let playlist = station.playlist();
    assert_eq!(playlist.part_target, 0.2);
    assert!(playlist.parts().all(|(_, _, p)| p.independent && (p.duration - 0.192).abs() < 1e-9));
    assert!(durations(&station).iter().all(|d| (d - 1.92).abs() < 1e-9), "{:?}", durations(&station));
    assert_continuous(&times(&station, 0));
}

#[test]
fn packaging_waits_for_the_first_keyframe() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    for ms in (0..1_500).step_by(20) {
        station.frame(TrackId::AUDIO, ms, true);
        station.frame(TrackId::VIDEO, ms, false);
    }
    assert!(station.seen.is_empty());
    station.play(1_500..4_500);
    let first = &station.playlist().segments[0];
    assert!(first.parts[0].independent);
    assert_eq!(first.date_time.as_deref(), Some("2026-01-01T00:00:01.500Z"));
    let begin = times(&station, 0).iter().map(|(id, base, _)| (*id, *base)).take(2).collect::<Vec<_>>();
    let at = |ticks_per_ms: u64| (u64::try_from(EPOCH_MS).unwrap() + 1_500) * ticks_per_ms;
    assert_eq!(begin, [(1, at(90)), (2, at(48))], "sound and picture begin together");
}

#[test]
fn a_stream_that_begins_anew_has_later_timestamps_as_far_on_as_the_clock() {
    let begin = |first_ms: i64, wall_ms: i64| {
        let mut station = Station::new(Config::default());
        station.wall_from_ms = wall_ms - first_ms;
        station.tracks(1, &[video(0, AVC_30), audio(0)]);
        let first_ms = u64::try_from(first_ms).unwrap();
        station.play(first_ms..first_ms + 4_000);
        times(&station, 0)
    };
    // The encoder's clock says nothing: it may begin anew, or not.
    let before = begin(7_000, EPOCH_MS);
    let after = begin(0, EPOCH_MS + 10_000);
    for (track, ticks) in [(1, 90 * 10_000), (2, 48 * 10_000)] {
        let of = |all: &[(u32, u64, u64)]| all.iter().find(|(id, ..)| *id == track).map(|(_, at, _)| *at);
        assert_eq!(of(&after).unwrap(), of(&before).unwrap() + ticks, "track {track}");
    }
}

#[test]
fn keyframes_that_never_come_are_a_problem() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    for ms in (0..9_980).step_by(20) {
        station.frame(TrackId::VIDEO, ms, false);
        station.frame(TrackId::AUDIO, ms, true);
    }
    assert_eq!(station.segmenter.problem(), None);
    station.frame(TrackId::VIDEO, 10_000, false);
    assert_eq!(station.segmenter.problem(), Some(Problem::NoKeyframe { seconds: 10 }));
    assert!(station.segmenter.problem().unwrap().to_string().starts_with("no keyframe in the first 10 s"));
    station.play(11_000..14_000);
    assert_eq!(station.segmenter.problem(), None);
    assert!(station.window.is_ready());
}

#[test]
fn a_track_that_is_late_is_waited_for() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[audio(0)]);
    station.play_tracks(0..500, &[], &[TrackId::AUDIO]);
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.play(500..5_000);
    let playlist = station.playlist();
    assert_eq!(playlist.segments[0].map, "init-1-1.mp4");
    assert!(playlist.segments.iter().all(|s| !s.discontinuity));
    assert_eq!(station.window.layout().unwrap().renditions[0].tracks.len(), 2);
}

#[test]
fn a_picture_that_comes_after_the_sound_was_packaged_is_a_new_layout() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[audio(0)]);
    station.play_tracks(0..5_000, &[], &[TrackId::AUDIO]);
    assert!(station.window.is_ready());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.play(5_000..9_500);
    let playlist = station.playlist();
    assert_eq!(playlist.segments.iter().filter(|s| s.discontinuity).count(), 1);
    assert_eq!(station.window.layout().unwrap().renditions[0].tracks.len(), 2);
    assert_eq!(station.window.renditions().len(), 1);
}

#[test]
fn an_announced_track_that_sends_nothing_is_packaged_without() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.play_tracks(0..5_000, &[TrackId::VIDEO], &[]);
    let layout = station.window.layout().unwrap();
    assert_eq!(layout.renditions[0].tracks.len(), 1);
    assert_eq!(station.playlist().segments[0].date_time.as_deref(), Some("2026-01-01T00:00:00.000Z"));
}

#[test]
fn a_track_that_falls_silent_is_left_out_until_it_returns() {
    let mut station = Station::live(6);
    station.play_tracks(6_000..14_000, &[], &[TrackId::AUDIO]);
    assert_eq!(station.window.layout().unwrap().renditions[0].tracks[0].id, TrackId::AUDIO);
    // The sound of the two seconds in which the picture was awaited is not lost.
    station.play(14_000..20_000);
    assert_eq!(station.window.layout().unwrap().renditions[0].tracks.len(), 2);
    let playlist = station.playlist();
    assert_eq!(playlist.segments.iter().filter(|s| s.discontinuity).count(), 2);
    let total: f64 = playlist.segments.iter().filter_map(|s| s.extinf).sum();
    assert!((17.9..20.1).contains(&total), "{total}");
    let at = |seconds: u64| (u64::try_from(EPOCH_MS).unwrap() / 1_000 + seconds) * 48_000;
    let sound: u64 = times(&station, 0)
        .iter()
        .filter(|(id, base, _)| *id == 2 || (at(6)..at(15)).contains(base))
        .map(|(_, _, sum)| sum)
        .sum();
    assert!(sound >= 19 * 48_000, "{sound}");
}

#[test]
fn a_keyframe_in_every_picture_is_no_new_layout() {
    // HE-AAC at 48 kHz, and sound in packets of 120 ms.
    for sound_us in [42_667, 120_000] {
        let mut station = Station::new(Config::default());
        station.tracks(1, &[video_of_unknown_rate(), audio(0)]);
        let mut sound = 0;
        for n in 0..1_200 {
            let at_us = n * 1_000_000 / 60;
            while sound <= at_us {
                station.frame(TrackId::AUDIO, sound / 1_000, true);
                sound += sound_us;
            }
            station.frame(TrackId::VIDEO, at_us / 1_000, true);
        }
        let layout = station.window.layout().unwrap();
        assert_eq!((layout.version, layout.renditions[0].tracks.len()), (1, 2), "sound every {sound_us} µs");
    }
    // The sound fell silent once and came back.
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video_of_unknown_rate(), audio(0)]);
    for n in 0..1_200 {
        let ms = n * 1_000 / 60;
        if n % 8 == 0 && !(5_000..8_000).contains(&ms) {
            station.frame(TrackId::AUDIO, ms, true);
        }
        station.frame(TrackId::VIDEO, ms, true);
    }
    let layout = station.window.layout().unwrap();
    assert_eq!((layout.version, layout.renditions[0].tracks.len()), (3, 2));
}

#[test]
fn sound_that_goes_on_without_its_picture_goes_on_at_its_own_time() {
    let sounds = [TrackId::audio(0), TrackId::audio(1)];
    for last in sounds {
        let mut station = Station::new(Config::default());
        station.tracks(1, &[video(0, AVC_30), audio(0), audio(1)]);
        station.play_tracks(60_000..66_000, &[TrackId::VIDEO], &sounds);
        // Whichever sound is heard first after two seconds without the picture.
        let first = if last == sounds[0] { sounds[1] } else { sounds[0] };
        for ms in (66_000..70_000).step_by(21) {
            station.frame(first, ms, true);
            station.frame(last, ms, true);
        }
        station.end();
        let total: f64 = durations(&station).iter().sum();
        assert!((9.0..10.2).contains(&total), "{total} s of 10 s");
    }
}

#[test]
fn a_lost_rendition_is_a_gap() {
    let mut station = Station::new(Config::default());
    let both = [TrackId::audio(0), TrackId::audio(1)];
    station.tracks(1, &[video(0, AVC_30), audio(0), audio(1)]);
    station.play_tracks(0..6_000, &[TrackId::VIDEO], &both);
    station.tracks(2, &[video(0, AVC_30), audio(0)]);
    station.play(6_000..12_500);
    let lost = &station.seen.last().unwrap().playlists[2];
    let gone = lost.segments.iter().filter(|s| s.msn > 3 && s.uri.is_some());
    assert!(gone.clone().count() >= 2 && gone.into_iter().all(|s| s.gap && s.parts.iter().all(|p| p.gap)));
    assert!(lost.hints.is_empty(), "what would never come is not announced");
    let next: Name = station.playlist().hint().parse().unwrap();
    assert_eq!(station.window.object(0, next), Object::Hinted);
    assert_eq!(station.window.object(2, next), Object::Absent);
    let gap: Name = lost.segments[4].uri.as_ref().unwrap().parse().unwrap();
    assert_eq!(station.window.object(2, gap), Object::Absent);
    assert!(matches!(station.window.object(1, gap), Object::Ready(_)));
}

#[test]
fn an_interruption_is_a_discontinuity_and_waits_for_a_keyframe() {
    let mut station = Station::live(5);
    station.segmenter.interrupt();
    for ms in (5_000..5_900).step_by(33) {
        station.frame(TrackId::VIDEO, ms, false);
    }
    let hints = station.seen.last().unwrap().playlists[0].hints.len();
    assert_eq!(hints, 0, "what comes next is not known");
    station.play(6_000..9_000);
    let playlist = station.playlist();
    let again = playlist.segments.iter().find(|s| s.discontinuity).unwrap();
    assert!(again.parts[0].independent);
}

#[test]
fn what_waits_is_bounded() {
    let mut station = Station::new(Config::default());
    station.frame_bytes = 1 << 20;
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.frame(TrackId::AUDIO, 0, true);
    station.frame(TrackId::VIDEO, 0, true);
    // Pictures whose time does not move on.
    for n in 0..200 {
        station.frame(TrackId::VIDEO, 1, n % 3 == 0);
    }
    station.frame_bytes = 100;
    station.play(1_000..4_000);
    assert!(station.window.is_ready());
    assert!(station.window.bytes() <= Config::default().max_bytes);
}

#[test]
fn frames_that_wait_are_bounded_however_small_they_are() {
    let mut station = Station::new(Config::default());
    station.frame_bytes = 1;
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.play(0..1_000);
    // Pictures whose time does not move on.
    for _ in 0..10_000 {
        station.frame(TrackId::VIDEO, 1_000, false);
    }
    station.play(1_100..4_000);
    assert_eq!(station.window.layout().unwrap().version, 2, "it began anew");
}

/// Plays steps of (what happens, milliseconds, whether the picture is a keyframe), and the end. The station checks
/// every playlist that could have been seen.
fn play_steps(steps: &[(u8, i64, u8)], sound: bool, part_ms: u32) -> Station {
    let mut station = Station::new(Config { part_ms, ..Config::default() });
    let tracks = if sound { vec![video(0, AVC_30), audio(0)] } else { vec![video(0, AVC_30)] };
    station.tracks(1, &tracks);
    let (mut ms, mut epoch) = (0, 1);
    let mut heard = 0;
    for &(what, step, key) in steps {
        ms += if what < 90 { 20 + step % 30 } else { step * 8 };
        station.frame(TrackId::VIDEO, ms, key < 20);
        while sound && heard + 21 <= ms {
            station.frame(TrackId::AUDIO, heard, true);
            heard += 21;
        }
        if what == 99 {
            epoch += 1;
            station.tracks(epoch, &tracks);
        }
    }
    station.end();
    station
}

#[test]
fn a_stream_that_ends_without_a_keyframe_shows_nothing() {
    #[rustfmt::skip]
    let steps = [
        (0, 1, 20), (0, 1, 20), (0, 1, 20), (0, 1, 20), (0, 1, 20), (0, 1, 20), (0, 1, 20), (0, 1, 20),
        (0, 1, 20), (0, 1, 20), (0, 1, 20), (0, 1, 20), (14, 136, 56), (87, 40, 254), (62, 318, 91),
        (70, 72, 131), (53, 92, 210), (1, 300, 123), (21, 45, 249), (38, 338, 49), (56, 55, 148),
        (83, 154, 188), (77, 384, 94), (80, 311, 159), (36, 347, 23), (88, 131, 111), (87, 220, 156),
        (74, 364, 129), (57, 384, 168), (25, 155, 162), (80, 399, 242), (88, 99, 26), (26, 17, 94),
        (66, 69, 40), (68, 250, 50), (25, 375, 44), (82, 35, 42), (29, 363, 234), (79, 166, 183),
        (72, 271, 198), (52, 381, 180), (57, 219, 52), (93, 321, 53), (72, 261, 141), (11, 368, 95),
        (65, 117, 191), (26, 30, 232), (89, 395, 55), (35, 336, 199), (44, 360, 218),
    ];
    assert!(steps.iter().all(|(.., key)| *key >= 20));
    let station = play_steps(&steps, true, 500);
    assert!(station.seen.is_empty());
    assert!(station.window.ended() && !station.window.is_ready());
    assert!(station.window.renditions().is_empty(), "so any playlist is answered with 404");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_published_every_playlist_is_legal(
        steps in proptest::collection::vec((0u8..100, 1i64..400, any::<u8>()), 50..600),
        sound in any::<bool>(),
        part_ms in prop::sample::select(vec![100u32, 200, 333, 500]),
    ) {
        let station = play_steps(&steps, sound, part_ms);
        let mut msn = 0;
        for seen in &station.seen {
            prop_assert!(seen.position.msn >= msn);
            msn = seen.position.msn;
            prop_assert!(!seen.texts.is_empty());
        }
    }
}
