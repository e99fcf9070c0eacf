//! The `#[actor]` attribute.
