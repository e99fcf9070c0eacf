//! When a lost database may be given up, as a table of what the leaders say and when.

use super::*;

const LOST: NodeId = NodeId(9);
const PARTITIONS: u16 = 4;

fn at(ms: u64) -> Instant {
    Instant(1_000_000_000) + Duration::from_millis(ms)
}

fn inquiry() -> Inquiry {
    Inquiry::new(
        at(0),
        LOST,
        PARTITIONS,
        vec!["a:1".to_owned(), "b:1".to_owned()],
    )
}

fn answer(from: u128, about: NodeId, survive: &[u32], depend: &[u32]) -> InquiryInput {
    InquiryInput::Answer {
        from: NodeId(from),
        survival: Survival {
            node: Bytes::copy_from_slice(&about.to_bytes()),
            survive: survive.to_vec(),
            depend: depend.to_vec(),
        },
    }
}

fn ends(effects: Vec<InquiryEffect>) -> Vec<Verdict> {
    let verdicts = effects.into_iter().filter_map(|effect| match effect {
        InquiryEffect::End(verdict) => Some(verdict),
        InquiryEffect::Dial(_) | InquiryEffect::Ask(..) => None,
    });
    verdicts.collect()
}

/// Feeds answers at their times, then the end of the time; what it ended with, and when.
fn run(answers: &[(u64, InquiryInput)]) -> (u64, Verdict) {
    let mut inquiry = inquiry();
    for (ms, input) in answers {
        let mut out = Vec::new();
        inquiry.handle(at(*ms), input.clone(), &mut out);
        if let Some(verdict) = ends(out).pop() {
            return (*ms, verdict);
        }
    }
    let mut out = Vec::new();
    inquiry.handle(at(30_000), InquiryInput::Tick, &mut out);
    let verdict = ends(out).pop();
    (30_000, verdict.expect("it is over after its longest time"))
}

#[test]
fn only_fresh_words_for_every_partition_let_a_database_go() {
    let all = &[0, 1, 2, 3][..];
    let give_up = |by: &[u128]| Verdict::GiveUp {
        by: by.iter().copied().map(NodeId).collect(),
    };
    let keep = |why: &str| Verdict::Keep {
        why: why.to_owned(),
    };
    let rows = [
        // One leader speaks for all.
        (vec![(10, answer(1, LOST, all, &[]))], (10, give_up(&[1]))),
        // Two leaders share them.
        (
            vec![
                (10, answer(1, LOST, &[0, 1], &[])),
                (900, answer(2, LOST, &[2, 3], &[])),
            ],
            (900, give_up(&[1, 2])),
        ),
        // A word that is too old does not count, and is given again.
        (
            vec![
                (10, answer(1, LOST, &[0, 1], &[])),
                (3_010, answer(2, LOST, &[2, 3], &[])),
                (3_020, answer(1, LOST, &[0, 1], &[])),
            ],
            (3_020, give_up(&[1, 2])),
        ),
        // A leader that needs the lost copy takes its word back, and gives it later.
        (
            vec![
                (10, answer(1, LOST, &[0, 1, 2], &[])),
                (20, answer(1, LOST, &[], &[2])),
                (30, answer(2, LOST, &[3], &[])),
                (500, answer(1, LOST, &[2], &[])),
            ],
            (500, give_up(&[1, 2])),
        ),
        // Answers about another node are no answers; neither are partitions that do not exist.
        (
            vec![
                (10, answer(1, NodeId(8), all, &[])),
                (29_990, answer(1, LOST, &[0, 1, 2, 4, 70_000], &[])),
            ],
            (30_000, keep("nobody leads 1 of 4 partitions (p3)")),
        ),
        (
            vec![(29_990, answer(1, LOST, &[0, 1], &[3]))],
            (
                30_000,
                keep(
                    "nobody leads 1 of 4 partitions (p2); 1 of 4 partitions have no live majority \
                     without this node (p3)",
                ),
            ),
        ),
        (
            vec![],
            (30_000, keep("none of the nodes at a:1, b:1 answered")),
        ),
    ];
    for (answers, expected) in rows {
        assert_eq!(run(&answers), expected, "{answers:?}");
    }
}

#[test]
fn it_dials_who_is_not_there_and_asks_who_is() {
    let mut inquiry = inquiry();
    let mut out = Vec::new();
    inquiry.handle(at(0), InquiryInput::Tick, &mut out);
    let dial = |address: &str| InquiryEffect::Dial(address.to_owned());
    assert_eq!(out, [dial("a:1"), dial("b:1")]);
    let ask = InquiryEffect::Ask(NodeId(1), inquiry.question());
    out.clear();
    let connected = InquiryInput::Connected {
        node: NodeId(1),
        address: "a:1".to_owned(),
    };
    inquiry.handle(at(10), connected, &mut out);
    assert_eq!(out, std::slice::from_ref(&ask));
    let mut asked = 0;
    let mut dialed = Vec::new();
    while let Some(deadline) = inquiry.next_deadline().filter(|d| *d < at(5_000)) {
        out.clear();
        inquiry.handle(deadline, InquiryInput::Tick, &mut out);
        for effect in &out {
            match effect {
                InquiryEffect::Ask(..) => asked += 1,
                InquiryEffect::Dial(address) => dialed.push(address.clone()),
                InquiryEffect::End(_) => panic!("nobody has answered"),
            }
        }
    }
    assert_eq!(asked, 9);
    assert_eq!(dialed, ["b:1"; 4]);
    out.clear();
    inquiry.handle(at(5_000), InquiryInput::Disconnected(NodeId(1)), &mut out);
    assert!(!out.contains(&ask));
    assert!(out.contains(&dial("a:1")), "{out:?}");
}
