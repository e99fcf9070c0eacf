//! One seed from beginning to end: form, work under faults, heal, and compare.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::dice::{MS, SEC};
use crate::invariants;
use crate::params::Params;
use crate::sometimes::Sometimes;
use crate::trace::Show;
use crate::world::{Failure, Origin, World};

/// How long a cluster may take to form.
const FORM_MAX: u64 = 60 * SEC;
/// How long it may take to be whole again after the last fault.
const HEAL_MAX: u64 = 150 * SEC;
/// How long it may take until every partition is led.
const LED_MAX: u64 = 60 * SEC;

/// How long the nodes may take to answer some operations while one of them is left out.
const PROGRESS_MAX: u64 = 40 * SEC;
/// How many they must answer.
const PROGRESS_OPERATIONS: usize = 4;

/// What a run leaves behind.
#[derive(Clone, Debug)]
pub struct Report {
    /// The trace's hash.
    pub hash: u64,
    /// Events of the cores.
    pub events: u64,
    /// What was reached.
    pub sometimes: Sometimes,
    /// Virtual nanoseconds.
    pub time: u64,
    /// Operations, and how many ended with a reply.
    pub operations: (usize, usize),
}

/// What becomes of a panic's message on this thread.
enum Panics {
    Shown,
    Kept(Option<String>),
}

thread_local! {
    static PANIC: RefCell<Panics> = const { RefCell::new(Panics::Shown) };
}

/// Runs one seed.
///
/// # Errors
/// The promise that was broken, a panic included.
pub fn run_seed(seed: u64, show: Show) -> Result<Report, Failure> {
    let mut world = World::new(Params::draw(seed), show);
    guarded(&mut world, |world| {
        form(world)?;
        work(world)?;
        live(world)?;
        heal(world)?;
        compare(world)
    })?;
    Ok(report(world))
}

/// Runs something in a world; a panic in it is a broken promise.
///
/// # Errors
/// The promise that was broken.
pub fn guarded<T>(
    world: &mut World,
    body: impl FnOnce(&mut World) -> Result<T, String>,
) -> Result<T, Failure> {
    keep_panics();
    PANIC.replace(Panics::Kept(None));
    let result = catch_unwind(AssertUnwindSafe(|| body(world)));
    if result.is_ok() {
        PANIC.replace(Panics::Shown);
    }
    let what = match result {
        Ok(Ok(value)) => {
            world.verdict()?;
            return Ok(value);
        }
        Ok(Err(what)) => world.verdict().err().map_or(what, |failure| failure.what),
        Err(panic) => panic_text(panic.as_ref()),
    };
    Err(world.failed(what))
}

fn report(world: World) -> Report {
    Report {
        hash: world.trace.hash(),
        events: world.trace.events(),
        time: world.now(),
        operations: (world.clients.history.len(), world.clients.acknowledged()),
        sometimes: world.sometimes,
    }
}

/// Starts the nodes, and waits until they are a cluster.
///
/// # Errors
/// They did not become one in time.
pub fn form(world: &mut World) -> Result<(), String> {
    world.add_node(Origin::Founds);
    for _ in 1..world.params.nodes {
        world.add_node(Origin::Joins);
    }
    if !world.run_while(FORM_MAX, 20 * MS, |world| !world.settled()) {
        return Err(format!("the cluster did not form: {:?}", world.unsettled()));
    }
    if !world.fill_accounts() {
        return Err("a formed cluster did not take a deposit".to_owned());
    }
    Ok(())
}

fn work(world: &mut World) -> Result<(), String> {
    world.begin_work();
    world.begin_faults();
    let lulls = world.params.lulls.clone();
    let part = world.params.span / (lulls.len() as u64 + 1);
    for lull in lulls {
        let end = world.now() + part;
        world.run_until(end);
        world.lull(lull);
    }
    // What a lull has let heal is to break again before the end.
    let end = world.now() + part;
    world.run_until(end);
    Ok(())
}

/// Ends the faults of all nodes but one, which is left out for good as far as the others know: they
/// must make progress without it.
///
/// # Errors
/// They did not within the bound.
fn live(world: &mut World) -> Result<(), String> {
    let Some(place) = world.leave_one_out() else {
        return Ok(());
    };
    if !world.run_while(LED_MAX, 100 * MS, |world| !world.all_led()) {
        let what = world.unsettled();
        return Err(format!(
            "without node {place} not every partition is led: {what:?}"
        ));
    }
    let before = world.acknowledged();
    if !world.run_while(PROGRESS_MAX, 100 * MS, |world| {
        world.acknowledged() < before + PROGRESS_OPERATIONS
    }) {
        let done = world.acknowledged() - before;
        return Err(format!(
            "without node {place} only {done} operations are answered"
        ));
    }
    world.sometimes.hit("progress without a node");
    Ok(())
}

/// Ends all faults, and waits until everything is whole and quiet.
///
/// # Errors
/// It did not become so in time.
pub fn heal(world: &mut World) -> Result<(), String> {
    world.calm();
    if !world.run_while(LED_MAX, 100 * MS, |world| !world.all_led()) {
        return Err(format!(
            "not every partition is led: {:?}",
            world.unsettled()
        ));
    }
    world.end_work();
    if !world.run_while(LED_MAX, 100 * MS, |world| world.clients.running() > 0) {
        return Err(format!("{} calls do not end", world.clients.running()));
    }
    if !world.run_while(HEAL_MAX, 200 * MS, |world| !world.settled()) {
        let (what, members) = (world.unsettled(), world.members());
        let statuses = world.statuses();
        return Err(format!(
            "not at full strength: {what:?}; {members}; {statuses}"
        ));
    }
    if !world.run_while(LED_MAX, 100 * MS, |world| world.waiting_messages() > 0) {
        return Err(format!(
            "{} messages do not arrive",
            world.waiting_messages()
        ));
    }
    world.drain_topics()
}

/// Reads everything at every node, and compares it with the history; and the replicas with each
/// other.
///
/// # Errors
/// The promise that was broken.
pub fn compare(world: &mut World) -> Result<(), String> {
    for place in world.ours() {
        let found = match world.read_all(place) {
            Ok(found) => found,
            // It was on its way out for good, and has gone.
            Err(_) if !world.alive().contains(&place) => continue,
            Err(what) => return Err(what),
        };
        invariants::history(&world.clients.history, &found, world.now())
            .map_err(|what| format!("as read at node {place}: {what}"))?;
    }
    let wanted = usize::from(world.params.partitions);
    let mut compared = Ok(0);
    // Followers are a heartbeat behind at rest; a commit they have not heard of is no difference.
    world.run_while(LED_MAX, 100 * MS, |world| {
        compared = world.compare_contents();
        compared.as_ref().is_ok_and(|c| *c < wanted) && world.copies_wanted() > 1
    });
    compared.map(|_| ())
}

/// The line that runs a seed again.
#[must_use]
pub fn reproduce(seed: u64) -> String {
    format!("SEED={seed} cargo test -p ghostlight-sim --test swarm")
}

fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let kept = PANIC.with_borrow_mut(|panic| match panic {
                Panics::Kept(text) => {
                    text.get_or_insert(info.to_string());
                    true
                }
                Panics::Shown => false,
            });
            if !kept {
                before(info);
            }
        }));
    });
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let kept = match PANIC.replace(Panics::Shown) {
        Panics::Kept(text) => text,
        Panics::Shown => None,
    };
    kept.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
