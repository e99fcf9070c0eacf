//! Placeholder root, filled by the next change.
