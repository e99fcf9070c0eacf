//! One whole node, core and store, without threads: what a peer may say to it, and what it reads
//! back.

#[cfg(test)]
mod bench;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod inbox;
#[cfg(test)]
mod removal;
#[cfg(test)]
mod snapshots;
