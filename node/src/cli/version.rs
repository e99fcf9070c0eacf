//! `--version`: what this binary is, and with whom it can speak.

use ghostlight_protocol::wire::hello::PROTOCOL_VERSION;

/// Version of the layout in a data directory.
pub(super) const DISK_FORMAT: u32 = 1;

/// This build.
pub(super) const VERSION: Version = Version;

/// See [`VERSION`].
pub(super) struct Version;

impl Version {
    /// `0.1.0`
    pub(super) fn short(&self) -> &'static str {
        env!("CARGO_PKG_VERSION")
    }

    /// With commit, wire and disk format.
    pub(super) fn long(&self) -> String {
        format!(
            "{} (commit {})\nwire format {PROTOCOL_VERSION}\ndisk format {DISK_FORMAT}",
            self.short(),
            env!("GHOSTLIGHT_COMMIT"),
        )
    }
}
