//! Free ports on loopback, below the range from which the system takes ports for outgoing
//! connections: a killed node's port must still be free when it is started again, however many
//! connections clients open.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports to choose from.
const FIRST: u32 = 14_000;
const COUNT: u32 = 16_000;

/// How many ports this process has looked at.
static LOOKED_AT: AtomicU32 = AtomicU32::new(0);

/// An address on loopback whose port nobody listens on, neither TCP nor UDP. Never the same twice,
/// until all have been looked at.
///
/// # Panics
/// When all ports of the range are taken.
#[must_use]
pub fn free_address() -> String {
    // Test processes that run at once begin at different places.
    let begin = std::process::id().wrapping_mul(997);
    for _ in 0..COUNT {
        let step = LOOKED_AT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + begin.wrapping_add(step) % COUNT;
        let address = format!("127.0.0.1:{port}");
        if TcpListener::bind(&address).is_ok() && UdpSocket::bind(&address).is_ok() {
            return address;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT);
}
