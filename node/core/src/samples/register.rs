//! `register`: one value that is read, written, and exchanged if it is the expected one. What
//! several clients do to one register at once can be judged as a whole: that is what it is for.

use crate::sdk::prelude::*;

/// A value; none before the first write.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Register {
    value: Option<u64>,
}

#[actor(name = "register")]
impl Register {
    /// Takes a value.
    fn write(&mut self, value: u64) {
        self.value = Some(value);
    }

    /// Takes the second value if it has the first, and tells whether it had.
    fn exchange(&mut self, from: u64, to: u64) -> bool {
        let is_expected = self.value == Some(from);
        if is_expected {
            self.value = Some(to);
        }
        is_expected
    }

    /// The value.
    #[read]
    fn read(&self) -> Option<u64> {
        self.value
    }
}
