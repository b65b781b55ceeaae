#![no_main]
libfuzzer_sys::fuzz_target!(|text: &str| proa::fuzzing::seccomp(text));
