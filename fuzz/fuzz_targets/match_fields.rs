//! libFuzzer's entry to `fuzz_targets::match_fields`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::match_fields(data));
