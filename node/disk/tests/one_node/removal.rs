//! A removal counts when it is committed, not when it is ordered.

use std::time::Duration;

use ghostlight_core::admin::{AdminAnswer, AdminRequest};

use super::bench::{OneNode, Origin, PEER};

#[test]
fn a_removal_is_announced_when_it_is_committed() {
    let mut node = OneNode::new(Origin::Founds);
    node.pass(Duration::from_secs(1));
    node.connect(PEER);
    node.disconnect(PEER);
    node.pass(Duration::from_secs(60));
    node.order(AdminRequest::Remove("peer-2".to_owned()));
    assert!(node.admin.is_empty(), "it is not in the log yet");
    assert!(node.closed.is_empty());
    node.run();
    assert!(
        matches!(node.admin[..], [AdminAnswer::Done(_)]),
        "{:?}",
        node.admin
    );
    assert_eq!(node.closed, [PEER]);
    // The next leader knows it from the log, and does not speak to the node.
    let mut node = node.restart();
    node.pass(Duration::from_secs(1));
    node.closed.clear();
    node.connect(PEER);
    assert!(node.closed.contains(&PEER));
}
