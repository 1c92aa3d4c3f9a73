//! See `bodies::hls_query`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::bodies::hls_query(data));
