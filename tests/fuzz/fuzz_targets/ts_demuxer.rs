//! See `bodies::ts_demuxer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::bodies::ts_demuxer(data));
