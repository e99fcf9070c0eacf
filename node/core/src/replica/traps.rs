//! The traps of raft-rs, each by its number.
