//! `account`: money that is never lost or doubled, whatever fails.
//!
//! A transfer withdraws here and sends a deposit there: both are one commit, and the message
//! arrives exactly once. A deposit can therefore never be allowed to fail: balances have 128 bits,
//! which no number of 64-bit deposits fills.

use crate::sdk::prelude::*;

/// A balance.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Account {
    balance: u128,
}

/// Why an account refuses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, thiserror::Error)]
pub enum AccountError {
    /// There is not enough.
    #[error("the balance is {balance}, {wanted} were wanted")]
    Short {
        /// What is there.
        balance: u128,
        /// What was wanted.
        wanted: u64,
    },
    /// Nothing would move.
    #[error("an amount is at least 1")]
    NotPositive,
}

#[actor(name = "account")]
impl Account {
    /// Puts money in, and returns the balance.
    fn deposit(&mut self, amount: u64) -> Result<u128, AccountError> {
        self.balance += u128::from(positive(amount)?);
        Ok(self.balance)
    }

    /// Takes money out, and returns the balance.
    fn withdraw(&mut self, amount: u64) -> Result<u128, AccountError> {
        let left = self.balance.checked_sub(u128::from(positive(amount)?));
        self.balance = left.ok_or(AccountError::Short {
            balance: self.balance,
            wanted: amount,
        })?;
        Ok(self.balance)
    }

    /// Moves money to another account, and returns the balance of this one.
    fn transfer(&mut self, cx: &Turn, to: String, amount: u64) -> Result<u128, AccountError> {
        let balance = self.withdraw(amount)?;
        cx.send::<Self>(&to).deposit(amount);
        Ok(balance)
    }

    /// The balance.
    #[read]
    fn balance(&self) -> u128 {
        self.balance
    }
}

fn positive(amount: u64) -> Result<u64, AccountError> {
    if amount == 0 {
        Err(AccountError::NotPositive)
    } else {
        Ok(amount)
    }
}
