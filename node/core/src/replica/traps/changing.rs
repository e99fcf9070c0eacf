//! Leaders that change, logs that are cut.
