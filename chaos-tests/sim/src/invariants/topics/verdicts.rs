//! What verdicts do to a group, and what actors get by them.
//!
//! A group is moved by an entry, and its verdicts are entries: so their order says what must hold
//! for actors, which have each event *exactly once for each time that their group gets it*.
//! - An event becomes a message by the entry that settles it: once until the group is moved, and in
//!   the order of offsets.
//! - A verdict on a delivery from before a move counts for nothing, so that no message of before
//!   comes after those of the move; what were messages before it stay messages, and run before
//!   them.
//! - While a group is paused nothing is settled that was appended since: its leader knows of the
//!   pause.
//! - An actor has run these messages and no others, each once, those of each topic partition in
//!   this order: that is compared in the end. Those that it refuses have changed nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::ids::PartitionId;
use ghostlight_protocol::replica::GroupChanged;
use ghostlight_protocol::topic::{AckSet, Forward, Settle};

use super::{At, Topics};
use crate::heralds::{is_refused, text_of};

/// How a group stands in the log.
#[derive(Debug)]
struct Standing {
    epoch: u64,
    settled: AckSet,
    /// What was appended from there on came while it was paused.
    paused_at: Option<u64>,
    /// Highest offset that became a message in this epoch.
    forwarded: Option<u64>,
}

/// Lines by topic partition.
pub(crate) type Told = BTreeMap<u16, Vec<String>>;

/// What verdicts have done.
#[derive(Default, Debug)]
pub(super) struct Verdicts {
    groups: BTreeMap<(String, u16), Standing>,
    /// What each actor is told of each topic partition, in order.
    messages: BTreeMap<ActorKey, Told>,
}

impl Topics {
    /// Verdicts count.
    pub(super) fn settled(
        &mut self,
        partition: PartitionId,
        number: u16,
        settle: &Arc<Settle>,
        changed: &GroupChanged,
    ) -> Result<(), String> {
        let key = (settle.group.clone(), number);
        let Some(group) = self.verdicts.groups.get(&key) else {
            return Err(format!("{key:?} is settled, and is not there"));
        };
        if settle.epoch != group.epoch {
            return Err(format!(
                "a verdict of before a move counts for nothing: {key:?} is at epoch {}, and takes {settle:?}",
                group.epoch
            ));
        }
        if let Some(paused_at) = group.paused_at
            && let Some(offset) = highest(settle, changed.topic.next).filter(|at| *at >= paused_at)
        {
            return Err(format!(
                "a paused group is given nothing: {key:?} settles {offset}, and was paused at {paused_at}"
            ));
        }
        let (mut settled, mut last) = (group.settled.clone(), group.forwarded);
        for dead in &settle.dead {
            settled.add(dead.offset, dead.offset + 1);
        }
        for forward in &settle.forwards {
            let offset = forward.offset;
            if settled.contains(offset) || offset >= changed.topic.next {
                continue;
            }
            settled.add(offset, offset + 1);
            if last.is_some_and(|last| offset <= last) {
                return Err(format!(
                    "events become messages in their order: {key:?} forwards {offset} after {last:?}"
                ));
            }
            last = Some(offset);
            self.forwarded(partition, &settle.group, (number, offset), forward)?;
        }
        if let Some(group) = self.verdicts.groups.get_mut(&key) {
            group.forwarded = last;
        }
        self.stands_now(number, changed);
        Ok(())
    }

    /// An event has become a message.
    fn forwarded(
        &mut self,
        partition: PartitionId,
        group: &str,
        at: At,
        forward: &Forward,
    ) -> Result<(), String> {
        let send = forward.send.clone().unwrap_or_default();
        let actor = ActorKey::parse(send.actor).map_err(|error| error.to_string())?;
        let line: String = serde_json::from_slice(&send.body).map_err(|error| error.to_string())?;
        let text = Bytes::from(line.clone().into_bytes());
        if let Some(event) = self.events.get(&at)
            && text_of(event) != text
        {
            return Err(format!(
                "an actor is told the event of its offset: {actor} is told {line} for {at:?}, where {event:?} stands"
            ));
        }
        let destination = PartitionId(send.destination as u16);
        if let Some(publisher) = self.publisher_of(&text)
            && publisher != destination
        {
            self.reached
                .push("event of a turn is for an actor in another partition");
            if partition != publisher && partition != destination {
                self.reached
                    .push("event of a turn passes through three partitions");
            }
        }
        let told = self.verdicts.messages.entry(actor).or_default();
        let lines = told.entry(at.0).or_default();
        if lines.contains(&line) {
            self.reached.push("actor is told an event again");
        }
        lines.push(line);
        self.done(group, at);
        Ok(())
    }

    /// Verdicts of before a move came too late.
    pub(super) fn overtaken(&mut self, settle: &Settle) {
        if !settle.forwards.is_empty() {
            self.reached.push("message of before a move refused");
        }
    }

    /// How a group stands after an entry.
    pub(super) fn stands_now(&mut self, number: u16, changed: &GroupChanged) {
        let key = (changed.group.clone(), number);
        let Some(row) = &changed.row else {
            self.verdicts.groups.remove(&key);
            return;
        };
        let before = self.verdicts.groups.remove(&key);
        let before = before.as_ref();
        let same = before.filter(|before| before.epoch == row.epoch);
        let paused_at = before.and_then(|before| before.paused_at);
        let standing = Standing {
            epoch: row.epoch,
            settled: row.acks(),
            paused_at: (row.paused != 0).then(|| paused_at.unwrap_or(changed.topic.next)),
            forwarded: same.and_then(|before| before.forwarded),
        };
        self.verdicts.groups.insert(key, standing);
    }

    /// Where a group began that is about to be moved.
    pub(super) fn floor_of(&self, group: &str, number: u16) -> Option<u64> {
        let group = self.verdicts.groups.get(&(group.to_owned(), number))?;
        Some(group.settled.floor())
    }

    /// What actors are told.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (&ActorKey, &Told)> {
        self.verdicts.messages.iter()
    }
}

/// Compares what an actor has with what it was told.
///
/// # Errors
/// How they differ.
pub(crate) fn compare_lines(got: &[String], told: &Told) -> Result<(), String> {
    let numbers: BTreeMap<&String, u16> = told
        .iter()
        .flat_map(|(number, lines)| lines.iter().map(|line| (line, *number)))
        .collect();
    let mut apart = Told::new();
    for line in got {
        let number = numbers.get(line);
        let number = number.ok_or_else(|| format!("it has {line}, which nobody has told it"))?;
        apart.entry(*number).or_default().push(line.clone());
    }
    for (number, told) in told {
        let got = apart.remove(number).unwrap_or_default();
        let told: Vec<String> = told.iter().filter(|l| !is_refused(l)).cloned().collect();
        if got == told {
            continue;
        }
        let same = got.iter().zip(&told).take_while(|(got, told)| got == told);
        let same = same.count();
        let after = |lines: &[String]| lines[same..].iter().take(4).cloned().collect::<Vec<_>>();
        return Err(format!(
            "of topic partition {number} it has {} lines of {}, and from {same} on {:?} instead of {:?}",
            got.len(),
            told.len(),
            after(&got),
            after(&told)
        ));
    }
    Ok(())
}

/// The highest offset that verdicts are about.
fn highest(settle: &Settle, next: u64) -> Option<u64> {
    let done = settle
        .done
        .iter()
        .map(|range| range.end.min(next).saturating_sub(1));
    let dead = settle.dead.iter().map(|dead| dead.offset);
    let forwards = settle.forwards.iter().map(|forward| forward.offset);
    let failed = settle.failed.iter().copied();
    done.chain(dead).chain(forwards).chain(failed).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_has_what_it_was_told() {
        let lines =
            |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let told = Told::from([(1, lines("a b 5 a b")), (2, lines("x y"))]);
        for (got, is_right) in [
            ("a x b a y b", true),
            ("x y a b a b", true),
            ("a b b a x y", false),
            ("a b a b y x", false),
            ("a b a x y", false),
            ("a b a b b x y", false),
            ("a b a b x y z", false),
        ] {
            assert_eq!(compare_lines(&lines(got), &told).is_ok(), is_right, "{got}");
        }
    }
}
