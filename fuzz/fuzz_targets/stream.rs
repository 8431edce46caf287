//! libFuzzer's entry to `fuzz_targets::stream`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::stream(data));
