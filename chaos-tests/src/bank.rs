//! A bank: clients that transfer money between accounts until told to stop, and the books they
//! keep.
//!
//! A transfer takes money from one actor and sends it to another one by a message, so the books
//! find what a log cannot show: a message that was lost or ran twice, and a repeated call that ran
//! twice. Every transfer has an answer, so that every balance is known exactly at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::wait::until;

/// Accounts.
const ACCOUNTS: usize = 12;
/// What each account has at the beginning.
const MONEY: i64 = 1_000;
/// Clients.
const TELLERS: usize = 3;
/// Pause of a client between two transfers.
const TRANSFER_PERIOD: Duration = Duration::from_millis(20);
/// Longest time until every message has arrived.
const SETTLED_TIME_MAX: Duration = Duration::from_secs(20);

/// Running transfers. Dropped: they stop.
#[derive(Debug)]
pub struct Bank {
    done: Arc<AtomicBool>,
    tellers: Vec<JoinHandle<Result<Books, String>>>,
}

/// What one client had acknowledged.
#[derive(Clone, Debug)]
struct Books {
    /// By account: what came in less what went out.
    changes: Vec<i64>,
    transfers: u64,
}

impl Bank {
    /// Opens the accounts and starts transfers through these addresses. One bank per cluster.
    ///
    /// # Panics
    /// When an account cannot be opened.
    #[must_use]
    pub fn open(addresses: &[String]) -> Self {
        let mut client = Client::new(addresses, 0);
        for account in 0..ACCOUNTS {
            let path = format!("account/a{account}/method/deposit");
            let reply = client.good(&path, &format!("deposit-{account}"), &MONEY.to_string());
            assert_eq!(reply, Ok(MONEY.to_string()));
        }
        let done = Arc::new(AtomicBool::new(false));
        let tellers = (0..TELLERS).map(|number| {
            let (client, done) = (Client::new(addresses, number), Arc::clone(&done));
            std::thread::spawn(move || transfers(client, number, &done))
        });
        Self {
            tellers: tellers.collect(),
            done,
        }
    }

    /// Stops, waits until every message has arrived, and compares every balance with the books.
    ///
    /// # Panics
    /// When a transfer failed, or money was lost or doubled.
    #[track_caller]
    pub fn close(mut self, what: &str, cluster: &Cluster) {
        self.done.store(true, Ordering::Relaxed);
        let mut expected = vec![MONEY; ACCOUNTS];
        let mut transfers = 0;
        for teller in self.tellers.drain(..) {
            let books = teller.join().expect("tellers do not panic");
            let books = books.expect("no transfer fails");
            transfers += books.transfers;
            for (balance, change) in expected.iter_mut().zip(books.changes) {
                *balance += change;
            }
        }
        until("all messages have arrived", SETTLED_TIME_MAX, || {
            let running = cluster.running().into_iter();
            let waiting = running.map(|node| Some(waiting(&cluster.admin(node, "partitions")?)));
            let waiting: Option<Vec<u64>> = waiting.collect();
            (waiting?.iter().sum::<u64>() == 0).then_some(())
        });
        let balances = balances(cluster);
        println!("{what}: {transfers} transfers acknowledged, balances {balances:?}");
        assert_eq!(
            balances, expected,
            "{what}: balances, and those of the books"
        );
        assert!(transfers > 0, "{what}: money was moved");
    }
}

impl Drop for Bank {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        for teller in self.tellers.drain(..) {
            drop(teller.join());
        }
    }
}

/// Moves money to and fro until told to stop.
fn transfers(mut client: Client, number: usize, done: &AtomicBool) -> Result<Books, String> {
    let mut books = Books {
        changes: vec![0; ACCOUNTS],
        transfers: 0,
    };
    for call in 0_usize.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let from = (number + call) % ACCOUNTS;
        let to = (from + 1 + call / ACCOUNTS % (ACCOUNTS - 1)) % ACCOUNTS;
        let amount = 1 + i64::try_from(call % 300).expect("a small number");
        let path = format!("account/a{from}/method/transfer");
        let body = format!("{{\"to\":\"a{to}\",\"amount\":{amount}}}");
        let reply = client.call(&path, &format!("transfer-{number}-{call}"), &body)?;
        match reply.status {
            200 => {
                books.transfers += 1;
                books.changes[from] -= amount;
                books.changes[to] += amount;
            }
            // There was not enough money: a good answer too.
            500 if reply.header("ghostlight-app-error") == Some("Short") => {}
            _ => return Err(format!("{path} {body}: {} {}", reply.status, reply.body)),
        }
        std::thread::sleep(TRANSFER_PERIOD);
    }
    Ok(books)
}

fn balances(cluster: &Cluster) -> Vec<i64> {
    let http = cluster.http();
    let addresses: Vec<String> = cluster
        .running()
        .into_iter()
        .map(|node| http[node].clone())
        .collect();
    let mut client = Client::new(&addresses, 0);
    let balances = (0..ACCOUNTS).map(|account| {
        let path = format!("account/a{account}/method/balance");
        let reply = client.good(&path, &format!("balance-{account}"), "");
        reply.expect("a balance").parse().expect("a number")
    });
    balances.collect()
}

/// Messages on their way, as one node knows it.
fn waiting(partitions: &Value) -> u64 {
    let partitions = partitions.as_array().into_iter().flatten();
    let each = partitions.map(|partition| {
        partition["outbox"].as_u64().expect("a count")
            + partition["inbox"].as_u64().expect("a count")
    });
    each.sum()
}
