//! What a server must do (RFC 8216bis §6.2, appendix B), as far as it shows without a server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::reader::Playlist;
use super::station::*;
use crate::frame::TrackId;
use crate::hls::playlist::{self, Form};
use crate::hls::{Config, Name, Object, Query, Reload, Window};

fn ask(station: &Station, query: &str) -> Reload {
    station.window.reload(&Query::parse(query).unwrap())
}

#[test]
fn msn_alone_is_answered_when_that_segment_is_complete() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.play(0..3_900);
    assert_eq!(station.window.position().msn, 2);
    assert_eq!(ask(&station, "_HLS_msn=1"), Reload::Ready);
    assert_eq!(ask(&station, "_HLS_msn=2"), Reload::Wait);
    station.frame(TrackId::VIDEO, 3_967, false);
    assert_eq!(ask(&station, "_HLS_msn=2"), Reload::Wait);
    station.frame(TrackId::VIDEO, 4_000, true);
    assert_eq!(ask(&station, "_HLS_msn=2"), Reload::Ready);
    assert!(station.playlist().segments.iter().any(|s| s.msn == 2 && s.uri.is_some()));
}

#[test]
fn msn_and_part_is_answered_when_that_part_is_there() {
    let mut station = Station::live(4);
    let now = station.window.position();
    let query = format!("_HLS_msn={}&_HLS_part={}", now.msn, now.parts);
    let before = format!("_HLS_msn={}&_HLS_part={}", now.msn, now.parts - 1);
    assert_eq!((ask(&station, &before), ask(&station, &query)), (Reload::Ready, Reload::Wait));
    station.play(4_000..4_300);
    assert_eq!(ask(&station, &query), Reload::Ready);
}

#[test]
fn a_part_past_the_segments_last_is_part_0_of_the_next() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.play(0..2_001);
    // Segment 1 is complete with ten parts; segment 2 has none.
    assert_eq!((station.window.position().msn, station.window.position().parts), (2, 0));
    assert_eq!(ask(&station, "_HLS_msn=1&_HLS_part=9"), Reload::Ready);
    assert_eq!(ask(&station, "_HLS_msn=1&_HLS_part=10"), Reload::Wait);
    assert_eq!(ask(&station, "_HLS_msn=2&_HLS_part=0"), Reload::Wait);
    station.play(2_001..2_250);
    assert_eq!(ask(&station, "_HLS_msn=1&_HLS_part=10"), Reload::Ready);
    // While the segment grows, nobody knows which part is its last.
    assert_eq!(ask(&station, "_HLS_msn=2&_HLS_part=12"), Reload::Wait);
}

#[test]
fn an_evicted_msn_gets_the_full_playlist_at_once() {
    let station = Station::live(90);
    assert!(station.playlist().media_sequence > 2);
    assert!(station.window.segment(2).is_none());
    for query in ["_HLS_msn=2", "_HLS_msn=2&_HLS_part=3", "_HLS_msn=2&_HLS_part=4000", "_HLS_msn=0"] {
        assert_eq!(ask(&station, query), Reload::Ready, "{query}");
    }
}

#[test]
fn queries_that_are_too_far_ahead_are_refused_at_once() {
    let station = Station::live(5);
    let now = station.window.position();
    // Segment 2 is the last complete one, 3 grows.
    assert_eq!(now.msn, 3);
    assert_eq!(ask(&station, "_HLS_msn=4"), Reload::Wait);
    assert_eq!(ask(&station, "_HLS_msn=5"), Reload::TooFarAhead);
    assert_eq!(ask(&station, "_HLS_msn=18446744073709551615"), Reload::TooFarAhead);
    // 3 s of 200 ms parts are 15.
    let newest = now.parts - 1;
    assert_eq!(ask(&station, &format!("_HLS_msn=3&_HLS_part={}", newest + 15)), Reload::Wait);
    assert_eq!(ask(&station, &format!("_HLS_msn=3&_HLS_part={}", newest + 16)), Reload::TooFarAhead);
    assert_eq!(ask(&station, "_HLS_msn=4&_HLS_part=14"), Reload::Wait);
    assert_eq!(ask(&station, "_HLS_msn=4&_HLS_part=15"), Reload::TooFarAhead);
    assert_eq!(ask(&station, "_HLS_msn=3&_HLS_part=4294967295"), Reload::TooFarAhead);
}

#[test]
fn the_advance_limit_is_three_parts_when_parts_take_a_second() {
    let mut station = Station::new(Config { part_ms: 1_000, segment_ms: 4_000, ..Config::default() });
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.play(0..9_200);
    let now = station.window.position();
    let newest = now.parts - 1;
    assert_eq!(ask(&station, &format!("_HLS_msn={}&_HLS_part={}", now.msn, newest + 3)), Reload::Wait);
    assert_eq!(ask(&station, &format!("_HLS_msn={}&_HLS_part={}", now.msn, newest + 4)), Reload::TooFarAhead);
}

#[test]
fn target_duration_never_changes_and_sequences_never_decrease() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.play(0..40_000);
    station.tracks(2, &[video(0, AVC_2997), audio(0)]);
    station.gop_frames = 7;
    station.play(40_500..80_000);
    station.tracks(2, &[audio(0)]);
    station.play_tracks(80_000..120_000, &[], &[TrackId::AUDIO]);
    let first = &station.seen[0].playlists[0];
    assert_eq!(first.media_sequence, 1, "MSN starts at 1");
    let mut last = first.clone();
    for playlist in station.seen.iter().map(|s| &s.playlists[0]) {
        assert_eq!(playlist.target_duration, 2);
        assert_eq!(playlist.part_target, first.part_target);
        assert!(playlist.media_sequence >= last.media_sequence);
        assert!(playlist.discontinuity_sequence >= last.discontinuity_sequence);
        // The discontinuity sequence of a segment that stays is the same in every playlist.
        let number = |p: &Playlist, msn: u64| {
            let before = p.segments.iter().filter(|s| s.msn <= msn && s.discontinuity).count();
            p.discontinuity_sequence + before as u64
        };
        for segment in &playlist.segments {
            if last.segments.iter().any(|s| s.msn == segment.msn) {
                assert_eq!(number(playlist, segment.msn), number(&last, segment.msn));
            }
        }
        last = playlist.clone();
    }
    assert_eq!(last.discontinuity_sequence, 2, "both discontinuities left the window");
}

#[test]
fn part_hold_back_is_at_least_three_part_targets() {
    for rate in [(30, 1), (30_000, 1_001), (24, 1), (5, 1), (1, 1)] {
        let mut station = Station::new(Config::default());
        station.tracks(1, &[video_of_unknown_rate()]);
        station.frame_rate = rate;
        station.gop_frames = 1;
        station.play_tracks(0..9_000, &[TrackId::VIDEO], &[]);
        let playlist = station.playlist();
        let hold_back: f64 = playlist.server_control["PART-HOLD-BACK"].parse().unwrap();
        assert!(hold_back >= 3.0 * playlist.part_target - 1e-9, "{rate:?}");
    }
}

#[test]
fn part_lines_leave_after_three_target_durations_and_the_parts_stay_for_another_three() {
    let mut station = Station::live(3);
    let uri = station.playlist().segments[0].parts[4].uri.clone();
    let name: Name = uri.parse().unwrap();
    let end_of_part = 1_000;
    let mut left = None;
    for ms in (3_000..16_000).step_by(100) {
        station.play_part(ms..ms + 100);
        let listed = station.playlist().parts().any(|(_, _, p)| p.uri == uri);
        let there = matches!(station.window.object(0, name), Object::Ready(_));
        if !listed {
            left.get_or_insert(ms);
        }
        assert!(there, "{ms}");
        assert!(!(listed && ms > end_of_part + 6_200), "still listed at {ms}");
    }
    let left = left.expect("the line leaves");
    assert!(left >= 5_000, "left at {left}");
    assert!(16_000 - left >= 6_000, "stays for another three target durations");
}

#[test]
fn the_hint_is_the_next_listed_part_whatever_is_published() {
    let mut station = Station::live(20);
    station.tracks(2, &[video(0, AVC_2997), audio(0)]);
    station.frame_rate = (30_000, 1_001);
    station.gop_frames = 37;
    station.play(20_300..40_000);
    station.end();
    let mut hint: Option<String> = None;
    let mut known = BTreeSet::new();
    let mut hits = 0;
    for playlist in station.seen.iter().map(|s| &s.playlists[0]) {
        let new: Vec<&str> =
            playlist.parts().map(|(_, _, p)| p.uri.as_str()).filter(|uri| !known.contains(*uri)).collect();
        if let (Some(hint), Some(first)) = (&hint, new.first()) {
            assert_eq!(hint, first);
            hits += 1;
        }
        known.extend(new.into_iter().map(str::to_owned));
        if let [next] = playlist.hints.as_slice() {
            hint = Some(next.clone());
        }
    }
    assert!(hits > 190, "{hits}");
}

#[test]
fn a_hinted_part_can_be_asked_for_and_anything_else_unknown_is_absent() {
    let mut station = Station::live(5);
    let hint: Name = station.playlist().hint().parse().unwrap();
    assert_eq!(station.window.object(0, hint), Object::Hinted);
    let Name::Part { epoch, msn, part } = hint else { panic!("a part") };
    for name in [
        Name::Part { epoch, msn, part: part + 1 },
        Name::Part { epoch, msn: msn + 1, part: 0 },
        Name::Part { epoch: epoch + 1, msn, part },
        Name::Segment { epoch, msn },
        Name::Segment { epoch: epoch + 1, msn: 1 },
        Name::Part { epoch, msn: 1, part: 10 },
        Name::Init { epoch, version: 2 },
        Name::Init { epoch: 2, version: 1 },
    ] {
        assert_eq!(station.window.object(0, name), Object::Absent, "{name}");
    }
    assert_eq!(station.window.object(1, hint), Object::Absent, "there is no second rendition");
    station.play(5_000..5_300);
    let Object::Ready(bytes) = station.window.object(0, hint) else { panic!("published") };
    assert!(!bytes[0].is_empty());
}

#[test]
fn a_segment_is_its_parts() {
    let station = Station::live(5);
    let Object::Ready(segment) = station.window.object(0, Name::Segment { epoch: 1, msn: 1 }) else {
        panic!("complete")
    };
    assert_eq!(segment.len(), 10);
    for (part, piece) in (0..).zip(&segment) {
        let name = Name::Part { epoch: 1, msn: 1, part };
        let Object::Ready(bytes) = station.window.object(0, name) else { panic!("there") };
        assert_eq!(bytes[0].bytes().as_ptr(), piece.bytes().as_ptr(), "the same bytes, not a copy");
    }
}

#[test]
fn a_delta_on_top_of_its_base_is_the_full_playlist_byte_for_byte() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    let mut base: Option<Playlist> = None;
    let mut skipped = 0;
    for ms in (0..100_000u64).step_by(100) {
        if ms == 40_000 {
            station.tracks(2, &[video(0, AVC_2997), audio(0)]);
        }
        station.play_part(ms..ms + 100);
        if !station.window.is_ready() {
            continue;
        }
        let full = station.text(0, Form::Full);
        let delta = station.text(0, Form::Delta);
        let read = Playlist::read(&delta);
        if let Some(base) = &base {
            assert_eq!(base.updated_by(&read), full, "at {ms} ms");
        }
        skipped = skipped.max(read.skipped);
        // A player that asks once in a while.
        if base.is_none() || ms % 1_700 == 0 {
            base = Some(Playlist::read(&full));
        }
    }
    assert!(skipped >= 8, "{skipped} segments were skipped");
    // What lies within CAN-SKIP-UNTIL is always there.
    let delta = Playlist::read(&station.text(0, Form::Delta));
    let listed: f64 = delta.segments.iter().filter_map(|s| s.extinf).sum();
    assert!(listed >= 12.0);
    station.end();
    assert_eq!(station.text(0, Form::Delta), station.text(0, Form::Full), "not after the end");
}

#[test]
fn rendition_reports_stand_in_every_renditions_playlist() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0), audio(1)]);
    station.play_tracks(0..9_500, &[TrackId::VIDEO], &[TrackId::audio(0), TrackId::audio(1)]);
    let names: Vec<String> = station.window.renditions().iter().map(|r| r.name.clone()).collect();
    assert_eq!(names, ["v0", "a0", "a1"]);
    for seen in &station.seen {
        for (own, playlist) in names.iter().zip(&seen.playlists) {
            let others: Vec<_> =
                names.iter().filter(|n| *n != own).map(|n| format!("../{n}/media.m3u8")).collect();
            let reported: Vec<_> = playlist.reports.iter().map(|(uri, ..)| uri.clone()).collect();
            assert_eq!(reported, others);
            for (uri, msn, part) in &playlist.reports {
                let other = names.iter().position(|n| uri == &format!("../{n}/media.m3u8")).unwrap();
                let last = seen.playlists[other].segments.last().unwrap();
                assert_eq!((*msn, *part), (last.msn, last.parts.len() as u64 - 1));
            }
        }
    }
}

#[test]
fn program_date_time_is_in_all_renditions_and_after_each_discontinuity() {
    let mut station = Station::new(Config::default());
    let tracks = [video(0, AVC_30), audio(0), audio(1)];
    station.tracks(1, &tracks);
    let ids = [TrackId::audio(0), TrackId::audio(1)];
    station.play_tracks(0..6_000, &[TrackId::VIDEO], &ids);
    station.tracks(2, &tracks);
    station.play_tracks(9_000..13_500, &[TrackId::VIDEO], &ids);
    let seen = station.seen.last().unwrap();
    let times = |r: usize| -> Vec<Option<String>> {
        seen.playlists[r].segments.iter().map(|s| s.date_time.clone()).collect()
    };
    assert_eq!(times(0), times(1));
    assert_eq!(times(0), times(2));
    let again = seen.playlists[0].segments.iter().find(|s| s.discontinuity).unwrap();
    assert_eq!(again.date_time.as_deref(), Some("2026-01-01T00:00:09.000Z"));
    assert_eq!(times(0)[1].as_deref(), Some("2026-01-01T00:00:02.000Z"));
}

#[test]
fn a_republish_or_changed_codecs_is_a_discontinuity_with_a_new_map_and_msn_goes_on() {
    let mut station = Station::live(5);
    let before = station.window.position();
    // The same again is no change.
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    assert_eq!(station.window.position(), before);

    station.tracks(2, &[video(0, AVC_30), audio(0)]);
    station.play(5_200..8_000);
    station.tracks(2, &[video(0, AVC_2997), audio(0)]);
    station.play(8_000..10_500);
    let playlist = station.playlist();
    let changes: Vec<_> =
        playlist.segments.iter().filter(|s| s.discontinuity).map(|s| (s.msn, s.map.clone())).collect();
    // Segments 1 to 3 are the first publish; 4 and 5 the second.
    assert_eq!(changes, [(4, "init-2-2.mp4".to_owned()), (6, "init-2-3.mp4".to_owned())]);
    assert_eq!(playlist.segments[0].map, "init-1-1.mp4");
    let msns: Vec<u64> = playlist.segments.iter().map(|s| s.msn).collect();
    assert_eq!(msns, (1..=7).collect::<Vec<_>>());
    for map in ["init-1-1.mp4", "init-2-2.mp4", "init-2-3.mp4"] {
        assert!(matches!(station.window.object(0, map.parse().unwrap()), Object::Ready(_)), "{map}");
    }
    assert!(playlist.segments.iter().filter(|s| s.discontinuity).all(|s| s.parts[0].independent));
}

#[test]
fn the_end_is_an_endlist_and_everything_is_still_there() {
    let mut station = Station::live(9);
    let hint: Name = station.playlist().hint().parse().unwrap();
    station.end();
    let playlist = station.playlist();
    assert!(playlist.ended);
    assert!(playlist.segments.iter().all(|s| s.uri.is_some()), "the last segment is whole");
    assert!(matches!(station.window.object(0, hint), Object::Ready(_)), "what was announced came");
    for segment in &playlist.segments {
        let name = segment.uri.as_ref().unwrap().parse().unwrap();
        assert!(matches!(station.window.object(0, name), Object::Ready(_)));
    }
    // Directives are ignored from now on.
    for query in ["_HLS_msn=5", "_HLS_msn=900", "_HLS_msn=6&_HLS_part=99"] {
        assert_eq!(ask(&station, query), Reload::Ready, "{query}");
    }
    let total: f64 = playlist.segments.iter().filter_map(|s| s.extinf).sum();
    assert!((total - 9.0).abs() < 0.04, "nothing is lost at the end: {total}");
}

#[test]
fn every_variant_says_codecs_resolution_frame_rate_and_bandwidth() {
    let mut station = Station::new(Config::default());
    station.frame_bytes = 1_000;
    station.tracks(1, &[video(0, AVC_2997), audio(0)]);
    station.frame_rate = (30_000, 1_001);
    station.play(0..8_100);
    let text = playlist::multivariant(&station.window);
    let line = text.lines().find_map(|l| l.strip_prefix("#EXT-X-STREAM-INF:")).unwrap();
    let attributes = super::reader::attributes(line);
    assert_eq!(attributes["CODECS"], "avc1.640028,mp4a.40.2");
    assert_eq!(attributes["RESOLUTION"], "1920x1080");
    assert_eq!(attributes["FRAME-RATE"], "29.970");
    // 76.8 frames of 1,000 bytes a second and the boxes around them.
    let number = |name: &str| -> u64 { attributes[name].parse().unwrap() };
    assert!((614_000..660_000).contains(&number("BANDWIDTH")), "{line}");
    assert!((614_000..660_000).contains(&number("AVERAGE-BANDWIDTH")), "{line}");
    assert!(number("AVERAGE-BANDWIDTH") <= number("BANDWIDTH"));
    assert!(text.ends_with("\nmain/media.m3u8\n"));
    assert!(!text.contains("EXT-X-MEDIA"));
}

#[test]
fn variants_cover_every_listed_segment() {
    let variant = |station: &Station| {
        let text = playlist::multivariant(&station.window);
        let line = text.lines().find_map(|l| l.strip_prefix("#EXT-X-STREAM-INF:")).unwrap();
        let attributes = super::reader::attributes(line);
        let get = |name: &str| attributes.get(name).cloned().unwrap_or_default();
        [get("CODECS"), get("RESOLUTION"), get("FRAME-RATE")].join(" ")
    };
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_2997), audio(0)]);
    station.play(0..6_000);
    station.tracks(2, &[video(0, AVC_30), audio(0)]);
    station.play(6_000..12_000);
    assert_eq!(variant(&station), "avc1.64000d,mp4a.40.2,avc1.640028 1920x1080 30.000");
    station.tracks(2, &[audio(0)]);
    station.play_tracks(12_000..18_000, &[], &[TrackId::AUDIO]);
    assert_eq!(variant(&station), "mp4a.40.2,avc1.64000d,avc1.640028 1920x1080 30.000");
    station.play_tracks(18_000..40_000, &[], &[TrackId::AUDIO]);
    assert_eq!(
        variant(&station),
        "mp4a.40.2,avc1.64000d 320x180 30.000",
        "the first picture left the window"
    );
    station.play_tracks(40_000..60_000, &[], &[TrackId::AUDIO]);
    assert_eq!(variant(&station), "mp4a.40.2  ");
}

#[test]
fn a_rendition_of_which_nothing_is_listed_is_not_offered() {
    let uris = |station: &Station| -> Vec<String> {
        let text = playlist::multivariant(&station.window);
        let uri = |l: &str| l.split('"').find(|t| t.ends_with("media.m3u8")).map(str::to_owned);
        text.lines().filter_map(uri).collect()
    };
    let (both, sounds) = ([TrackId::VIDEO, TrackId::video(1)], [TrackId::audio(0), TrackId::audio(1)]);
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_2997), video(1, AVC_30), audio(0), audio(1)]);
    station.play_tracks(0..6_000, &both, &sounds);
    station.tracks(2, &[video(0, AVC_2997), audio(1)]);
    let all = ["a0/media.m3u8", "a1/media.m3u8", "v0/media.m3u8", "v1/media.m3u8"];
    station.play_tracks(6_000..20_000, &both[..1], &sounds[1..]);
    assert_eq!(uris(&station), all, "what there was can still be seen");
    station.play_tracks(20_000..44_000, &both[..1], &sounds[1..]);
    assert_eq!(uris(&station), [all[1], all[2]]);
    assert!(playlist::multivariant(&station.window).contains("NAME=\"Audio 2\",DEFAULT=YES"));
}

#[test]
fn the_peak_is_that_of_segments_of_half_to_one_and_a_half_target_durations() {
    let bandwidth = |station: &Station| station.window.bandwidth(0);
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.frame_bytes = 1_000;
    // 77 frames of 1,000 bytes a second and the boxes around them.
    let steady = 614_000..700_000;
    station.play(0..300);
    station.tracks(2, &[video(0, AVC_30), audio(0)]);
    assert!(station.window.is_ready());
    let first = bandwidth(&station);
    assert_eq!(first.peak_bps, first.average_bps, "a short segment has no peak");
    assert!(steady.contains(&first.peak_bps), "{first:?}");
    station.play(300..4_600);
    assert!(steady.contains(&bandwidth(&station).peak_bps), "{:?}", bandwidth(&station));

    // A publisher that leaves after a keyframe of 100 kB: 12 Mbit/s for the eighth of a second that it was there.
    station.tracks(3, &[video(0, AVC_30), audio(0)]);
    station.frame_bytes = 100_000;
    station.frame(TrackId::AUDIO, 5_000, true);
    station.frame(TrackId::VIDEO, 5_000, true);
    station.frame_bytes = 1_000;
    for ms in [5_033, 5_067, 5_100] {
        station.frame(TrackId::VIDEO, ms, false);
    }
    let before = station.window.position().msn;
    station.tracks(4, &[video(0, AVC_30), audio(0)]);
    let short = station.window.segment(before).unwrap();
    assert!(short.complete && short.duration() < Duration::from_millis(200));
    assert!(short.rendition_bytes(0) as u64 * 80 > 8_000_000);
    assert!(bandwidth(&station).peak_bps < 1_500_000, "{:?}", bandwidth(&station));

    // Short segments in a row count together: 77 frames of 4,000 bytes a second.
    let mut station = Station::new(Config::default());
    station.frame_bytes = 4_000;
    for epoch in 1..6 {
        station.tracks(epoch, &[video(0, AVC_30), audio(0)]);
        station.play(epoch * 1_000..epoch * 1_000 + 500);
    }
    assert!((2_400_000..2_700_000).contains(&bandwidth(&station).peak_bps), "{:?}", bandwidth(&station));
}

#[test]
fn more_tracks_become_variants_and_an_audio_group() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_2997), video(1, AVC_30), audio(0), audio(1)]);
    let (videos, audios) = ([TrackId::VIDEO, TrackId::video(1)], [TrackId::audio(0), TrackId::audio(1)]);
    station.play_tracks(0..8_100, &videos, &audios);
    let text = playlist::multivariant(&station.window);
    let lines: Vec<&str> = text.lines().collect();
    let media: Vec<_> = lines.iter().filter_map(|l| l.strip_prefix("#EXT-X-MEDIA:")).collect();
    assert_eq!(media.len(), 2);
    assert!(
        media[0].contains("TYPE=AUDIO")
            && media[0].contains("CHANNELS=\"2\"")
            && media[0].contains("DEFAULT=YES")
    );
    assert!(media[1].contains("URI=\"a1/media.m3u8\"") && media[1].contains("DEFAULT=NO"));
    let variants: Vec<_> = lines
        .iter()
        .filter_map(|l| l.strip_prefix("#EXT-X-STREAM-INF:"))
        .map(super::reader::attributes)
        .collect();
    assert_eq!(variants.len(), 2);
    assert_eq!(variants[0]["CODECS"], "avc1.640028,mp4a.40.2");
    assert_eq!(variants[1]["CODECS"], "avc1.64000d,mp4a.40.2");
    assert_eq!(variants[1]["RESOLUTION"], "320x180");
    assert!(variants.iter().all(|v| v["AUDIO"] == "audio" && v.contains_key("BANDWIDTH")));
    // All renditions are cut at the same moments, and both pictures begin segments with keyframes.
    let seen = station.seen.last().unwrap();
    let durations = |r: usize| seen.playlists[r].segments.iter().map(|s| s.extinf).collect::<Vec<_>>();
    assert!((1..4).all(|r| durations(r) == durations(0)));
    for video in 0..2 {
        let whole = seen.playlists[video].segments.iter().filter(|s| !s.parts.is_empty());
        assert!(whole.clone().count() > 1 && whole.into_iter().all(|s| s.parts[0].independent));
    }
    assert!(seen.playlists[2].parts().all(|(_, _, p)| p.independent), "sound can begin anywhere");
}

#[test]
fn memory_is_bounded_by_bytes_and_what_is_evicted_is_absent() {
    let max_bytes = 4 << 20;
    let mut station = Station::new(Config { max_bytes, ..Config::default() });
    station.frame_bytes = 5_000;
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.play(0..60_000);
    assert!(station.window.bytes() <= max_bytes, "{}", station.window.bytes());
    assert_eq!(station.window.object(0, Name::Segment { epoch: 1, msn: 3 }), Object::Absent);
    let playlist = station.playlist();
    assert!(playlist.media_sequence > 20 && playlist.segments.len() >= 4);
    for segment in playlist.segments.iter().filter_map(|s| s.uri.as_ref()) {
        assert!(matches!(station.window.object(0, segment.parse().unwrap()), Object::Ready(_)));
    }
}

#[test]
fn what_is_not_listed_any_more_makes_room_first() {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    station.frame_bytes = 5_000;
    station.play(0..60_000);
    let listed = station.window.listed().count();
    let listed_bytes: usize = station.window.listed().map(|s| s.rendition_bytes(0)).sum();
    let kept = |station: &Station, back: u64| {
        let msn = station.playlist().media_sequence - back;
        station.window.segment(msn).is_some()
    };
    assert!(kept(&station, 3));
    // Room for what is listed, and for a segment behind it.
    let max_bytes = listed_bytes + listed_bytes / 10;
    let mut tight = Station::new(Config { max_bytes, ..Config::default() });
    tight.tracks(1, &[video(0, AVC_30), audio(0)]);
    tight.frame_bytes = 5_000;
    tight.play(0..60_000);
    assert_eq!(tight.window.listed().count(), listed);
    assert!(!kept(&tight, 3) && tight.window.bytes() <= max_bytes);
}

#[test]
fn a_segment_ends_when_it_has_a_quarter_of_the_memory() {
    let max_bytes = 4 << 20;
    let mut station = Station::new(Config { max_bytes, ..Config::default() });
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    // 6 MB a second: a segment of 2 s alone would be 12.
    station.frame_bytes = 80_000;
    for second in 0..20 {
        station.play_part(second * 1_000..second * 1_000 + 1_000);
        assert!(station.window.bytes() <= max_bytes, "{}", station.window.bytes());
    }
    assert!(durations_ms(&station).iter().all(|ms| *ms <= 400), "{:?}", durations_ms(&station));
    let mut hint: Option<String> = None;
    for seen in &station.seen {
        let playlist = &seen.playlists[0];
        assert!(playlist.segments.iter().all(|s| !s.discontinuity));
        let newest = playlist.parts().last().map(|(_, _, p)| p.uri.clone());
        assert!(hint.is_none() || hint == newest, "what was announced came");
        hint = playlist.hints.first().cloned();
    }
}

#[test]
fn tiny_segments_and_their_init_segments_are_not_free() {
    let mut station = Station::new(Config::default());
    station.frame_bytes = 1;
    for n in 0..60u64 {
        station.tracks(n + 1, &[video(0, if n % 2 == 0 { AVC_30 } else { AVC_2997 })]);
        station.play_tracks(n * 2_000..n * 2_000 + 1_500, &[TrackId::VIDEO], &[]);
    }
    let kept = || (1..=60).filter_map(|msn| station.window.segment(msn));
    let media: usize = kept().map(|s| s.rendition_bytes(0)).sum();
    let init: usize = kept().map(|s| s.layout.renditions[0].init.len()).sum();
    assert!(kept().count() < 60 && init > 10_000);
    assert!(station.window.bytes() > media + init, "{} of {media} and {init}", station.window.bytes());
}

fn durations_ms(station: &Station) -> Vec<u128> {
    station.window.listed().map(|s| s.duration().as_millis()).collect()
}

#[test]
fn the_window_lists_what_delta_updates_need() {
    let station = Station::live(60);
    let listed: Duration = station.window.listed().map(|s| s.duration()).sum();
    assert!(listed >= Duration::from_secs(30) && listed <= Duration::from_secs(34), "{listed:?}");
}

/// How long each segment stayed after it left the playlist, and how long it must have.
fn stays(mut step: impl FnMut(&mut Station, u64)) -> Vec<(u64, Duration, Duration)> {
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    // By media sequence number: its duration, the longest playlist that it was in, when it left that and when it was gone.
    let mut seen: BTreeMap<u64, (Duration, Duration, Option<u64>, Option<u64>)> = BTreeMap::new();
    for ms in (0..150_000u64).step_by(100) {
        step(&mut station, ms);
        let playlist: Duration = station.window.listed().map(|s| s.duration()).sum();
        for segment in station.window.listed().filter(|s| s.complete) {
            let (duration, longest, ..) = seen.entry(segment.msn).or_default();
            (*duration, *longest) = (segment.duration(), playlist.max(*longest));
        }
        for (msn, (.., unlisted_at, gone_at)) in &mut seen {
            if station.window.listed().all(|s| s.msn != *msn) {
                unlisted_at.get_or_insert(ms);
            }
            if station.window.segment(*msn).is_none() {
                gone_at.get_or_insert(ms);
            }
        }
    }
    let stayed = seen.into_iter().filter_map(|(msn, (duration, longest, unlisted_at, gone_at))| {
        Some((msn, Duration::from_millis(gone_at? - unlisted_at?), duration + longest))
    });
    stayed.collect()
}

#[test]
fn a_segment_stays_for_as_long_as_a_player_may_need_to_get_there() {
    let even = stays(|station, ms| station.play_part(ms..ms + 100));
    // For 5 s a keyframe every 0.5 s, and then for 6 s after 0.5 and after 2 s in turn.
    let uneven = stays(|station, ms| {
        for n in ms * 3 / 100..(ms + 100) * 3 / 100 {
            let in_turn = if n % 330 < 150 { n % 15 == 0 } else { matches!(n % 75, 0 | 15) };
            station.frame(TrackId::VIDEO, (n * 100 / 3) as i64, in_turn);
        }
        for n in (ms * 48).div_ceil(1_024)..((ms + 100) * 48).div_ceil(1_024) {
            station.frame(TrackId::AUDIO, (n * 1_024 / 48) as i64, true);
        }
    });
    for stays in [even, uneven] {
        assert!(stays.len() > 20, "{}", stays.len());
        for (msn, stayed, must) in stays {
            // Time is looked at every 100 ms.
            let stayed = stayed + Duration::from_millis(100);
            assert!(
                (must..must + Duration::from_secs(6)).contains(&stayed),
                "{msn}: {stayed:?}, and must {must:?}"
            );
        }
    }
}

#[test]
fn what_leaves_before_its_time_is_counted() {
    let hurried = |max_bytes| {
        let mut station = Station::new(Config { max_bytes, ..Config::default() });
        station.frame_bytes = 5_000;
        station.tracks(1, &[video(0, AVC_30), audio(0)]);
        station.play(0..60_000);
        station.window.hurried()
    };
    assert_eq!(hurried(Config::default().max_bytes), 0);
    assert!(hurried(4 << 20) > 20);
}

#[test]
fn the_frame_rate_is_that_of_what_has_pictures_and_no_less_than_measured() {
    let rate = |station: &Station| {
        let text = playlist::multivariant(&station.window);
        let line = text.lines().find_map(|l| l.strip_prefix("#EXT-X-STREAM-INF:")).unwrap();
        super::reader::attributes(line)["FRAME-RATE"].clone()
    };
    // The newest segment has none.
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video_of_unknown_rate(), audio(0)]);
    station.play(0..8_000);
    station.tracks(2, &[audio(0)]);
    station.play_tracks(8_000..14_000, &[], &[TrackId::AUDIO]);
    assert_eq!(rate(&station), "30.000");
    // The configuration says half of what comes.
    let mut station = Station::new(Config::default());
    station.tracks(1, &[video(0, AVC_30), audio(0)]);
    (station.frame_rate, station.gop_frames) = ((60, 1), 120);
    station.play(0..8_100);
    let rate: f64 = rate(&station).parse().unwrap();
    assert!((59.0..61.0).contains(&rate), "{rate}");
}

#[test]
fn codecs_are_bounded_however_often_they_change() {
    let mut station = Station::new(Config::default());
    for n in 0..24u8 {
        let mut track = video(0, AVC_30);
        track.rfc6381 = format!("avc1.6400{n:02x}");
        track.config = [&track.config[..], &[n]].concat().into();
        station.tracks(u64::from(n) + 1, &[track]);
        station.play_tracks(u64::from(n) * 1_200..u64::from(n) * 1_200 + 1_200, &[TrackId::VIDEO], &[]);
    }
    let text = playlist::multivariant(&station.window);
    let line = text.lines().find_map(|l| l.strip_prefix("#EXT-X-STREAM-INF:")).unwrap();
    let codecs = super::reader::attributes(line)["CODECS"].clone();
    assert_eq!(codecs.split(',').count(), 16, "{codecs}");
    assert!(codecs.starts_with("avc1.640017,avc1.640016,"), "{codecs}");
}

/// What a player sees of an origin that was restarted.
#[test]
fn a_window_continues_the_numbers_of_another() {
    let mut before = Station::new(Config::default());
    before.tracks(1, &[video(0, AVC_30), audio(0)]);
    before.play(0..10_000);
    let asked = Query { msn: Some(before.window.position().msn), part: Some(1), skip: false };
    let old = before.playlist();

    let mut station = Station::new(Config::default());
    station.window = Window::starting_at(Config::default(), 1_000);
    assert_eq!(station.window.reload(&asked), Reload::Wait, "no playlist without a segment");
    assert_eq!(station.window.reload(&Query { msn: Some(1_000), ..asked }), Reload::Wait);
    assert_eq!(station.window.reload(&Query { msn: Some(1_002), ..asked }), Reload::TooFarAhead);
    station.tracks(2, &[video(0, AVC_30), audio(0)]);
    assert!(!station.window.is_ready());
    station.play(0..5_000);
    assert!(station.window.is_ready());
    assert_eq!(station.window.reload(&asked), Reload::Ready);
    let new = station.playlist();
    assert_eq!(new.media_sequence, 1_000);
    assert!(new.media_sequence > old.media_sequence + old.segments.len() as u64);
    assert!(new.segments.iter().any(|s| s.uri.as_deref() == Some("2-1000.m4s")));
}
