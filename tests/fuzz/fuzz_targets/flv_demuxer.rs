//! See `bodies::flv_demuxer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::bodies::flv_demuxer(data));
