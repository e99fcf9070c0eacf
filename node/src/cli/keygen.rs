//! `keygen`: a new cluster key on stdout.

use ghostlight_protocol::code::Code;

use super::{Failure, Verdict};

/// Length of a cluster key, in bytes.
pub(super) const KEY_BYTES: usize = 32;

pub(super) fn run() -> Result<Verdict, Failure> {
    println!("{}", new_key()?);
    Ok(Verdict::Ok)
}

/// A fresh key: 256 random bits in hexadecimal.
pub(super) fn new_key() -> Result<String, Failure> {
    let mut bytes = [0_u8; KEY_BYTES];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| {
            Failure::new(
                Code::Internal,
                "the operating system gave no random bytes. Check that /dev/urandom is there",
            )
        })?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
