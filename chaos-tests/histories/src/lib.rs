//! Histories of clients, and whether they can be true.
//!
//! A history is a list of operations, each with the time at which it began, the time at which it
//! ended, and its end: an answer, a certain *no*, or nobody knows. Decides whether one object that
//! does one operation at a time could have given these answers (`linear`), or, for lists, whether
//! what was read is one list that only grows (`appends`); and writes histories in the form that
//! other checkers read (`lines`).
//!
//! Pure: no clock, no threads, no randomness. Absent: what the operations were sent to. Histories
//! of many objects are judged object by object: a whole is linearizable if each object is (Herlihy
//! and Wing, theorem 1).

pub mod appends;
pub mod linear;
pub mod lines;
pub mod models;
pub mod operation;

pub use linear::{Wrong, check};
pub use operation::{End, Operation};
