//! What is uncommitted is bounded; who is not fit to lead stands back.

use ghostlight_protocol::ids::PeerId;
use ghostlight_protocol::limits::{ENTRY_BYTES_MAX, UNCOMMITTED_BYTES_MAX};

use super::cluster::Cluster;
use crate::replica::{Candidacy, ProposeRefused};

/// Guards `max_uncommitted_size`: beyond the bound proposals are refused, and taken again after a
/// commit.
#[test]
fn uncommitted_entries_are_bounded_in_bytes() {
    assert_eq!(UNCOMMITTED_BYTES_MAX, 16 << 20);
    let (mut cluster, leader) = Cluster::led(40, 3);
    cluster.cut.extend((1..=3).filter(|node| *node != leader));
    let entry = vec![7; ENTRY_BYTES_MAX / 8];
    let mut taken = 0;
    let refused = loop {
        match cluster.group(leader).propose(entry.clone()) {
            Ok(()) => taken += entry.len() as u64,
            Err(refused) => break refused,
        }
        assert!(taken < 4 * UNCOMMITTED_BYTES_MAX, "no end");
    };
    assert_eq!(refused, ProposeRefused::Dropped);
    let one = entry.len() as u64;
    assert!(
        taken <= UNCOMMITTED_BYTES_MAX && taken + 2 * one > UNCOMMITTED_BYTES_MAX,
        "{taken}"
    );
    cluster.cut.clear();
    cluster.pump(leader);
    cluster.settle();
    cluster.ticks(10);
    assert_eq!(cluster.group(leader).propose(entry), Ok(()));
}

/// Guards `set_candidacy` in `rank`: others come first, and alone it stands all the same in the
/// end.
#[test]
fn who_stands_back_is_elected_last() {
    for partition in 0..8 {
        let (mut cluster, first) = Cluster::led(partition, 3);
        let rest: Vec<u64> = (1..=3).filter(|node| *node != first).collect();
        for unfit in &rest {
            let (mut cluster, leader) = Cluster::led(partition, 3);
            assert_eq!(leader, first, "ranks decide");
            cluster.group(*unfit).set_candidacy(Candidacy::StandsBack);
            cluster.crash(first);
            let fit = rest.iter().copied().find(|node| node != unfit).unwrap();
            assert_eq!(cluster.elect(), fit, "p{partition}");
        }
        for unfit in &rest {
            cluster.group(*unfit).set_candidacy(Candidacy::StandsBack);
        }
        cluster.crash(first);
        cluster.ticks(100);
        assert_eq!(cluster.leader(), None, "p{partition}");
        cluster.ticks(200);
        assert!(cluster.leader().is_some(), "p{partition}: somebody must");
    }
}

/// Guards `step`: a transfer to one that stands back does not come about.
#[test]
fn who_stands_back_takes_no_transfer() {
    for candidacy in [Candidacy::Stands, Candidacy::StandsBack] {
        let (mut cluster, leader) = Cluster::led(41, 3);
        let heir = leader % 3 + 1;
        cluster.group(heir).set_candidacy(candidacy);
        cluster.group(leader).transfer(PeerId(heir));
        cluster.pump(leader);
        cluster.settle();
        let expected = match candidacy {
            Candidacy::Stands => heir,
            Candidacy::StandsBack => leader,
        };
        assert_eq!(cluster.leader(), Some(expected), "{candidacy:?}");
    }
}
