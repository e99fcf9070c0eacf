//! `explain`: the page of an error code, built into the binary.

use ghostlight_protocol::code::Code;

use super::lists::print_text;
use super::table::{Align, Table};
use super::{Failure, Verdict};

/// Prints one page, or a list of all codes.
pub(super) fn run(code: Option<&str>) -> Result<Verdict, Failure> {
    let Some(text) = code else {
        print_text(&list());
        return Ok(Verdict::Ok);
    };
    let code = parse(text).ok_or_else(|| {
        Failure::usage(
            Code::InvalidArgument,
            format!("there is no error code {text:?}. \"ghostlight explain\" lists all of them"),
        )
    })?;
    print_text(page(code));
    Ok(Verdict::Ok)
}

/// `E0107`, `e107` and `107` are the same code; so is its `errorCode`.
fn parse(text: &str) -> Option<Code> {
    let digits = text.trim_start_matches(['E', 'e']);
    match digits.parse::<u16>() {
        Ok(number) => Code::from_number(number),
        Err(_) => Code::ALL
            .iter()
            .copied()
            .find(|code| code.error_code() == text),
    }
}

fn list() -> String {
    let mut table = Table::new(&[("CODE", Align::Left), ("WHAT", Align::Left)]);
    for code in Code::ALL {
        let title = page(*code).lines().next().unwrap_or_default();
        let what = title.split_once(": ").map_or(title, |(_, what)| what);
        table.row(vec![code.to_string(), what.to_owned()]);
    }
    table.render()
}

/// The page of a code.
#[must_use]
#[expect(clippy::too_many_lines, reason = "one line for each page")]
pub(super) fn page(code: Code) -> &'static str {
    use Code as C;
    match code {
        C::InvalidActorType => include_str!("../../../docs/errors/E0101.md"),
        C::InvalidActorId => include_str!("../../../docs/errors/E0102.md"),
        C::InvalidMethod => include_str!("../../../docs/errors/E0103.md"),
        C::BodyTooLarge => include_str!("../../../docs/errors/E0104.md"),
        C::DeadlineExpired => include_str!("../../../docs/errors/E0105.md"),
        C::UnknownActorType => include_str!("../../../docs/errors/E0106.md"),
        C::UnknownMethod => include_str!("../../../docs/errors/E0107.md"),
        C::MailboxFull => include_str!("../../../docs/errors/E0108.md"),
        C::RequestIdReused => include_str!("../../../docs/errors/E0109.md"),
        C::Cycle => include_str!("../../../docs/errors/E0110.md"),
        C::ChainTooDeep => include_str!("../../../docs/errors/E0111.md"),
        C::OutcomeUnknown => include_str!("../../../docs/errors/E0112.md"),
        C::Interrupted => include_str!("../../../docs/errors/E0113.md"),
        C::DedupFull => include_str!("../../../docs/errors/E0114.md"),
        C::InvalidRequestId => include_str!("../../../docs/errors/E0115.md"),
        C::TurnPanicked => include_str!("../../../docs/errors/E0116.md"),
        C::GatewayFull => include_str!("../../../docs/errors/E0117.md"),
        C::InvalidArgument => include_str!("../../../docs/errors/E0118.md"),
        C::TurnTooLarge => include_str!("../../../docs/errors/E0119.md"),
        C::SessionClosed => include_str!("../../../docs/errors/E0120.md"),
        C::ReplyNotKept => include_str!("../../../docs/errors/E0121.md"),
        C::InvalidDeadline => include_str!("../../../docs/errors/E0122.md"),
        C::NoHost => include_str!("../../../docs/errors/E0124.md"),
        C::ActorTypeReserved => include_str!("../../../docs/errors/E0123.md"),
        C::MessagesFull => include_str!("../../../docs/errors/E0125.md"),
        C::NodeBusy => include_str!("../../../docs/errors/E0126.md"),
        C::TurnOver => include_str!("../../../docs/errors/E0127.md"),
        C::NoLeader => include_str!("../../../docs/errors/E0201.md"),
        C::MinCopies => include_str!("../../../docs/errors/E0202.md"),
        C::ShuttingDown => include_str!("../../../docs/errors/E0203.md"),
        C::NotJoined => include_str!("../../../docs/errors/E0204.md"),
        C::ClusterKeyRejected => include_str!("../../../docs/errors/E0205.md"),
        C::ClusterIdMismatch => include_str!("../../../docs/errors/E0206.md"),
        C::ShapeMismatch => include_str!("../../../docs/errors/E0207.md"),
        C::StaleGeneration => include_str!("../../../docs/errors/E0208.md"),
        C::Decommissioned => include_str!("../../../docs/errors/E0209.md"),
        C::LeaveBelowFactor => include_str!("../../../docs/errors/E0210.md"),
        C::Yielded => include_str!("../../../docs/errors/E0211.md"),
        C::EdgeCannotFound => include_str!("../../../docs/errors/E0212.md"),
        C::UnknownNode => include_str!("../../../docs/errors/E0213.md"),
        C::RemoveLiveNode => include_str!("../../../docs/errors/E0214.md"),
        C::ProtocolMismatch => include_str!("../../../docs/errors/E0215.md"),
        C::LeaderMoved => include_str!("../../../docs/errors/E0216.md"),
        C::SeedsSilent => include_str!("../../../docs/errors/E0217.md"),
        C::HashRulesMismatch => include_str!("../../../docs/errors/E0218.md"),
        C::ClockOff => include_str!("../../../docs/errors/E0220.md"),
        C::OrderUnconfirmed => include_str!("../../../docs/errors/E0221.md"),
        C::AmbiguousNode => include_str!("../../../docs/errors/E0222.md"),
        C::DataDirLocked => include_str!("../../../docs/errors/E0301.md"),
        C::DataDirReadOnly => include_str!("../../../docs/errors/E0302.md"),
        C::DataDirFull => include_str!("../../../docs/errors/E0303.md"),
        C::DataDirNewer => include_str!("../../../docs/errors/E0304.md"),
        C::DataDirForeign => include_str!("../../../docs/errors/E0305.md"),
        C::DataDirCorrupt => include_str!("../../../docs/errors/E0306.md"),
        C::StorageFailed => include_str!("../../../docs/errors/E0307.md"),
        C::ReplicaCondemned => include_str!("../../../docs/errors/E0308.md"),
        C::DataDirUnusable => include_str!("../../../docs/errors/E0309.md"),
        C::StatesDiffer => include_str!("../../../docs/errors/E0310.md"),
        C::PromisesLost => include_str!("../../../docs/errors/E0311.md"),
        C::DiskSlow => include_str!("../../../docs/errors/E0320.md"),
        C::DiskRoomShort => include_str!("../../../docs/errors/E0321.md"),
        C::NodeStarved => include_str!("../../../docs/errors/E0322.md"),
        C::PortInUse => include_str!("../../../docs/errors/E0401.md"),
        C::ConfigUnknownKey => include_str!("../../../docs/errors/E0402.md"),
        C::ConfigInvalid => include_str!("../../../docs/errors/E0403.md"),
        C::KeyFileUnusable => include_str!("../../../docs/errors/E0404.md"),
        C::ProfileRefuses => include_str!("../../../docs/errors/E0405.md"),
        C::NodeUnreachable => include_str!("../../../docs/errors/E0406.md"),
        C::PartitionsInvalid => include_str!("../../../docs/errors/E0407.md"),
        C::DemoFailed => include_str!("../../../docs/errors/E0408.md"),
        C::BenchFailed => include_str!("../../../docs/errors/E0409.md"),
        C::TokenRefused => include_str!("../../../docs/errors/E0410.md"),
        C::InvalidTopic => include_str!("../../../docs/errors/E0501.md"),
        C::TopicBusy => include_str!("../../../docs/errors/E0502.md"),
        C::UnknownGroup => include_str!("../../../docs/errors/E0503.md"),
        C::CursorOutOfRange => include_str!("../../../docs/errors/E0504.md"),
        C::UnknownTopic => include_str!("../../../docs/errors/E0505.md"),
        C::EphemeralTopic => include_str!("../../../docs/errors/E0506.md"),
        C::BusUnavailable => include_str!("../../../docs/errors/E0510.md"),
        C::BusNotServed => include_str!("../../../docs/errors/E0511.md"),
        C::Internal => include_str!("../../../docs/errors/E0999.md"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_about_its_code_and_complete() {
        for code in Code::ALL {
            let page = page(*code);
            assert!(page.starts_with(&format!("# {code}: ")), "{code}");
            for part in ["## What happened", "## Why", "## What to do"] {
                let text = page
                    .split_once(part)
                    .map(|(_, after)| after.trim())
                    .unwrap_or_default();
                assert!(text.len() > 40 && !text.starts_with('#'), "{code}: {part}");
            }
        }
    }

    #[test]
    fn codes_as_people_write_them() {
        for text in ["E0107", "e107", "107", "ERR_GHOSTLIGHT_UNKNOWN_METHOD"] {
            assert_eq!(parse(text), Some(Code::UnknownMethod), "{text}");
        }
        for wrong in ["", "E", "E0000", "abc"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
