//! The Rust SDK: what an actor author sees, independent of who runs the turns.
