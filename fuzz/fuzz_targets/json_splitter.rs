//! libFuzzer's entry to `fuzz_targets::json_splitter`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::json_splitter(data));
