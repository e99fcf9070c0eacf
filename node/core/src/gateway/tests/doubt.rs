//! Attempts of which nobody knows what became of them.

use super::*;

/// Its leader was cut off from its group and closes late; the next one has the call already.
#[test]
fn an_earlier_attempt_that_nobody_knows_of_leaves_the_word_to_the_later_one() {
    let cut = || {
        AnswerKind::Unknown(UnknownAnswer {
            code: u32::from(Code::OutcomeUnknown.number()),
            detail: "cut off".to_owned(),
        })
    };
    for later in [reply(b"x"), cut(), refusal(Code::Cycle, 0)] {
        let mut bench = Bench::new();
        let (_, first) = bench.call(1, Some(ms(1_000)));
        let out = bench.feed(GatewayInput::Leader(hint(8, Some(B))));
        let (_, second) = sent(&out);
        assert_eq!(bench.answer(A, &first, cut()), []);
        let out = bench.answer(B, &second, later.clone());
        if later == reply(b"x") {
            assert_eq!(done(&out), CallOutcome::Reply(Bytes::from_static(b"x")));
        } else {
            assert_eq!(unknown(&out).0, Code::OutcomeUnknown, "{later:?}");
        }
    }
    // Nobody else has it.
    let mut bench = Bench::new();
    let (_, first) = bench.call(1, None);
    bench.map.unreachable = vec![A, B, C];
    assert_eq!(sends(&bench.feed(GatewayInput::Silent(A))), []);
    let out = bench.answer(A, &first, cut());
    assert_eq!(unknown(&out).0, Code::OutcomeUnknown);
}
