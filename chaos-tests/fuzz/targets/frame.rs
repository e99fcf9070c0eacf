//! See `ghostlight_decoders`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| (ghostlight_decoders::named("frame").take)(bytes));
