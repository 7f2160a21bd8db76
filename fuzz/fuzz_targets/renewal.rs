#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stillgood::fuzzing::renewal(data));
