//! Who a member is: a node, one run of it, and where it is reached.
//!
//! The node id is the key: of two identities of one node exactly one is kept, the one of the later
//! run (*generation*, persisted) or, within a run, of the later *renewal*. A node that was declared
//! down while it lived can only come back under a new identity (SWIM 4.2: down is final); the
//! renewal gives it one without touching the persisted generation. The address is carried, not
//! compared: it decides only between two identities that are otherwise equal, so that all nodes
//! keep the same one.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV6};

use ghostlight_protocol::ids::{Generation, NodeId};

/// A member's name in gossip.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// Where its peers reach it.
    pub address: SocketAddr,
    /// The run of the node.
    pub generation: Generation,
    /// How often this run had to come back after it was declared down, or changed its address.
    pub renewal: u32,
}

impl Identity {
    /// The identity a run of a node begins with.
    #[must_use]
    pub fn new(node: NodeId, address: SocketAddr, generation: Generation) -> Self {
        Self {
            node,
            address: normalised(address),
            generation,
            renewal: 0,
        }
    }

    /// The same run at another address, as an identity that wins over this one.
    #[must_use]
    pub fn moved_to(self, address: SocketAddr) -> Self {
        Self {
            address: normalised(address),
            renewal: self.renewal.saturating_add(1),
            ..self
        }
    }

    /// Whether `self` is kept when both name the same node.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        self.age() > other.age()
    }

    fn age(&self) -> (Generation, u32, SocketAddr) {
        (self.generation, self.renewal, self.address)
    }
}

/// Flow label and scope of an IPv6 address mean nothing to another node and do not travel.
fn normalised(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => address,
        SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), 0, 0).into(),
    }
}

/// `n01234567.3+1@127.0.0.1:7400`: node, generation, renewal if any, address.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.generation.0)?;
        if self.renewal > 0 {
            write!(f, "+{}", self.renewal)?;
        }
        write!(f, "@{}", self.address)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl foca::Identity for Identity {
    type Addr = NodeId;

    fn renew(&self) -> Option<Self> {
        let renewal = self.renewal.checked_add(1)?;
        Some(Self { renewal, ..*self })
    }

    fn addr(&self) -> NodeId {
        self.node
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.supersedes(adversary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(generation: u64, renewal: u32, port: u16) -> Identity {
        Identity {
            renewal,
            ..Identity::new(
                NodeId(7 << 96),
                SocketAddr::from(([127, 0, 0, 1], port)),
                Generation(generation),
            )
        }
    }

    #[test]
    fn one_of_two_wins() {
        let ascending = [
            identity(1, 0, 1),
            identity(1, 0, 2),
            identity(1, 1, 1),
            identity(2, 0, 1),
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(a.supersedes(b), i > j, "{a} against {b}");
            }
        }
    }

    #[test]
    fn renewal_wins_and_keeps_the_generation() {
        let before = identity(3, 0, 9);
        let after = foca::Identity::renew(&before).unwrap();
        assert!(after.supersedes(&before));
        assert_eq!(after.generation, before.generation);
        assert_eq!(after.to_string(), "n00000007.3+1@127.0.0.1:9");
        assert_eq!(foca::Identity::renew(&identity(3, u32::MAX, 9)), None);
    }

    #[test]
    fn scope_and_flow_are_dropped() {
        let address = SocketAddrV6::new("fe80::1".parse().unwrap(), 7400, 5, 3);
        let identity = Identity::new(NodeId(1), address.into(), Generation(1));
        assert_eq!(identity.address, "[fe80::1]:7400".parse().unwrap());
        assert_eq!(identity.moved_to(address.into()).renewal, 1);
    }
}
