//! `echo`: returns what it is given, and has no state: the cost of a call and nothing else.

use crate::sdk::prelude::*;

/// Nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Echo;

#[actor(name = "echo")]
impl Echo {
    /// The body, byte for byte.
    #[read]
    fn echo(&self, body: Raw) -> Raw {
        body
    }
}
