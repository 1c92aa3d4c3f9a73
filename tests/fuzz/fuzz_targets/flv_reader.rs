//! See `bodies::flv_reader`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::bodies::flv_reader(data));
