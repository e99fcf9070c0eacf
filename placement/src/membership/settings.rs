//! The failure detector's numbers.
//!
//! Measured with foca itself (kill to "everyone knows": p50 2.9 s, p95 4.3 s up to ten nodes). The
//! crate's own choice of transmissions is unsafe in small clusters: three nodes with 1 % loss had
//! 176 false "down" notices in ten hours, with ten transmissions none.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::PeriodicParams;

/// Largest gossip datagram, sent or accepted: fits a QUIC datagram at the smallest MTU.
pub const GOSSIP_BYTES_MAX: usize = 1_100;
/// Members met that have not answered yet; the oldest by node id are kept.
pub const MEETINGS_MAX: usize = 64;
/// Nodes that one round of announcements goes to.
pub const ANNOUNCE_FANOUT_MAX: usize = 8;
/// Announcements to a node that does not answer, while others do.
pub const ANNOUNCE_ATTEMPTS_MAX: u32 = 30;
/// Nodes that are told at once when this node leaves.
pub const LEAVE_FANOUT_MAX: usize = 64;
/// How often a leaving node says so.
pub const LEAVE_ROUNDS: u8 = 3;
/// Largest lag score: the suspicion time is at most this many times longer, plus one.
pub const LAG_SCORE_MAX: u32 = 7;

const LEAVE_TRANSMISSIONS: u8 = 255;
const _: () = assert!(LEAVE_FANOUT_MAX * LEAVE_ROUNDS as usize <= LEAVE_TRANSMISSIONS as usize);

/// What the failure detector trades. All nodes of a cluster should use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often one member is probed. Longer than three round trips of `rtt`.
    pub period: Duration,
    /// How long a direct answer may take before others are asked to probe.
    pub rtt: Duration,
    /// How long a suspect has to refute before it counts as down. At least twice `period`.
    pub suspicion: Duration,
    /// Members asked to probe in our place.
    pub indirect_probes: NonZeroUsize,
    /// How often one news is passed on.
    pub transmissions: NonZeroU8,
    /// How often waiting news is sent apart from probes.
    pub gossip_period: Duration,
    /// How often one random member is asked for its whole list.
    pub exchange_period: Duration,
    /// How often members that are down are asked whether they are back: heals a split.
    pub revival_period: Duration,
    /// How long a member that is down is remembered.
    pub remember_down: Duration,
    /// How often a node outside announces itself; each round comes up to a quarter later.
    pub announce_period: Duration,
    /// Time between two announcements that this node leaves.
    pub leave_period: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            period: Duration::from_millis(500),
            rtt: Duration::from_millis(150),
            suspicion: Duration::from_secs(2),
            indirect_probes: NonZeroUsize::new(3).expect("three is not zero"),
            transmissions: NonZeroU8::new(10).expect("ten is not zero"),
            gossip_period: Duration::from_millis(200),
            exchange_period: Duration::from_secs(30),
            revival_period: Duration::from_secs(5),
            remember_down: Duration::from_secs(24 * 3_600),
            announce_period: Duration::from_secs(1),
            leave_period: Duration::from_millis(100),
        }
    }
}

impl Settings {
    /// How long a member may stay suspect here: time for the accuser's verdict, or the refutation,
    /// to come.
    pub(super) fn verdict_after(&self, lag_score: u32) -> Duration {
        self.suspicion * (1 + lag_score.min(LAG_SCORE_MAX)) * 3
    }

    /// Checks what the failure detector relies on.
    ///
    /// # Panics
    /// When times contradict each other: settings are made by the program, not by users.
    pub(super) fn check(&self) {
        let (period, rtt, suspicion) = (self.period, self.rtt, self.suspicion);
        assert!(!rtt.is_zero(), "a round trip takes time");
        assert!(
            rtt * 3 <= period,
            "period {period:?} under three of rtt {rtt:?}"
        );
        assert!(
            period * 2 <= suspicion,
            "suspicion {suspicion:?} under two of {period:?}"
        );
        for pause in [
            self.gossip_period,
            self.exchange_period,
            self.revival_period,
            self.announce_period,
            self.leave_period,
        ] {
            assert!(!pause.is_zero(), "a periodic task needs a pause");
        }
    }

    /// foca's form, with the suspicion time stretched by a lag score.
    pub(super) fn config(&self, lag_score: u32) -> foca::Config {
        let periodic = |frequency, count| {
            let num_members = NonZeroUsize::new(count).expect("counts here are above zero");
            Some(PeriodicParams {
                frequency,
                num_members,
            })
        };
        foca::Config {
            probe_period: self.period,
            probe_rtt: self.rtt,
            num_indirect_probes: self.indirect_probes,
            max_transmissions: self.transmissions,
            suspect_to_down_after: self.suspicion * (1 + lag_score.min(LAG_SCORE_MAX)),
            remove_down_after: Some(self.remember_down),
            max_packet_size: NonZeroUsize::new(GOSSIP_BYTES_MAX).expect("a packet has bytes"),
            notify_down_members: true,
            periodic_announce: periodic(self.exchange_period, 1),
            periodic_announce_to_down_members: periodic(self.revival_period, 3),
            periodic_gossip: periodic(self.gossip_period, 3),
        }
    }

    /// foca's form for the goodbye: every active member is told, in every round.
    pub(super) fn leave_config(&self, active: usize) -> foca::Config {
        let fanout = active.clamp(1, LEAVE_FANOUT_MAX);
        foca::Config {
            num_indirect_probes: NonZeroUsize::new(fanout).expect("clamped to one or more"),
            max_transmissions: NonZeroU8::new(LEAVE_TRANSMISSIONS).expect("not zero"),
            ..self.config(0)
        }
    }
}
