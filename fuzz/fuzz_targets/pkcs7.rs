#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| stillgood::fuzzing::pkcs7(data));
