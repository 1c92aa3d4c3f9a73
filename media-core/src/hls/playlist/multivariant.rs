//! The multivariant playlist (RFC 8216bis §4.4.6): the variants and renditions of a stream.

use super::line;
use crate::frame::{Kind, Track};
use crate::hls::window::Bandwidth;
use crate::hls::{Rendition, Window};

/// The one group that audio renditions are in.
const AUDIO_GROUP: &str = "audio";

/// Codecs named at most, those of the newest segments first: a stream may change its tracks with each segment, and every
/// time to another profile or level.
const MAX_CODECS: usize = 16;

/// How far the measured frame rate may be from the one that the configuration tells and yet be the same, as a factor:
/// times are in milliseconds, and segments begin and end between them.
const SAME_RATE: f64 = 1.02;

/// The multivariant playlist as it is now. Its addresses are relative to where it is itself.
pub fn multivariant(window: &Window) -> String {
    let mut out = String::with_capacity(512);
    line!(out, "#EXTM3U");
    line!(out, "#EXT-X-VERSION:9");
    // Who chose a rendition of which nothing is listed would find only gaps.
    let is_listed = |index| listed_tracks(window, index).next().is_some();
    let (all_sounds, pictures): (Vec<_>, Vec<_>) =
        window.renditions().iter().enumerate().partition(|(_, r)| r.kind() == Some(Kind::Audio));
    let mut sounds = Vec::new();
    for (n, (index, rendition)) in (1u32..).zip(&all_sounds) {
        if is_listed(*index) {
            media_line(&mut out, window, *index, rendition, n, sounds.is_empty());
            sounds.push(*index);
        }
    }
    let mut variants = pictures.iter().filter(|(index, _)| is_listed(*index)).peekable();
    if variants.peek().is_some() {
        for (index, rendition) in variants {
            variant_lines(&mut out, window, *index, rendition, &sounds);
        }
    } else if let Some((index, rendition)) = all_sounds.iter().find(|(index, _)| is_listed(*index)) {
        // Several sounds without a picture: the first one is the variant.
        variant_lines(&mut out, window, *index, rendition, &sounds);
    }
    out
}

/// The tracks that the listed segments are made of, those of the newest first: players must be able to decode the
/// older ones too.
fn listed_tracks(window: &Window, rendition: usize) -> impl Iterator<Item = &Track> {
    let mut version = None;
    let layouts = window.listed().rev().map(|s| &*s.layout);
    let layouts = layouts.filter(move |l| version.replace(l.version) != Some(l.version));
    layouts.filter_map(move |l| l.renditions.get(rendition)).flat_map(|r| &r.tracks)
}

fn media_line(
    out: &mut String,
    window: &Window,
    index: usize,
    rendition: &Rendition,
    n: u32,
    is_default: bool,
) {
    let default = if is_default { "YES" } else { "NO" };
    let channels = listed_tracks(window, index).filter_map(|t| t.audio()).map(|a| a.channels).max();
    let channels = channels.map(|c| format!(",CHANNELS=\"{c}\"")).unwrap_or_default();
    line!(
        out,
        "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO_GROUP}\",NAME=\"Audio {n}\",DEFAULT={default},AUTOSELECT=YES{channels},URI=\"{}\"",
        rendition.uri()
    );
}

fn variant_lines(out: &mut String, window: &Window, index: usize, rendition: &Rendition, sounds: &[usize]) {
    let others: Vec<usize> = sounds.iter().copied().filter(|s| *s != index).collect();
    // A variant needs its own bits and those of the heaviest sound that goes with it.
    let own = window.bandwidth(index);
    let sound = others.iter().map(|s| window.bandwidth(*s)).fold(Bandwidth::default(), |a, b| Bandwidth {
        peak_bps: a.peak_bps.max(b.peak_bps),
        average_bps: a.average_bps.max(b.average_bps),
    });
    let (peak, average) = (own.peak_bps + sound.peak_bps, own.average_bps + sound.average_bps);
    let mut codecs: Vec<&str> = Vec::new();
    for track in listed_tracks(window, index).chain(others.iter().flat_map(|s| listed_tracks(window, *s))) {
        if codecs.len() < MAX_CODECS && !codecs.contains(&track.rfc6381.as_str()) {
            codecs.push(&track.rfc6381);
        }
    }
    let codecs = codecs.join(",");
    let mut attributes = format!("BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS=\"{codecs}\"");
    let videos = || listed_tracks(window, index).filter_map(|t| t.video());
    if let Some(largest) = videos().max_by_key(|v| u64::from(v.width) * u64::from(v.height)) {
        attributes.push_str(&format!(",RESOLUTION={}x{}", largest.width, largest.height));
        let said = videos().filter_map(|v| v.frame_rate).filter(|(num, den)| *num > 0 && *den > 0);
        let said = said.map(|(num, den)| f64::from(num) / f64::from(den)).reduce(f64::max);
        let measured = window.measured_frame_rate(index);
        let measured = measured.filter(|rate| said.is_none_or(|said| *rate > said * SAME_RATE));
        if let Some(rate) = measured.or(said) {
            attributes.push_str(&format!(",FRAME-RATE={rate:.3}"));
        }
    }
    if !sounds.is_empty() {
        attributes.push_str(&format!(",AUDIO=\"{AUDIO_GROUP}\""));
    }
    line!(out, "#EXT-X-STREAM-INF:{attributes}");
    line!(out, "{}", rendition.uri());
}
