//! A copy moves to a new node, and the leader dies at every step of it.

use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::partition_row::Membership;
use ghostlight_sim::{CrashKind, MS, Origin, SEC, World};

use super::{Outcome, at_the_end, at_work, ensure, pass, placed, scenario, three};

/// How long the move may take to reach the step.
const REACH_MAX: u64 = 40 * SEC;

/// Who dies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Leader,
    Newcomer,
}

/// Kills at the moment when a partition's leader first sees its membership in that state.
fn killed_at(world: &mut World, victim: Victim, step: fn(&Membership) -> bool) -> Outcome {
    at_work(world)?;
    let newcomer = world.add_node(Origin::Joins);
    let partitions = || (0..8).map(PartitionId);
    let reached = |w: &World| partitions().find(|p| w.membership(*p).is_some_and(|m| step(&m)));
    let found = world.run_while(REACH_MAX, MS, |w| reached(w).is_none());
    ensure(found, || "no move came to this step".to_owned())?;
    let partition = reached(world).ok_or("just seen")?;
    let place = match victim {
        Victim::Leader => world.leader_of(partition).ok_or("it is led")?,
        Victim::Newcomer => newcomer,
    };
    world.crash(place, CrashKind::PowerLossAll);
    pass(world, 3 * SEC);
    world.start(place, Origin::Joins);
    placed(world)?;
    at_the_end(world)
}

fn has_learner(membership: &Membership) -> bool {
    !membership.is_joint() && !membership.learners.is_empty()
}

fn is_joint(membership: &Membership) -> bool {
    membership.is_joint()
}

/// Peer 4 is the one that the move brought.
fn has_moved(membership: &Membership) -> bool {
    !membership.is_joint() && membership.voters.contains(&4)
}

#[test]
fn leader_dies_with_a_learner() {
    scenario("leader_dies_with_a_learner", three, |world| {
        killed_at(world, Victim::Leader, has_learner)
    });
}

#[test]
fn leader_dies_in_the_joint_change() {
    scenario("leader_dies_in_the_joint_change", three, |world| {
        killed_at(world, Victim::Leader, is_joint)
    });
}

#[test]
fn leader_dies_at_the_end_of_the_move() {
    scenario("leader_dies_at_the_end_of_the_move", three, |world| {
        killed_at(world, Victim::Leader, has_moved)
    });
}

#[test]
fn newcomer_dies_as_a_learner() {
    scenario("newcomer_dies_as_a_learner", three, |world| {
        killed_at(world, Victim::Newcomer, has_learner)
    });
}

#[test]
fn newcomer_dies_in_the_joint_change() {
    scenario("newcomer_dies_in_the_joint_change", three, |world| {
        killed_at(world, Victim::Newcomer, is_joint)
    });
}
