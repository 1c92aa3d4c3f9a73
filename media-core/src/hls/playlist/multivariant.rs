//! The multivariant playlist (RFC 8216bis §4.4.6): the variants and renditions of a stream.

use super::line;
use crate::frame::{Kind, Track};
use crate::hls::window::Bandwidth;
use crate::hls::{Rendition, Window};

/// The one group that audio renditions are in.
const AUDIO_GROUP: &str = "audio";

/// The multivariant playlist as it is now. Its addresses are relative to where it is itself.
pub fn multivariant(window: &Window) -> String {
    let mut out = String::with_capacity(512);
    line!(out, "#EXTM3U");
    line!(out, "#EXT-X-VERSION:9");
    let renditions = || window.renditions().iter().enumerate();
    let sounds: Vec<usize> =
        renditions().filter(|(_, r)| r.kind() == Some(Kind::Audio)).map(|(i, _)| i).collect();
    for (n, (index, rendition)) in
        (1u32..).zip(sounds.iter().filter_map(|i| Some((*i, window.renditions().get(*i)?))))
    {
        media_line(&mut out, window, index, rendition, n);
    }
    let mut pictures = renditions().filter(|(_, r)| r.kind() != Some(Kind::Audio)).peekable();
    if pictures.peek().is_some() {
        for (index, rendition) in pictures {
            variant_lines(&mut out, window, index, rendition, &sounds);
        }
    } else if let Some((index, rendition)) = renditions().next() {
        // Several sounds without a picture: the first one is the variant.
        variant_lines(&mut out, window, index, rendition, &sounds);
    }
    out
}

fn tracks(window: &Window, rendition: usize) -> &[Track] {
    window.layout().and_then(|l| l.renditions.get(rendition)).map_or(&[], |r| &r.tracks)
}

fn media_line(out: &mut String, window: &Window, index: usize, rendition: &Rendition, n: u32) {
    let default = if n == 1 { "YES" } else { "NO" };
    let channels = tracks(window, index).iter().find_map(|t| t.audio()).map(|a| a.channels);
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
    for track in tracks(window, index).iter().chain(others.iter().flat_map(|s| tracks(window, *s))) {
        if !codecs.contains(&track.rfc6381.as_str()) {
            codecs.push(&track.rfc6381);
        }
    }
    let codecs = codecs.join(",");
    let mut attributes = format!("BANDWIDTH={peak},AVERAGE-BANDWIDTH={average},CODECS=\"{codecs}\"");
    if let Some(video) = tracks(window, index).iter().find_map(|t| t.video()) {
        attributes.push_str(&format!(",RESOLUTION={}x{}", video.width, video.height));
        let said = video.frame_rate.filter(|(num, den)| *num > 0 && *den > 0);
        let said = said.map(|(num, den)| f64::from(num) / f64::from(den));
        if let Some(rate) = said.or_else(|| window.measured_frame_rate(index)) {
            attributes.push_str(&format!(",FRAME-RATE={rate:.3}"));
        }
    }
    if !sounds.is_empty() {
        attributes.push_str(&format!(",AUDIO=\"{AUDIO_GROUP}\""));
    }
    line!(out, "#EXT-X-STREAM-INF:{attributes}");
    line!(out, "{}", rendition.uri());
}
