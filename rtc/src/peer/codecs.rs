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
        Named::Opus => Some(Codec::Opus),
        _ => None,
    }
}

/// The configuration with the codecs that a peer of that role may have: all that are carried, or those that are sent.
pub(super) fn enable(mut config: RtcConfig, role: &Role) -> RtcConfig {
    config = config.clear_codecs();
    let all = [Codec::Opus, Codec::H264, Codec::H265, Codec::Av1].map(|codec| Sent { codec, profile: None });
    let wanted = match role {
        Role::Publish => all.as_slice(),
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
            Codec::Opus => config.enable_opus(true, false),
            Codec::Aac | Codec::Mp3 => config,
        };
    }
    config
}
