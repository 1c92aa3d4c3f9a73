//! Codecs as str0m names them, and what is offered of each.

use media_core::frame::{Codec, Kind};
use str0m::RtcConfig;
use str0m::format::Codec as Named;

use super::{Role, Sent};

/// What str0m calls it.
pub(super) fn named(codec: Codec) -> Option<Named> {
    match codec {
        Codec::H264 => Some(Named::H264),
        Codec::H265 => Some(Named::H265),
        Codec::Av1 => Some(Named::Av1),
        Codec::Vp8 => Some(Named::Vp8),
        Codec::Vp9 => Some(Named::Vp9),
        Codec::Opus => Some(Named::Opus),
        Codec::Aac | Codec::Mp3 => None,
    }
}

/// What we call it.
pub(super) fn ours(named: Named) -> Option<Codec> {
    match named {
        Named::H264 => Some(Codec::H264),
        Named::H265 => Some(Codec::H265),
        Named::Av1 => Some(Codec::Av1),
        Named::Vp8 => Some(Codec::Vp8),
        Named::Vp9 => Some(Codec::Vp9),
        Named::Opus => Some(Codec::Opus),
        _ => None,
    }
}

/// Codecs of a publisher. What stands last has no place in transport streams, and few players take it in fMP4: since browsers
/// name it first unless they are told otherwise, it is taken of those who offer nothing else.
const TAKEN: [Codec; 4] = [Codec::Opus, Codec::H264, Codec::H265, Codec::Av1];
const TAKEN_ALONE: [Codec; 3] = [Codec::Opus, Codec::Vp9, Codec::Vp8];

/// Whether an offer has a codec for pictures that all outputs take.
fn has_better(offer: &str) -> bool {
    let maps = offer.lines().filter_map(|line| line.strip_prefix("a=rtpmap:"));
    let mut names = maps.filter_map(|map| map.trim_end().split_once(' ')).map(|(_, name)| name);
    names.any(|name| {
        ["H264/90000", "H265/90000", "AV1/90000"].iter().any(|one| name.eq_ignore_ascii_case(one))
    })
}

/// The configuration with the codecs that a peer of that role may have: all that are carried, or those that are sent.
pub(super) fn enable(mut config: RtcConfig, role: &Role, offer: &str) -> RtcConfig {
    config = config.clear_codecs();
    let taken = if has_better(offer) { TAKEN.as_slice() } else { TAKEN_ALONE.as_slice() };
    let taken: Vec<Sent> = taken.iter().map(|codec| Sent { codec: *codec, profile: None }).collect();
    let wanted = match role {
        Role::Publish => taken.as_slice(),
        Role::Play(sent) => sent.as_slice(),
    };
    // An m-line without any codec would be no SDP: where nothing of a kind is sent, its line names one all the same.
    let names = |kind| wanted.iter().any(|sent| sent.codec.kind() == kind);
    if !names(Kind::Audio) {
        config = config.enable_opus(true, false);
    }
    if !names(Kind::Video) {
        config = config.enable_h264(true);
    }
    for sent in wanted {
        config = match sent.codec {
            Codec::H264 => config.enable_h264(true),
            Codec::H265 => config.enable_h265(true),
            Codec::Av1 => config.enable_av1(true),
            Codec::Vp8 => config.enable_vp8(true),
            Codec::Vp9 => config.enable_vp9(true),
            Codec::Opus => config.enable_opus(true, false),
            Codec::Aac | Codec::Mp3 => config,
        };
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_that_could_do_better_are_not_taken_by_their_first_word() {
        assert!(has_better("a=rtpmap:96 VP8/90000\r\na=rtpmap:102 h264/90000\r\n"));
        assert!(!has_better("a=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\n"));
        assert!(!has_better("a=rtpmap:96\r\na=fmtp:1 H264/90000\r\n"));
    }
}
