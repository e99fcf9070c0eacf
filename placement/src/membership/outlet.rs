//! Where foca's outputs go during one call: datagrams to the effects, timers to the queue, notices
//! aside.

use std::time::Duration;

use bytes::Bytes;
use foca::{Notification, Runtime, Timer};
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::Instant;

use super::Effect;
use super::identity::Identity;
use super::settings::GOSSIP_BYTES_MAX;
use super::timers::Timers;

/// What foca says about its own standing. Changes of others are read from its list instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// At least one member is active.
    Active,
    /// No other member is active any more.
    Idle,
    /// This node was declared down and goes on under a renewed identity.
    Rejoined(Identity),
    /// This node was declared down, or left, and has no identity to go on under.
    Defunct,
}

/// The runtime of one call into foca.
pub(super) struct Outlet<'a> {
    pub(super) now: Instant,
    pub(super) me: NodeId,
    pub(super) timers: &'a mut Timers,
    pub(super) notices: &'a mut Vec<Notice>,
    pub(super) out: &'a mut Vec<Effect>,
}

impl Runtime<Identity> for Outlet<'_> {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        let notice = match notification {
            Notification::Active => Notice::Active,
            Notification::Idle => Notice::Idle,
            Notification::Defunct => Notice::Defunct,
            Notification::Rejoin(identity) => Notice::Rejoined(*identity),
            Notification::MemberUp(_) | Notification::MemberDown(_) | Notification::Rename(..) => {
                return;
            }
        };
        self.notices.push(notice);
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        assert!(
            data.len() <= GOSSIP_BYTES_MAX,
            "a gossip datagram of {} bytes was built",
            data.len()
        );
        // foca keeps our own earlier identities in its list as down, and asks them whether they are
        // back.
        if to.node != self.me {
            let data = Bytes::copy_from_slice(data);
            self.out.push(Effect::Send { to, data });
        }
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.timers.set(self.now + after, event);
    }
}
