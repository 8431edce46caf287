//! libFuzzer's entry to `fuzz_targets::ovsdb_update`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::ovsdb_update(data));
