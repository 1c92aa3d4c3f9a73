//! See `bodies::chunk_reader`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::bodies::chunk_reader(data));
