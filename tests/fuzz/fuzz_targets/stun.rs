//! See `webrtc::stun`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::webrtc::stun(data));
