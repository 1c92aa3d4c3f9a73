//! See `bodies::hls_tail`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::bodies::hls_tail(data));
