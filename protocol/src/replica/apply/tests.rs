//! Tests of apply: each rule of the module, as a table.
