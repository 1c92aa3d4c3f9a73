//! Sound that cameras have and players do not take.

/// Why a camera's sound is left out, for people. G.711 (A-law, µ-law) is what most cameras have: it takes a transcoder to
/// AAC to be carried by any output.
pub(super) fn unsupported(encoding: &str) -> String {
    match encoding {
        "PCMA" => "the sound is left out: G.711 A-law needs transcoding; set the camera to AAC".to_owned(),
        "PCMU" => "the sound is left out: G.711 µ-law needs transcoding; set the camera to AAC".to_owned(),
        other => format!("the sound is left out: {other} cannot be carried; set the camera to AAC"),
    }
}
