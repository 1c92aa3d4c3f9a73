//! See `bodies::rtmp_session`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::bodies::rtmp_session(data));
