//! As many partitions as a cluster may have.

use super::*;
use ghostlight_protocol::call::LeaderHint;
use ghostlight_protocol::limits::PARTITIONS_MAX;
use ghostlight_protocol::wire::frame::Control;

/// Guards `tell_outboxes`: a failover moves thousands of leaderships at once, in one frame or in
/// one turn of the loop, and each serving partition has an outbox.
#[test]
fn thousands_of_leaderships_that_move_at_once_are_one_pass() {
    let (mut bench, node) = Bench::led(1, PARTITIONS_MAX);
    let hint = |partition: u16| LeaderHint {
        partition: u32::from(partition),
        term: 1_000,
        leader: Bytes::copy_from_slice(&node_id(2).to_bytes()),
        membership_index: 9,
        voters: Vec::new(),
    };
    let control = Control {
        leaderships: (0..PARTITIONS_MAX).map(hint).collect(),
        ..Control::default()
    };
    bench.frame(node, 2, Frame::Control(control));
    let cluster = bench.at(node).core.cluster.as_ref().expect("it has one");
    assert_eq!(cluster.routes.leader(P), Some((node_id(2), Term(1_000))));
    assert!(cluster.moved.is_empty());
}
