//! Accepted messages outlive their leadership, also when they fill more than one page of the store.

use std::time::Duration;

use bytes::Bytes;
use ghostlight_core::io::Input;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::command::Envelope;
use ghostlight_protocol::hash::partition_of;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::wire::frame::{Frame, OutboxPush};

use super::bench::{Moved, OneNode, Origin, PARTITIONS, PEER};

const MESSAGES: u64 = 40;

#[test]
fn messages_over_a_page_in_sum_are_all_found_by_the_next_leader() {
    for page_bytes in [1, 300, 1 << 20] {
        let mut node = OneNode::new(Origin::Founds);
        node.page_bytes = page_bytes;
        node.pass(Duration::from_secs(1));
        node.connect(PEER);
        let actor = ActorKey::new("default", "account", "a").unwrap();
        let destination = u32::from(partition_of(&actor, PARTITIONS).0);
        let message = Envelope {
            actor: actor.to_bytes(),
            method: "deposit".to_owned(),
            body: Bytes::from_static(b"1"),
            ..Envelope::default()
        };
        let frame = Frame::OutboxPush(OutboxPush {
            source: 1 - destination,
            source_epoch: 0,
            destination,
            first: 1,
            messages: vec![message; MESSAGES as usize],
        });
        // Accepted and applied, and the process dies before any of them ran.
        node.feed_only(Input::Frame { from: PEER, frame });
        while node.inbox_rows(destination as u16) == 0 {
            assert!(node.step() == Moved::Yes, "they are accepted");
        }
        assert_eq!(node.inbox_rows(destination as u16), MESSAGES);
        let mut node = node.restart();
        node.pass(Duration::from_secs(2));
        let balance = node.call(("account", "a"), "balance", "");
        let expected = CallOutcome::Reply(MESSAGES.to_string().into());
        assert_eq!(balance, Some(expected), "pages of {page_bytes} bytes");
    }
}
