//! Money is conserved (promise G2, sends included): nothing is lost or doubled between accounts.

use crate::clients::{End, FIRST_DEPOSIT, Op, Record};

pub(super) fn check(records: &[Record], balances: &[u128]) -> Result<(), String> {
    let expected = u128::from(FIRST_DEPOSIT) * balances.len() as u128;
    let found: u128 = balances.iter().sum();
    if found != expected {
        return Err(format!(
            "money: {found} in {balances:?}, {expected} was put in"
        ));
    }
    for (account, balance) in balances.iter().enumerate() {
        let (low, high) = bounds(account, records);
        if !(low..=high).contains(&(*balance as i128)) {
            return Err(format!(
                "account a{account} has {balance}, not {low}..={high}"
            ));
        }
    }
    Ok(())
}

/// What an account may hold, given what is known and what is not.
fn bounds(account: usize, records: &[Record]) -> (i128, i128) {
    let (mut low, mut high) = (i128::from(FIRST_DEPOSIT), i128::from(FIRST_DEPOSIT));
    for record in records {
        let Op::Transfer { from, to, amount } = &record.op else {
            continue;
        };
        let amount = i128::from(*amount);
        let (certain, possible) = match record.end {
            End::Reply(_) => (amount, amount),
            End::Unknown | End::Running => (0, amount),
            End::Refused | End::NotRun => (0, 0),
        };
        if *from == account {
            low -= possible;
            high -= certain;
        }
        if *to == account {
            low += certain;
            high += possible;
        }
    }
    (low, high)
}
