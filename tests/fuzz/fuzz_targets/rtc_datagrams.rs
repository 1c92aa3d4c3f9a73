//! See `webrtc::rtc_datagrams`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::webrtc::rtc_datagrams(data));
