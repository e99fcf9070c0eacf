//! What leaves before the sync, and what after.
