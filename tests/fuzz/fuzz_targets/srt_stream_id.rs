//! See `bodies::srt_stream_id`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::bodies::srt_stream_id(data));
