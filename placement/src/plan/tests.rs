//! Scenarios, and random histories through the model.

use std::collections::{BTreeMap, BTreeSet};

use ghostlight_protocol::ids::{Generation, NodeId, PartitionId, PeerId};
use ghostlight_protocol::partition_row::{Membership, PartitionRow, Peer};
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::Fitness;
use ghostlight_protocol::wire::hello::{Duty, Removed};

use super::limits::{BALANCE_TRANSFERS_MAX, GROWING_GROUPS_MAX, NODE_MOVES_MAX};
use super::model::Model;
use super::{
    Condemned, Contact, Decision, GroupView, NodeFact, NodeFacts, NodeState, Progress, Readiness,
    Reconciler, SnapshotState, Step, Wait, Work, work_in_flight, work_of,
};
use crate::seeds::seeds;

fn add(node: NodeId, peer: u64) -> Step {
    let peer = PeerId(peer);
    Step::AddLearner { node, peer }
}

fn steps(model: &Model) -> Vec<Step> {
    model.steps.iter().map(|(_, step)| step.clone()).collect()
}

/// How often copies were begun, and how often the leadership moved.
fn moves(model: &Model) -> (usize, usize) {
    let count = |kind: fn(&Step) -> bool| model.steps.iter().filter(|(_, s)| kind(s)).count();
    (
        count(|s| matches!(s, Step::AddLearner { .. })),
        count(|s| matches!(s, Step::TransferLeader(_))),
    )
}

fn node_of_wish(model: &Model, place: usize) -> u128 {
    model.wish()[place].0
}

/// A node of the wish that does not lead.
fn follower(model: &Model) -> u128 {
    let leader = model.leader_node().unwrap();
    model.wish().into_iter().find(|n| *n != leader).unwrap().0
}

#[track_caller]
fn check_converged(model: &Model) {
    let wish: BTreeSet<NodeId> = model.wish().into_iter().collect();
    assert_eq!(model.voter_nodes(), wish, "{:?}", model.membership);
    assert!(model.membership.learners.is_empty() && !model.membership.is_joint());
    assert_eq!(model.leader_node(), model.wish().first().copied());
}

#[test]
fn one_node_rests_and_two_keep_one_voter_and_one_learner() {
    let mut one = Model::founded(1, 3, 1);
    one.run(60);
    assert_eq!((steps(&one), one.last.clone()), (vec![], Decision::Rest));
    let mut two = Model::founded(2, 3, 1);
    two.run(60);
    assert_eq!(steps(&two), [add(NodeId(2), 2)]);
    assert_eq!(
        (two.membership.voters.len(), two.membership.learners.len()),
        (1, 1)
    );
    assert_eq!(two.last, Decision::Rest);
}

#[test]
fn growth_starts_at_once_and_goes_from_one_to_three_in_one_change() {
    for seed in seeds(
        "growth_starts_at_once_and_goes_from_one_to_three_in_one_change",
        0..20,
    ) {
        let mut model = Model::founded(3, 3, seed);
        model.run(30);
        let others: Vec<NodeId> = model.wish().into_iter().filter(|n| n.0 != 1).collect();
        let expected = [
            add(others[0], 2),
            add(others[1], 3),
            Step::Swap {
                voters_in: vec![PeerId(2), PeerId(3)],
                voters_out: vec![],
            },
            Step::LeaveJoint,
        ];
        assert_eq!(steps(&model)[..4], expected);
        assert_eq!(model.steps[0].0, 2, "the first round takes the first step");
    }
}

#[test]
fn every_factor_converges_from_one_node() {
    for (nodes, factor) in [(1, 1), (4, 1), (3, 3), (5, 3), (9, 3), (5, 5), (9, 5)] {
        for seed in seeds("every_factor_converges_from_one_node", 0..10) {
            check_converged(&Model::settled(nodes, factor, seed));
        }
    }
    // Four nodes for five copies: three vote, the fourth follows.
    let four = Model::settled(4, 5, 1);
    assert_eq!(
        (four.membership.voters.len(), four.membership.learners.len()),
        (3, 1)
    );
}

#[test]
fn a_down_member_is_replaced_after_the_grace_and_not_before() {
    let mut model = Model::settled(4, 3, 1);
    let victim = follower(&model);
    model.kill(victim);
    let killed = model.seconds();
    model.run(59);
    assert_eq!(steps(&model), []);
    model.run(60);
    assert_eq!(model.steps[0].0, killed + 60);
    let kinds: Vec<bool> = steps(&model)[..3]
        .iter()
        .map(|s| matches!(s, Step::AddLearner { .. }))
        .collect();
    assert_eq!(kinds, [true, false, false]);
    check_converged(&model);
    assert!(!model.voter_nodes().contains(&NodeId(victim)));
}

#[test]
fn a_dead_voter_stays_until_there_is_somebody_to_replace_it() {
    let mut model = Model::settled(3, 3, 1);
    model.kill(follower(&model));
    model.run(600);
    assert_eq!(model.membership.voters.len(), 3);
    assert_eq!(moves(&model).0, 0);
    let joiner = NodeId(4);
    model.facts.nodes.insert(joiner, NodeFact::alive());
    model.run(60);
    check_converged(&model);
}

#[test]
fn a_flapping_member_moves_nothing() {
    let mut model = Model::settled(5, 3, 1);
    let flapper = follower(&model);
    for round in 0..120 {
        if round % 2 == 0 {
            model.kill(flapper);
        } else {
            model.revive(flapper);
        }
        model.run(5);
    }
    assert_eq!(steps(&model), []);
}

#[test]
fn a_join_moves_copies_only_after_the_wish_has_settled() {
    // Seeds do not matter here; some joiner wins a place in the list of the model's partition.
    for joiner in 10..40 {
        let mut model = Model::settled(4, 3, 1);
        let before = model.wish();
        model.facts.nodes.insert(NodeId(joiner), NodeFact::alive());
        let joined = model.seconds();
        let changed = model.wish().iter().any(|n| !before.contains(n));
        model.run(60);
        check_converged(&model);
        if changed {
            assert_eq!(moves(&model).0, 1, "one copy for one joiner");
            let first = model.steps[0].0;
            assert!(
                (11..=12).contains(&(first - joined)),
                "moved after {}",
                first - joined
            );
        } else {
            assert_eq!(moves(&model).0, 0);
        }
    }
}

#[test]
fn more_than_a_third_down_stops_moves_and_lets_growth_go_on() {
    let mut model = Model::settled(5, 3, 1);
    let leader = model.leader_node().unwrap();
    let others: Vec<u128> = (1..=5).filter(|n| NodeId(*n) != leader).collect();
    let outside: Vec<u128> = others
        .iter()
        .copied()
        .filter(|n| !model.wish().contains(&NodeId(*n)))
        .collect();
    model.kill(follower(&model));
    model.kill(outside[0]);
    model.run(300);
    assert_eq!(moves(&model).0, 0);
    assert_eq!(model.last, Decision::Wait(Wait::Outage));
    model.revive(outside[0]);
    model.run(60);
    check_converged(&model);
    // Below its factor a group takes what it can get.
    let mut young = Model::founded(5, 3, 1);
    let wish = young.wish();
    for node in (2..=5).filter(|n| !wish.contains(&NodeId(*n))) {
        young.kill(node);
    }
    young.run(20);
    assert!(young.facts.is_outage() || wish.contains(&NodeId(1)));
    assert!(moves(&young).0 >= 2);
}

#[test]
fn a_condemned_replica_is_made_anew_on_its_node_at_once() {
    for (nodes, factor) in [(3, 3), (5, 3), (4, 5), (5, 5)] {
        let mut model = Model::settled(nodes, factor, 1);
        let victim = {
            let leader = model.leader_node().unwrap();
            model
                .voter_nodes()
                .into_iter()
                .find(|n| *n != leader)
                .unwrap()
        };
        let (before, fresh) = (model.voter_nodes(), model.membership.next_peer);
        model.condemn(victim);
        let condemned = model.seconds();
        model.run(30);
        assert_eq!(steps(&model)[0], add(victim, fresh));
        assert_eq!(model.steps[0].0, condemned + 1);
        assert_eq!(model.voter_nodes(), before);
        assert_eq!(moves(&model), (1, 0));
        assert_eq!(model.membership.peer_on(victim), Some(PeerId(fresh)));
        assert_eq!(
            model.membership.peers.len(),
            usize::try_from(nodes).unwrap().min(factor.into())
        );
    }
}

#[test]
fn a_condemned_learner_is_dropped_and_made_anew() {
    let mut model = Model::founded(2, 3, 1);
    model.run(30);
    model.condemn(NodeId(2));
    model.run(30);
    let expected = [
        add(NodeId(2), 2),
        Step::RemoveLearner(PeerId(2)),
        add(NodeId(2), 3),
    ];
    assert_eq!(steps(&model), expected);
}

#[test]
fn leaving_and_removed_nodes_are_replaced_without_grace() {
    let mut leaving = Model::settled(5, 3, 1);
    let victim = leaving.leader_node().unwrap().0;
    leaving.fact(victim).duty = Duty::Leaving;
    let asked = leaving.seconds();
    leaving.run(1);
    assert!(
        matches!(leaving.steps[0].1, Step::TransferLeader(_)),
        "leadership goes first"
    );
    leaving.run(9);
    assert!(
        !leaving.voter_nodes().contains(&NodeId(victim)),
        "{:?}",
        leaving.steps
    );
    assert!(leaving.steps.iter().all(|(at, _)| at - asked <= 10));
    leaving.run(60);
    check_converged(&leaving);

    let mut removed = Model::settled(5, 3, 1);
    let victim = follower(&removed);
    removed.kill(victim);
    removed.fact(victim).removed = Removed::Yes;
    removed.run(10);
    assert!(!removed.voter_nodes().contains(&NodeId(victim)));
    removed.run(60);
    check_converged(&removed);
}

#[test]
fn the_founder_of_two_leaves_by_a_joint_swap() {
    let mut model = Model::founded(2, 3, 1);
    model.run(60);
    model.steps.clear();
    model.fact(1).duty = Duty::Leaving;
    model.run(10);
    let expected = [
        Step::Swap {
            voters_in: vec![PeerId(2)],
            voters_out: vec![PeerId(1)],
        },
        Step::TransferLeader(PeerId(2)),
        Step::LeaveJoint,
    ];
    assert_eq!(steps(&model), expected);
    check_converged(&model);
    // The other one leaves by being dropped.
    let mut model = Model::founded(2, 3, 1);
    model.run(60);
    model.steps.clear();
    model.fact(2).duty = Duty::Leaving;
    model.run(10);
    assert_eq!(steps(&model), [Step::RemoveLearner(PeerId(2))]);
}

#[test]
fn a_draining_node_gives_its_leaderships_and_keeps_its_copies() {
    let mut model = Model::settled(3, 3, 1);
    let node = model.leader_node().unwrap();
    model.fact(node.0).duty = Duty::Draining;
    model.run(60);
    assert_eq!(moves(&model), (0, 1), "{:?}", model.steps);
    assert_ne!(model.leader_node(), Some(node));
    assert!(model.voter_nodes().contains(&node));
    // Back in service it leads again, once that has settled.
    model.fact(node.0).duty = Duty::Serving;
    let back = model.seconds();
    model.run(60);
    assert_eq!(model.leader_node(), Some(node));
    assert_eq!(moves(&model), (0, 2));
    assert!(model.steps[1].0 - back >= 10);
}

#[test]
fn a_node_that_is_not_fit_leads_nothing_and_keeps_and_takes_copies() {
    let mut model = Model::settled(3, 3, 1);
    let node = model.leader_node().unwrap();
    model.fact(node.0).fitness = Fitness::DiskSlow;
    model.run(5);
    assert_ne!(model.leader_node(), Some(node), "at once");
    assert_eq!(moves(&model).0, 0, "no copy moves");
    let fact = model.fact(node.0);
    assert!(fact.takes_copies() && !fact.may_lead());
    // When nobody is fit, it is served from where it is.
    for other in 1..=3 {
        model.fact(other).fitness = Fitness::DiskSlow;
    }
    let before = model.leader_node();
    model.run(60);
    assert_eq!(model.leader_node(), before);
}

#[test]
fn edges_get_nothing_and_a_node_that_becomes_one_gives_its_copies_away() {
    let mut model = Model::settled(4, 3, 1);
    let node = node_of_wish(&model, 1);
    model.fact(node).weight = 0;
    for edge in 10..20 {
        let fact = NodeFact {
            weight: 0,
            ..NodeFact::alive()
        };
        model.facts.nodes.insert(NodeId(edge), fact);
    }
    model.run(60);
    check_converged(&model);
    assert_eq!(moves(&model).0, 1);
    assert!(model.voter_nodes().iter().all(|n| n.0 < 10 && n.0 != node));
}

#[test]
fn a_lowered_factor_drops_what_is_too_much() {
    let mut model = Model::settled(5, 5, 1);
    model.facts.factor = 3;
    let keep: Vec<NodeId> = model.wish()[..3].to_vec();
    for node in 1..=5 {
        // The model's ring keeps its factor; taking weight away makes the shorter list.
        if !keep.contains(&NodeId(node)) {
            model.fact(node).weight = 0;
        }
    }
    model.run(60);
    assert_eq!(model.voter_nodes(), keep.into_iter().collect());
    assert_eq!(moves(&model).0, 0);
}

#[test]
fn limits_hold_moves_and_growth_back() {
    let mut model = Model::settled(4, 3, 1);
    let victim = follower(&model);
    for fact in model.facts.nodes.values_mut() {
        fact.moves = NODE_MOVES_MAX;
    }
    model.kill(victim);
    model.run(120);
    assert_eq!(
        (moves(&model).0, model.last.clone()),
        (0, Decision::Wait(Wait::Room))
    );
    for fact in model.facts.nodes.values_mut() {
        fact.moves = NODE_MOVES_MAX - 1;
    }
    model.run(60);
    check_converged(&model);

    let mut young = Model::founded(3, 3, 1);
    young.facts.growing_groups = GROWING_GROUPS_MAX;
    young.run(60);
    assert_eq!(
        (moves(&young).0, young.last.clone()),
        (0, Decision::Wait(Wait::Room))
    );
    young.facts.growing_groups -= 1;
    young.run(60);
    check_converged(&young);
}

#[test]
fn a_node_nobody_has_heard_of_counts_as_down_from_now() {
    let mut model = Model::settled(4, 3, 1);
    let victim = follower(&model);
    model.facts.nodes.remove(&NodeId(victim));
    model.run(59);
    assert_eq!(
        moves(&model).0,
        0,
        "a leader that has just started knows few"
    );
    model.run(60);
    check_converged(&model);
}

/// Random histories: whatever happens, each step keeps what the model asserts; and when it ends,
/// the group becomes what is wished.
#[test]
fn random_histories_keep_the_rules_and_converge() {
    for seed in seeds("random_histories_keep_the_rules_and_converge", 0..400) {
        let factor = [1, 3, 3, 5][seed as usize % 4];
        let nodes = 1 + u128::from(seed) % 9;
        let mut model = Model::founded(nodes, factor, seed);
        for event in 0..60 {
            model.random_event();
            model.run(1 + (seed * 7 + event * 13) % 40);
        }
        for fact in model.facts.nodes.values_mut() {
            fact.state = NodeState::Alive;
            if fact.duty == Duty::Draining {
                fact.duty = Duty::Serving;
            }
        }
        model.run(400);
        if model.wish().len() >= usize::from(factor) {
            check_converged(&model);
        }
        assert!(model.leader.is_some());
        let decided = model.last.clone();
        assert_eq!(decided, Decision::Rest, "{:?}", model.membership);
    }
}

#[test]
fn leadership_goes_to_the_first_of_the_list_that_is_fit() {
    let mut model = Model::settled(3, 3, 1);
    let list: Vec<u128> = model.wish().iter().map(|n| n.0).collect();
    // The first is suspect: the second leads as soon as the first gives it up, and keeps it.
    model.kill(list[0]);
    model.run(5);
    model.revive(list[0]);
    model.fact(list[0]).state = NodeState::Suspect;
    model.run(30);
    assert_eq!(model.leader_node(), Some(NodeId(list[1])));
    // The second drains: the third, not the suspect.
    model.fact(list[1]).duty = Duty::Draining;
    model.run(2);
    assert_eq!(model.leader_node(), Some(NodeId(list[2])));
    // All are well: back to the first, after the waiting time.
    model.revive(list[0]);
    model.fact(list[1]).duty = Duty::Serving;
    model.run(8);
    assert_eq!(model.leader_node(), Some(NodeId(list[2])));
    model.run(10);
    assert_eq!(model.leader_node(), Some(NodeId(list[0])));
}

#[test]
fn leaderships_are_handed_over_a_few_at_a_time() {
    let mut model = Model::settled(3, 3, 1);
    let first = node_of_wish(&model, 0);
    model.kill(first);
    model.run(5);
    model.revive(first);
    model.facts.transfers = BALANCE_TRANSFERS_MAX;
    model.run(60);
    assert_eq!(
        (moves(&model).1, model.last.clone()),
        (0, Decision::Wait(Wait::Room))
    );
    // A drain is an order, and waits for nobody.
    let leader = model.leader_node().unwrap();
    model.fact(leader.0).duty = Duty::Draining;
    model.run(1);
    assert_eq!(moves(&model).1, 1);
    model.fact(leader.0).duty = Duty::Serving;
    model.facts.transfers -= 1;
    model.run(30);
    assert_eq!(model.leader_node(), Some(NodeId(first)));
}

#[test]
fn a_node_that_restarts_every_few_seconds_is_given_nothing_to_lead() {
    let mut model = Model::settled(3, 3, 1);
    let first = node_of_wish(&model, 0);
    model.kill(first);
    model.run(5);
    model.revive(first);
    // It never looks down, but each time it is another life.
    for _ in 0..20 {
        let fact = model.fact(first);
        fact.generation = Generation(fact.generation.0 + 1);
        model.run(5);
    }
    assert_eq!(moves(&model).1, 0);
    model.run(20);
    assert_eq!(model.leader_node(), Some(NodeId(first)));
}

#[test]
fn work_of_a_step_is_known_before_the_membership_shows_it() {
    let node = |peer: u64| NodeId(u128::from(peer));
    let rows: [(&[u64], Step, Option<Work>); 5] = [
        (&[1], add(node(2), 2), Some(Work::Growth)),
        (
            &[1, 2, 3],
            add(node(4), 4),
            Some(Work::Move { target: node(4) }),
        ),
        // A condemned copy is made anew beside the old one.
        (&[1, 2, 3], add(node(2), 4), Some(Work::Growth)),
        (
            &[1, 2, 3],
            Step::TransferLeader(PeerId(2)),
            Some(Work::Transfer),
        ),
        (&[1, 2, 3], Step::LeaveJoint, None),
    ];
    for (voters, step, expected) in rows {
        let peers = voters.iter().map(|peer| Peer {
            peer: *peer,
            node: node(*peer).to_bytes().to_vec(),
        });
        let membership = Membership {
            voters: voters.to_vec(),
            peers: peers.collect(),
            ..Membership::default()
        };
        assert_eq!(work_of(&step, &membership, 3), expected, "{step:?}");
    }
    let nodes = (1..=4).map(|n| (NodeId(n), NodeFact::alive()));
    let mut facts = NodeFacts {
        me: NodeId(1),
        nodes: nodes.collect(),
        factor: 3,
        growing_groups: 0,
        transfers: 0,
    };
    let target = node(4);
    for _ in 0..NODE_MOVES_MAX {
        assert!(facts.has_room_for(Work::Move { target }));
        facts.note(Work::Move { target });
    }
    assert!(!facts.has_room_for(Work::Move { target }));
}

#[test]
fn nobody_else_to_lead_means_to_stay() {
    let mut model = Model::settled(3, 3, 1);
    for node in 1..=3 {
        model.fact(node).duty = Duty::Draining;
    }
    model.run(60);
    assert_eq!(
        (steps(&model), model.last.clone()),
        (vec![], Decision::Rest)
    );
}

#[test]
fn work_in_flight_tells_growth_from_moves() {
    let caught_up = Progress {
        lag_entries: 0,
        contact: Contact::Active,
        snapshot: SnapshotState::None,
    };
    let lagging = Progress {
        snapshot: SnapshotState::Pending,
        ..caught_up
    };
    let node = |peer: u64| NodeId(u128::from(peer % 10));
    type Row<'a> = (&'a [u64], &'a [u64], &'a [u64], Progress, Option<Work>);
    let rows: [Row<'_>; 7] = [
        (&[1, 2, 3], &[], &[], lagging, None),
        (&[1], &[2], &[], lagging, Some(Work::Growth)),
        // Two nodes keep a learner for good: that is no work.
        (&[1], &[2], &[], caught_up, None),
        (
            &[1, 2, 3],
            &[4],
            &[],
            lagging,
            Some(Work::Move { target: NodeId(4) }),
        ),
        // At full strength it is, until it has taken somebody's place.
        (
            &[1, 2, 3],
            &[4],
            &[],
            caught_up,
            Some(Work::Move { target: NodeId(4) }),
        ),
        (
            &[1, 2, 4],
            &[],
            &[1, 2, 3],
            lagging,
            Some(Work::Move { target: NodeId(4) }),
        ),
        // Peer 12 is node 2 again, beside its condemned peer.
        (&[1, 2, 3], &[12], &[], lagging, Some(Work::Growth)),
    ];
    for (voters, learners, outgoing, progress, expected) in rows {
        let peers: BTreeSet<u64> = [voters, learners, outgoing].concat().into_iter().collect();
        let of_peer = |peer: &u64| Peer {
            peer: *peer,
            node: node(*peer).to_bytes().to_vec(),
        };
        let membership = Membership {
            voters: voters.to_vec(),
            learners: learners.to_vec(),
            voters_outgoing: outgoing.to_vec(),
            peers: peers.iter().map(of_peer).collect(),
            ..Membership::default()
        };
        let progress = peers.iter().map(|p| (PeerId(*p), progress)).collect();
        let view = GroupView {
            partition: PartitionId(0),
            membership: &membership,
            leader: PeerId(1),
            readiness: Readiness::Ready,
            progress: &progress,
            condemned: &[],
        };
        assert_eq!(work_in_flight(&view, 3), expected, "{membership:?}");
    }
}

#[test]
fn nothing_is_done_before_the_opening_or_beside_a_pending_change() {
    let membership = PartitionRow::founded(NodeId(1)).membership.unwrap();
    let nodes = (1..=3).map(|n| (NodeId(n), NodeFact::alive()));
    let facts = NodeFacts {
        me: NodeId(1),
        nodes: nodes.collect(),
        factor: 3,
        growing_groups: 0,
        transfers: 0,
    };
    let mut condemned = Vec::new();
    let decide = |readiness, condemned: &[Condemned]| {
        let view = GroupView {
            partition: PartitionId(0),
            membership: &membership,
            leader: PeerId(1),
            readiness,
            progress: &BTreeMap::new(),
            condemned,
        };
        let wish = [NodeId(2), NodeId(1), NodeId(3)];
        Reconciler::default().decide(Instant(5), &view, &wish, &facts)
    };
    let rows = [
        (Readiness::Opening, Decision::Wait(Wait::Opening)),
        (
            Readiness::ChangePending,
            Decision::Wait(Wait::ChangePending),
        ),
        (Readiness::Ready, Decision::Act(add(NodeId(2), 2))),
    ];
    for (readiness, expected) in rows {
        assert_eq!(decide(readiness, &condemned), expected);
    }
    // A node that remembers later peers than the group does gets an id it accepts.
    condemned.push(Condemned {
        node: NodeId(2),
        smallest_peer: PeerId(9),
    });
    assert_eq!(
        decide(Readiness::Ready, &condemned),
        Decision::Act(add(NodeId(2), 9))
    );
}
