//! Lists that only grow: every line exists once, and a read gives the whole list.
//!
//! The longest read is the list; a line's place in it says when it was appended. What every other
//! read gives must be a beginning of it. What ended before another thing began happened before it:
//! an acknowledged line is in every later read, no read has a line that was asked for after it,
//! later reads are no shorter, and lines stand in the order of their times. Lines that certainly
//! were not appended, or that nobody asked for, are nowhere.
//!
//! Costs a sort. Lines that no read shows are judged by the replies and times of those that were
//! acknowledged.

use std::collections::BTreeMap;

use crate::operation::{End, Operation};

/// What a list is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// To append a line that exists once.
    Append(String),
    /// For all its lines.
    Read,
}

/// What a list answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// Its length with the new line, if it tells that.
    Appended(Option<u64>),
    /// All its lines.
    Lines(Vec<String>),
}

/// An operation on a list.
pub type ListOperation = Operation<Ask, Told>;

/// A list at some moment between two times: so long at least, or at most.
struct Moment<'a> {
    from: u64,
    to: u64,
    length: u64,
    of: &'a ListOperation,
}

/// Judges the operations on one list, in any order.
///
/// # Errors
/// What cannot be true, in words.
pub fn check(operations: &[ListOperation]) -> Result<(), String> {
    let list = longest(operations);
    let mut places: BTreeMap<&str, u64> = BTreeMap::new();
    for (index, line) in list.iter().enumerate() {
        if places.insert(line, index as u64 + 1).is_some() {
            return Err(format!("{line:?} is there twice"));
        }
    }
    let mut moments = Vec::new();
    let mut asked = 0;
    for operation in operations {
        match (&operation.call, &operation.end) {
            (Ask::Append(line), end) => {
                let place = places.get(line.as_str()).copied();
                asked += usize::from(place.is_some());
                if let Some(length) = appended(operation, end, place, list.len() as u64)? {
                    moments.push(moment(operation, length));
                }
            }
            (Ask::Read, End::Ok { reply, .. }) => {
                let Told::Lines(lines) = reply else {
                    return Err(format!("a read was answered {reply:?}"));
                };
                if !list.starts_with(lines) {
                    return Err(format!("a read is no beginning of the list: {operation:?}"));
                }
                moments.push(moment(operation, lines.len() as u64));
            }
            (Ask::Read, End::Fail { .. } | End::Info { .. }) => {}
        }
    }
    if asked != list.len() {
        return Err(format!(
            "{} lines, {asked} of them asked for once",
            list.len()
        ));
    }
    in_order(moments)
}

/// The longest list that was read.
fn longest(operations: &[ListOperation]) -> &[String] {
    let reads = operations
        .iter()
        .filter_map(|operation| match &operation.end {
            End::Ok {
                reply: Told::Lines(lines),
                ..
            } => Some(&lines[..]),
            _ => None,
        });
    reads.max_by_key(|lines| lines.len()).unwrap_or_default()
}

/// How long the list was with an appended line, of which `read` lines are known; `None`: it may
/// never have been there.
fn appended(
    operation: &ListOperation,
    end: &End<Told>,
    place: Option<u64>,
    read: u64,
) -> Result<Option<u64>, String> {
    match (end, place) {
        (End::Fail { .. }, Some(place)) => Err(format!(
            "{operation:?} did not happen, and its line is at {place}"
        )),
        (End::Fail { .. }, None) | (End::Info { .. }, None) => Ok(None),
        (End::Info { .. }, Some(place)) => Ok(Some(place)),
        (End::Ok { reply, .. }, place) => {
            let Told::Appended(told) = reply else {
                return Err(format!("an append was answered {reply:?}"));
            };
            match (told, place) {
                (Some(told), Some(place)) if *told != place => Err(format!(
                    "{operation:?} was acknowledged as line {told}, and is line {place}"
                )),
                (Some(told), None) if *told <= read => Err(format!(
                    "{operation:?} was acknowledged as line {told}, which is another"
                )),
                // Appended after the longest read: as late as it was told, or later than all that
                // was read.
                (told, None) => Ok(Some(told.unwrap_or(u64::MAX))),
                (_, Some(place)) => Ok(Some(place)),
            }
        }
    }
}

fn moment(of: &ListOperation, length: u64) -> Moment<'_> {
    let to = match of.end {
        End::Ok { at, .. } => at,
        End::Fail { .. } | End::Info { .. } => u64::MAX,
    };
    Moment {
        from: of.invoked,
        to,
        length,
        of,
    }
}

/// The list never gets shorter: a moment of a shorter list did not begin after one of a longer list
/// was over. Two appends do not make the same length.
fn in_order(mut moments: Vec<Moment<'_>>) -> Result<(), String> {
    let is_append = |moment: &Moment<'_>| matches!(moment.of.call, Ask::Append(_));
    // Of one length the append comes first, and its reads begin no earlier.
    moments.sort_by_key(|moment| (moment.length, !is_append(moment), moment.from));
    let mut latest: Option<&Moment<'_>> = None;
    let mut same: Option<&Moment<'_>> = None;
    for moment in &moments {
        if let Some(earlier) = latest.filter(|earlier| moment.to < earlier.from) {
            return Err(format!(
                "the list got shorter: {:?} was over before {:?} began, which has fewer lines",
                moment.of, earlier.of
            ));
        }
        if is_append(moment) && moment.length != u64::MAX {
            if let Some(other) = same.filter(|other| other.length == moment.length) {
                return Err(format!(
                    "two lines have one place: {:?}, {:?}",
                    other.of, moment.of
                ));
            }
            same = Some(moment);
        }
        // What is only known to come after all that was read has no place to compare with.
        let is_placed = moment.length != u64::MAX;
        if is_placed && latest.is_none_or(|latest| latest.from < moment.from) {
            latest = Some(moment);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
