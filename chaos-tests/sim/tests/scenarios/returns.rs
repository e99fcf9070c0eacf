//! What comes back: a wiped node, an old member, a damaged replica. Data is deleted on the word of
//! a newer membership alone, and damaged copies are made anew from their peers.

use ghostlight_protocol::ids::PartitionId;
use ghostlight_sim::{Cf, CrashKind, Origin, SEC, World};

use super::{at_the_end, at_work, ensure, four, pass, placed, scenario, three, within};

#[test]
fn wiped_founder() {
    scenario("wiped_founder", three, |world| {
        at_work(world)?;
        let old = world.id_of(0).ok_or("it runs")?;
        world.wipe(0);
        pass(world, 2 * SEC);
        // Same address, empty disk: another node, which takes the place of the one that is gone.
        world.start(0, Origin::Joins);
        let new = world.id_of(0).ok_or("it runs")?;
        ensure(new != old, || "a wiped disk is a new node".to_owned())?;
        within(world, 100 * SEC, "full strength with the new node", |w| {
            w.copies_on(new) == 8 && w.copies_on(old) == 0 && w.settled()
        })?;
        placed(world)?;
        at_the_end(world)
    });
}

#[test]
fn wiped_founder_founds_again() {
    scenario("wiped_founder_founds_again", three, |world| {
        at_work(world)?;
        world.wipe(0);
        world.found_again(0);
        let stranger = world.id_of(0).ok_or("it runs")?;
        within(world, 3 * SEC, "the others go on", |w| w.all_led())?;
        let answered = world.acknowledged();
        pass(world, 20 * SEC);
        ensure(world.acknowledged() > answered, || {
            "nobody is answered".to_owned()
        })?;
        ensure(world.copies_on(stranger) == 0, || {
            "two clusters mix".to_owned()
        })?;
        // It met its old cluster, and gave way to it.
        ensure(world.sometimes.count("lone founder gave way") == 1, || {
            "two clusters of one key go on side by side".to_owned()
        })?;
        ensure(world.has_left(0), || "it serves on".to_owned())?;
        // The way out that its error names: wipe it, and join.
        world.wipe(0);
        world.start(0, Origin::Joins);
        within(world, 100 * SEC, "full strength", |w| w.settled())?;
        placed(world)?;
        at_the_end(world)
    });
}

#[test]
fn old_member_returns() {
    scenario("old_member_returns", four, |world| {
        at_work(world)?;
        let victim = world.busiest();
        let id = world.id_of(victim).ok_or("it runs")?;
        let held = world.replicas_at(victim);
        world.abandon(victim, CrashKind::PowerLoss);
        within(world, 120 * SEC, "it is replaced", |w| {
            w.copies_on(id) == 0 && w.settled()
        })?;
        world.end_work();
        pass(world, 600 * SEC);
        // Alone it hears nothing that would allow it to delete, however long it waits.
        world.isolate(victim);
        world.bring_back(victim);
        pass(world, 90 * SEC);
        ensure(world.replicas_at(victim) == held, || {
            "deleted on nobody's word".to_owned()
        })?;
        let served = world.leaderships(victim);
        ensure(served == 0, || {
            format!("an old member serves {served} partitions")
        })?;
        world.heal();
        world.begin_work();
        // Peers that are no longer wanted go; what the node holds then are copies of a later stint.
        within(world, 30 * SEC, "its old data goes", |w| {
            w.replicas_at(victim)
                .iter()
                .all(|(p, peer)| held.get(p) != Some(peer))
        })?;
        placed(world)?;
        at_the_end(world)
    });
}

#[test]
fn condemned_replica() {
    scenario("condemned_replica", four, |world| {
        at_work(world)?;
        let mut condemned = 0;
        for number in 0..8 {
            let partition = PartitionId(number);
            // The node of the round before was down for a moment.
            within(world, 10 * SEC, "all is led", World::all_led)?;
            let membership = world.membership(partition).ok_or("it is led")?;
            let seed = world.params.seed + u64::from(number);
            let voter = membership.voters[seed as usize % membership.voters.len()];
            let peer = ghostlight_protocol::ids::PeerId(voter);
            let node = membership.node_of(peer).ok_or("a voter has a node")?;
            let place = world.place_of(node).ok_or("it runs")?;
            let cf = [Cf::State, Cf::Log, Cf::Raft][seed as usize % 3];
            if world.damage(place, cf, partition).is_none() {
                continue;
            }
            pass(world, SEC);
            if world.replicas_at(place).get(&partition) == Some(&peer) {
                // The damaged row is one that only a read will find.
                continue;
            }
            condemned += 1;
            // At once and on the same node: there is nothing to wait for.
            within(world, 10 * SEC, "a fresh copy on the same node", |w| {
                let here = w.replicas_at(place).get(&partition).copied();
                here.is_some_and(|fresh| fresh > peer)
                    && w.membership(partition).is_some_and(|m| {
                        m.node_of(peer).is_none() && m.voters.len() == 3 && !m.is_joint()
                    })
            })?;
        }
        ensure(condemned >= 2, || {
            format!("only {condemned} replicas were condemned")
        })?;
        placed(world)?;
        at_the_end(world)
    });
}
