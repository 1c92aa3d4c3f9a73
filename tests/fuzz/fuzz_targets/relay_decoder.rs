//! See `bodies::relay_decoder`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_fuzz::bodies::relay_decoder(data));
