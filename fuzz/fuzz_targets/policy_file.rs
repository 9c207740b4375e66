#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::policy_file(data));
