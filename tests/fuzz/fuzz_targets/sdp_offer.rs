//! See `webrtc::sdp_offer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::webrtc::sdp_offer(data));
