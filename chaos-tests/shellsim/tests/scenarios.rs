//! Named scenarios over real QUIC and TLS, in virtual time, each for several seeds, some of which
//! are run twice.
//!
//! A failure prints the line that repeats it: `SEED=3 cargo test -p ghostlight-shellsim --test
//! scenarios NAME`.

use std::time::Duration;

use ghostlight_protocol::code::Code;
use ghostlight_report::Row;
use ghostlight_shellsim::{
    Build, Clients, CrashKind, Ledger, Lines, Origin, Outcome, Refusal, Report, World, guarded,
};

/// Seeds of each scenario in a plain `cargo test`, and with `GHOSTLIGHT_CHAOS=long`.
const SEEDS: u64 = 15;
const LONG_SEEDS: u64 = 150;
/// Of so many seeds one is run twice.
const REPLAYED_EVERY: u64 = 10;
/// Seeds that a night should have, over all scenarios.
const SEEDS_TARGET: f64 = 500.0;
/// How long leaderships and copies may take to be where they belong: the waiting time of ten
/// seconds, and the moves themselves.
const SETTLE_MAX: Duration = Duration::from_secs(90);
/// Longest pause of a majority that can hear each other.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Lines that show that calls go on.
const LINES: usize = 30;

const ALL: [usize; 3] = [0, 1, 2];

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs a scenario for the usual number of seeds.
fn scenario(name: &str, run: impl AsyncFn(&mut World) -> Outcome) {
    let long = std::env::var("GHOSTLIGHT_CHAOS").is_ok_and(|kind| kind == "long");
    let usual = if long { LONG_SEEDS } else { SEEDS };
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("SEEDS").unwrap_or(usual),
    };
    let (mut count, mut datagrams, mut time) = (0.0, 0, 0.0);
    for (index, seed) in (0..).zip(seeds) {
        let report = one(name, seed, &run);
        if index % REPLAYED_EVERY == 0 {
            assert_same(name, seed, &report, &one(name, seed, &run));
        }
        count += 1.0;
        datagrams += report.seen.len();
        time += report.time as f64 / 1e9;
    }
    let tested = format!("{name}: {count} seeds, {time:.0} virtual seconds, {datagrams} datagrams");
    println!("{tested}");
    let rows = [
        Row::figure(
            7,
            "seeds with real QUIC inside",
            count,
            "seeds",
            SEEDS_TARGET,
        )
        .at_least(),
        // A seed that fails ends its test, and with it the whole run.
        Row::promise(
            7,
            "seeds with real QUIC inside that broke a promise",
            0.0,
            "seeds",
            0.0,
        ),
    ];
    for row in rows {
        row.summed().tested(&tested).append();
    }
}

fn one(name: &str, seed: u64, run: impl AsyncFn(&mut World) -> Outcome) -> Report {
    guarded(seed, async |world: &mut World| run(world).await).unwrap_or_else(|why| {
        panic!("SEED={seed} cargo test -p ghostlight-shellsim --test scenarios {name}\n{why}")
    })
}

/// The same datagrams at the same times, of the same sizes.
fn assert_same(name: &str, seed: u64, first: &Report, second: &Report) {
    let differs = first
        .seen
        .iter()
        .zip(&second.seen)
        .position(|(a, b)| a != b);
    if let Some(at) = differs {
        let around = at.saturating_sub(3)..at + 1;
        panic!(
            "{name}, seed {seed}: datagram {at} differs: {:#?} {:#?}",
            &first.seen[around.clone()],
            &second.seen[around]
        );
    }
    assert_eq!(first.seen.len(), second.seen.len(), "{name}, seed {seed}");
    assert_eq!(first.time, second.time, "{name}, seed {seed}");
    assert!(!first.seen.is_empty());
}

/// Three nodes become a cluster: one founds it, the others come by its address.
async fn form(world: &mut World) -> Outcome {
    world.add(Origin::Founds);
    world.add(Origin::Joins);
    world.add(Origin::Joins);
    world.until_whole(&ALL, SETTLE_MAX).await
}

/// Calls go on within a time.
async fn go_on(world: &mut World, clients: &Clients, what: &str, limit: Duration) -> Outcome {
    let before = clients.kept();
    let enough = |_: &mut World| clients.kept() >= before + LINES;
    world.until(what, limit, enough).await
}

/// What clients were told is so, wherever one looks.
async fn end(
    world: &mut World,
    clients: impl IntoIterator<Item = Clients>,
    through: &[usize],
) -> Outcome {
    let mut ledger = Ledger::default();
    for clients in clients {
        ledger = ledger.with(clients.stop().await);
    }
    for place in through {
        world.check(*place, &ledger).await?;
    }
    Ok(())
}

async fn forms(world: &mut World) -> Outcome {
    form(world).await?;
    let clients = world.clients(&ALL, 4, Lines::Short);
    go_on(world, &clients, "three nodes serve", secs(10)).await?;
    end(world, [clients], &ALL).await
}

#[test]
fn three_nodes_form_and_serve() {
    scenario("three_nodes_form_and_serve", forms);
}

/// Who leads most dies, without a word and with all that it had not synced, and comes back a while
/// later.
async fn failover(world: &mut World) -> Outcome {
    form(world).await?;
    let clients = world.clients(&ALL, 4, Lines::Short);
    go_on(world, &clients, "three nodes serve", secs(10)).await?;
    let asked = world.any_below(3);
    let victim = world.leads_most(asked).await.unwrap_or(asked);
    world.kill(victim, CrashKind::PowerLossAll);
    go_on(world, &clients, "two nodes go on", PAUSE_MAX).await?;
    let away = world.any_time(millis(100), secs(8));
    world.sleep(away).await;
    world.start(victim, Origin::Joins);
    world.until_whole(&ALL, SETTLE_MAX).await?;
    go_on(world, &clients, "three nodes serve again", secs(10)).await?;
    end(world, [clients], &ALL).await
}

#[test]
fn a_leader_that_dies_is_replaced() {
    scenario("a_leader_that_dies_is_replaced", failover);
}

/// A process is there again, at the same address, before its peers have missed the one before.
async fn at_once(world: &mut World) -> Outcome {
    form(world).await?;
    let clients = world.clients(&ALL, 4, Lines::Short);
    for _ in 0..3 {
        let victim = world.any_below(3);
        world.kill(victim, CrashKind::PowerLossAll);
        let away = world.any_time(millis(1), millis(1_500));
        world.sleep(away).await;
        world.start(victim, Origin::Joins);
        go_on(world, &clients, "the three go on", secs(10)).await?;
    }
    world.until_whole(&ALL, SETTLE_MAX).await?;
    end(world, [clients], &ALL).await
}

#[test]
fn a_process_that_is_back_at_once_is_known_again() {
    scenario("a_process_that_is_back_at_once_is_known_again", at_once);
}

/// One node is cut off from the two others, for less or more than a connection takes to notice;
/// both ways, or one.
async fn split(world: &mut World) -> Outcome {
    form(world).await?;
    let clients = world.clients(&ALL, 4, Lines::Short);
    go_on(world, &clients, "three nodes serve", secs(10)).await?;
    let victim = world.any_below(3);
    let others: Vec<usize> = ALL.into_iter().filter(|place| *place != victim).collect();
    match world.any_below(3) {
        0 => world.split(&[victim]),
        1 => others.iter().for_each(|other| world.cut(victim, *other)),
        _ => others.iter().for_each(|other| world.cut(*other, victim)),
    }
    // Their lines are their own.
    let majority = world.clients(&others, 2, Lines::Short);
    go_on(world, &majority, "the majority goes on", PAUSE_MAX).await?;
    let time = world.any_time(millis(200), secs(15));
    world.sleep(time).await;
    world.mend();
    world.until_whole(&ALL, SETTLE_MAX).await?;
    go_on(world, &clients, "three nodes serve again", secs(10)).await?;
    end(world, [clients, majority], &ALL).await
}

#[test]
fn a_node_that_was_cut_off_comes_back() {
    scenario("a_node_that_was_cut_off_comes_back", split);
}

/// Each node in turn is told to end, and comes back.
async fn rolling(world: &mut World) -> Outcome {
    form(world).await?;
    let clients = world.clients(&ALL, 4, Lines::Short);
    for place in ALL {
        world.shut_down(place, secs(5)).await?;
        go_on(world, &clients, "two nodes go on", PAUSE_MAX).await?;
        world.start(place, Origin::Joins);
        world.until_whole(&ALL, SETTLE_MAX).await?;
    }
    end(world, [clients], &ALL).await
}

#[test]
fn nodes_end_in_turn_and_come_back() {
    scenario("nodes_end_in_turn_and_come_back", rolling);
}

/// Whether a place was refused in this way.
fn refused(world: &World, place: usize, refusal: Refusal) -> Outcome {
    let refusals = world.refusals(place);
    if refusals.contains(&refusal) {
        return Ok(());
    }
    Err(format!("place {place}: no {refusal:?} among {refusals:?}"))
}

/// A stranger is there for a while: the cluster is as before, and it is in no cluster.
async fn undisturbed(world: &mut World, clients: &Clients, stranger: usize) -> Outcome {
    for _ in 0..5 {
        go_on(
            world,
            clients,
            "the cluster goes on beside a stranger",
            secs(10),
        )
        .await?;
        world.sleep(secs(2)).await;
    }
    world.until_whole(&ALL, secs(2)).await?;
    match world.status(stranger).await {
        Some(status) if status.cluster.is_empty() => Ok(()),
        other => Err(format!("the stranger says {other:?}")),
    }
}

async fn version(world: &mut World) -> Outcome {
    let mismatch = Some(Code::ProtocolMismatch);
    form(world).await?;
    let clients = world.clients(&ALL, 4, Lines::Short);
    let stranger = world.add_build(Origin::Joins, Build::Next);
    undisturbed(world, &clients, stranger).await?;
    refused(world, stranger, Refusal::ByPeer(mismatch))?;
    refused(world, 0, Refusal::OfPeer(mismatch))?;
    world.kill(stranger, CrashKind::Process);
    // A member whose program was replaced too early: the two others go on without it, until it is
    // put right.
    world.kill(2, CrashKind::Process);
    world.install(2, Build::Next);
    world.start(2, Origin::Joins);
    // Calls through it wait for leaders that it cannot reach.
    let others = world.clients(&[0, 1], 2, Lines::Short);
    go_on(world, &others, "two nodes go on", PAUSE_MAX).await?;
    world.sleep(secs(5)).await;
    refused(world, 2, Refusal::ByPeer(mismatch))?;
    world.kill(2, CrashKind::Process);
    world.install(2, Build::Present);
    world.start(2, Origin::Joins);
    world.until_whole(&ALL, SETTLE_MAX).await?;
    end(world, [clients, others], &ALL).await
}

#[test]
fn another_version_is_refused_with_its_code() {
    scenario("another_version_is_refused_with_its_code", version);
}

async fn key(world: &mut World) -> Outcome {
    form(world).await?;
    let clients = world.clients(&ALL, 4, Lines::Short);
    let stranger = world.add_of_other_key(Origin::Joins);
    undisturbed(world, &clients, stranger).await?;
    refused(world, stranger, Refusal::Key)?;
    end(world, [clients], &ALL).await
}

#[test]
fn another_cluster_key_is_refused() {
    scenario("another_cluster_key_is_refused", key);
}
