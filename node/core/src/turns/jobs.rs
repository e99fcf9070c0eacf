//! Every request and message of this leadership that is not yet finished: where it is and who
//! waits.
//!
//! A request is listed from its arrival until its answer leaves, so that a repeated id always joins
//! and never runs a second time beside itself. Numbers grow with arrival and are never reused.

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::call::{Ask, Metadata, Stamp};
use ghostlight_protocol::closed::Closed;
use ghostlight_protocol::command::{ScheduleKind, ScheduleRow};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::time::{Instant, WallTime};

use super::Caller;
use super::fixed_hash::{FixedHash, FixedMap};
use super::mailbox::Line;

/// Callers of one request that wait at the same time; beyond it the oldest is told that the outcome
/// is unknown to it. A gateway asks once, so this is about clients that share an id from outside.
pub(super) const CALLERS_MAX: usize = 64;

/// Number of a request or message; grows with arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct JobId(pub(super) u64);

/// A request or a message.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) actor: ActorKey,
    pub(super) work: Work,
    pub(super) method: String,
    pub(super) body: Bytes,
    pub(super) stamp: Stamp,
    pub(super) deadline: Option<Instant>,
    pub(super) chain: Vec<ActorKey>,
    pub(super) place: Place,
    pub(super) reach: Reach,
    pub(super) speculation: Speculation,
    pub(super) reruns: u8,
    /// Parts of its turn that are committed, or may be.
    pub(super) parts: u32,
    /// When it came, or its turn began.
    pub(super) since: Instant,
    /// What travels beside the body, for an application.
    pub(super) metadata: Vec<Metadata>,
}

/// Where it came from.
#[derive(Debug)]
pub(super) enum Work {
    /// A gateway.
    Call(CallWork),
    /// The inbox.
    Message {
        /// Its row.
        sequence: u64,
        /// How often it has failed.
        attempts: u32,
    },
    /// A reminder or timer that is due.
    Wakeup(Box<Due>),
}

/// A reminder or timer that is due.
#[derive(Clone, PartialEq, Debug)]
pub struct Due {
    /// Whose.
    pub actor: ActorKey,
    /// Which of the two.
    pub kind: ScheduleKind,
    /// Its name.
    pub name: String,
    /// Its row.
    pub row: ScheduleRow,
    /// Of a timer, whose row stays as it was set: when this firing was due.
    pub tick: WallTime,
    /// Whether the row is still the one it fires from.
    pub standing: Standing,
}

/// What became of a firing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WakeupEnd {
    /// Its actor was called.
    Called,
    /// Nobody could be called at the moment, or what was called may not count at the moment: it is
    /// still due.
    NotCalled,
    /// It was over before its actor was called: its row is another one now, or its time has passed.
    Overtaken,
}

/// See [`Due::standing`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Standing {
    /// As far as is known.
    #[default]
    Stands,
    /// It was set anew, or removed, since it fired.
    SetAnew,
    /// Its time had passed before its turn began.
    Ended,
}

/// What only a call has.
#[derive(Debug)]
pub(super) struct CallWork {
    pub(super) id: RequestId,
    /// Key of its dedup record, which is also what makes it unique here.
    pub(super) key: Bytes,
    pub(super) digest: u128,
    pub(super) callers: Vec<Caller>,
    /// Those who went while its turn ran: they hear when it is over, and nothing else of it.
    pub(super) gone: Vec<Caller>,
    /// What its session has closed.
    pub(super) closed: Closed,
    /// The highest that arrived.
    pub(super) attempt: u32,
    /// Last ReadIndex round begun when it arrived: an answer without an entry needs a later one.
    pub(super) arrived_round: u64,
    /// Asked of the actor's rows instead of its code; it waits in no mailbox.
    pub(super) operation: Option<Box<Ask>>,
}

/// Where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// Its record is looked up.
    Lookup,
    /// In the mailbox.
    Waiting,
    /// Its turn runs, or has ended and waits for earlier turns before it concludes.
    Running,
    /// Its entry waits to be proposed.
    Queued,
    /// Its entry is in the log, as far as this node knows.
    Proposed,
    /// Its answer waits for earlier turns or for a ReadIndex.
    Held,
    /// An operation: the rows it is about are being read.
    Asking,
}

/// Whether its turn has called another actor: then it may have had effects elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reach {
    /// No.
    Inside,
    /// Yes.
    CalledOut,
    /// The same, of a turn that runs in an application: it may go on under the next leader, and its
    /// calls are known again there.
    Joined,
}

/// Whether its turn was started on results that were not yet committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Speculation {
    /// No.
    None,
    /// Yes.
    On {
        /// Bytes of its own write set so far.
        bytes: usize,
    },
}

impl Job {
    /// Whether a running turn waits for it: then it is exempt from admission.
    pub(super) fn serves_a_turn(&self) -> bool {
        !self.chain.is_empty()
    }

    pub(super) fn call(&self) -> Option<&CallWork> {
        match &self.work {
            Work::Call(call) => Some(call),
            Work::Message { .. } | Work::Wakeup(_) => None,
        }
    }

    /// Where it waits in its actor's mailbox.
    pub(super) fn line(&self) -> Line {
        match &self.work {
            Work::Call(_) => Line::Calls,
            Work::Message { .. } => Line::Messages,
            Work::Wakeup(_) => Line::Wakeups,
        }
    }

    /// A firing of a row that is another one now.
    pub(super) fn is_overtaken(&self) -> bool {
        matches!(&self.work, Work::Wakeup(due) if due.standing == Standing::SetAnew)
    }

    /// A firing whose row has ended by now.
    pub(super) fn is_late(&self, wall: WallTime) -> bool {
        match &self.work {
            Work::Wakeup(due) => due.row.ends_ms != 0 && due.row.ends_ms <= wall.0,
            Work::Call(_) | Work::Message { .. } => false,
        }
    }

    pub(super) fn is_operation(&self) -> bool {
        self.call().is_some_and(|call| call.operation.is_some())
    }

    pub(super) fn call_mut(&mut self) -> Option<&mut CallWork> {
        match &mut self.work {
            Work::Call(call) => Some(call),
            Work::Message { .. } | Work::Wakeup(_) => None,
        }
    }
}

/// What a hangup found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Left {
    /// Others wait, or it is past waiting: whoever went hears when it is over.
    Waits,
    /// There is no such call: it was answered, or is not here.
    Unknown,
    /// Nobody waits for it, and it has not begun.
    Abandoned(JobId),
}

/// The table of jobs.
#[derive(Debug)]
pub(super) struct Jobs {
    table: FixedMap<JobId, Job>,
    by_key: FixedMap<Bytes, JobId>,
    by_caller: FixedMap<Caller, JobId>,
    last: u64,
    /// Bodies of the calls in the table.
    call_bytes: usize,
}

impl Jobs {
    pub(super) fn new(hash: FixedHash) -> Self {
        Self {
            table: FixedMap::with_hasher(hash),
            by_key: FixedMap::with_hasher(hash),
            by_caller: FixedMap::with_hasher(hash),
            last: 0,
            call_bytes: 0,
        }
    }

    pub(super) fn call_bytes(&self) -> usize {
        self.call_bytes
    }

    pub(super) fn insert(&mut self, job: Job) -> JobId {
        self.last += 1;
        let id = JobId(self.last);
        if let Some(call) = job.call() {
            self.call_bytes += job.body.len();
            let before = self.by_key.insert(call.key.clone(), id);
            assert!(before.is_none(), "{:?} is in flight twice", call.id);
            let callers = call.callers.clone();
            for caller in callers {
                self.claim(caller, id);
            }
        }
        self.table.insert(id, job);
        id
    }

    pub(super) fn get(&self, id: JobId) -> Option<&Job> {
        self.table.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.table.get_mut(&id)
    }

    /// A job that its owner knows to be there.
    #[track_caller]
    pub(super) fn at(&mut self, id: JobId) -> &mut Job {
        self.table
            .get_mut(&id)
            .expect("who holds the number of a job takes it out of its place first")
    }

    /// The unfinished request with this dedup key.
    pub(super) fn in_flight(&self, key: &[u8]) -> Option<JobId> {
        self.by_key.get(key).copied()
    }

    pub(super) fn remove(&mut self, id: JobId) -> Option<Job> {
        let job = self.table.swap_remove(&id)?;
        if let Some(call) = job.call() {
            self.call_bytes -= job.body.len();
            self.by_key.swap_remove(&call.key);
            for caller in &call.callers {
                self.by_caller.swap_remove(caller);
            }
        }
        Some(job)
    }

    /// Adds a caller to a request in flight; returns the one that had to give way.
    pub(super) fn join(&mut self, id: JobId, caller: Caller) -> Option<Caller> {
        if self.by_caller.get(&caller) == Some(&id) {
            return None;
        }
        self.claim(caller, id);
        let callers = &mut self.at(id).call_mut().expect("only calls join").callers;
        callers.push(caller);
        let displaced = (callers.len() > CALLERS_MAX).then(|| callers.remove(0));
        if let Some(displaced) = &displaced {
            self.by_caller.swap_remove(displaced);
        }
        displaced
    }

    /// A caller's number belongs to one request only; a reused number leaves its older request.
    fn claim(&mut self, caller: Caller, id: JobId) {
        if let Some(before) = self.by_caller.insert(caller, id)
            && before != id
            && let Some(call) = self.table.get_mut(&before).and_then(Job::call_mut)
        {
            call.callers.retain(|c| *c != caller);
        }
    }

    /// The caller has gone.
    pub(super) fn leave(&mut self, caller: Caller) -> Left {
        let Some(id) = self.by_caller.swap_remove(&caller) else {
            return Left::Unknown;
        };
        let job = self.at(id);
        let waits = matches!(job.place, Place::Lookup | Place::Waiting);
        let CallWork { callers, gone, .. } = job.call_mut().expect("only calls have callers");
        callers.retain(|c| *c != caller);
        if gone.len() < CALLERS_MAX {
            gone.push(caller);
        }
        match waits && callers.is_empty() {
            true => Left::Abandoned(id),
            false => Left::Waits,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (JobId, &Job)> {
        self.table.iter().map(|(id, job)| (*id, job))
    }

    /// Everything, in order of arrival.
    pub(super) fn into_sorted(mut self) -> Vec<(JobId, Job)> {
        self.table.sort_unstable_keys();
        self.table.into_iter().collect()
    }

    pub(super) fn check(&self) {
        assert!(self.by_key.len() <= self.table.len());
    }
}
