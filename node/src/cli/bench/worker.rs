//! The side that takes orders: a line in, a line out, until stdin ends and the process with it.
//!
//! A worker process runs baselines. A node's process runs load on its own node, through the
//! library's way in: so the calls pay for everything a program with a node inside pays for, and for
//! nothing else.

use std::io::{BufRead, Write};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use super::order::{Answer, Order};
use super::{app, commits, fan_peers, fanout, lane, load, peers, topics, web};
use crate::cli::Failure;
use crate::cli::stage::Purpose;
use crate::handle::NodeHandle;

/// Orders that wait: a bench sends the next one after the answer.
const ORDERS_MAX: usize = 4;

/// Serves a bench in a process of its own, on this thread.
pub(super) fn serve_worker() -> Result<(), Failure> {
    let served = app::Served::default();
    answer_all(&orders()?, |order| match order {
        Order::EmptyTarget(load) => load::run_on_empty_target(&load).map(Answer::Report),
        Order::Channel(plan) => load::run_on_channel(&plan).map(Answer::Report),
        Order::LaneServer { key } => lane::serve(&key).map(Answer::Listening),
        Order::LaneClient {
            key,
            port,
            run,
            bytes,
        } => lane::run(&key, port, bytes, &run).map(Answer::Report),
        Order::Weigh { data_dir } => commits::weigh(&data_dir).map(Answer::Shape),
        Order::Commits {
            data_dir,
            shape,
            batch,
            time_ms,
        } => commits::commits(&data_dir, &shape, batch, Duration::from_millis(time_ms))
            .map(Answer::Report),
        Order::Syncs { file, time_ms } => {
            commits::syncs(&file, Duration::from_millis(time_ms)).map(Answer::Report)
        }
        Order::AppServer => app::serve(&served).map(Answer::Listening),
        Order::AppReminded { count, wait_ms } => {
            let wait = Duration::from_millis(wait_ms);
            served.reminded(count, wait).map(Answer::Report)
        }
        Order::Web(load) => web::run(load).map(Answer::Report),
        Order::Peer(load) => peers::run(&load).map(Answer::Report),
        Order::PeerFan(load) => fan_peers::run(&load).map(Answer::Report),
        Order::Load(_) | Order::Topics(_) | Order::Fan(_) | Order::Listen(_) => {
            Err("a worker has no node".to_owned())
        }
    });
    Ok(())
}

/// Serves a bench inside a node's process, on a thread of its own.
pub(super) fn serve_node(node: NodeHandle, namespace: String) -> Result<(), Failure> {
    let orders = orders()?;
    let serve = move || {
        answer_all(&orders, |order| match order {
            Order::Load(plan) => load::run(&node, &namespace, &plan).map(Answer::Report),
            Order::Topics(plan) => topics::run(&node, &namespace, &plan).map(Answer::Report),
            Order::Fan(plan) => fanout::publish(&node, &namespace, &plan).map(Answer::Report),
            Order::Listen(plan) => fanout::listen(&node, &namespace, &plan).map(Answer::Report),
            Order::EmptyTarget(_)
            | Order::AppServer
            | Order::AppReminded { .. }
            | Order::Web(_)
            | Order::Peer(_)
            | Order::PeerFan(_)
            | Order::Channel(_)
            | Order::LaneServer { .. }
            | Order::LaneClient { .. }
            | Order::Weigh { .. }
            | Order::Commits { .. }
            | Order::Syncs { .. } => Err("a node takes no such order".to_owned()),
        });
    };
    std::thread::Builder::new()
        .name("bench-load".to_owned())
        .spawn(serve)
        .map(drop)
        .map_err(|error| Purpose::Bench.failed(format!("cannot start a thread: {error}")))
}

fn answer_all(orders: &Receiver<String>, perform: impl Fn(Order) -> Result<Answer, String>) {
    while let Ok(line) = orders.recv() {
        let order = serde_json::from_str(&line).map_err(|error| error.to_string());
        let answer = order.and_then(&perform).unwrap_or_else(Answer::Failed);
        let text = serde_json::to_string(&answer).expect("answers have string keys");
        let mut stdout = std::io::stdout().lock();
        // A bench that is gone has closed stdin, too.
        drop(writeln!(stdout, "{text}").and_then(|()| stdout.flush()));
    }
}

/// Lines of stdin, read on a thread of their own, so that the end is noticed in the middle of work.
fn orders() -> Result<Receiver<String>, Failure> {
    let (send, orders) = sync_channel(ORDERS_MAX);
    let read = move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    };
    std::thread::Builder::new()
        .name("orders".to_owned())
        .spawn(read)
        .map_err(|error| Purpose::Bench.failed(format!("cannot start a thread: {error}")))?;
    Ok(orders)
}
