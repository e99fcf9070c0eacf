//! Leaders that are overrun.

use super::*;

/// Guards `leader_is_busy`: a leader that is overrun is not asked by those who could wait no longer
/// than who was refused.
#[test]
fn a_busy_leader_is_left_alone_while_its_pause_lasts() {
    let mut bench = Bench::new();
    let (_, request) = bench.call(1, Some(ms(1_000)));
    let refusal = AnswerKind::NotRun(NotRunAnswer {
        code: u32::from(Code::NodeBusy.number()),
        detail: "too many turns wait".to_owned(),
        retry_after_ms: 50,
    });
    let mut out = bench.answer(A, &request, refusal);
    out.retain(|effect| !matches!(effect, GatewayEffect::Overrun { .. }));
    assert_eq!(not_run(&out), (Code::NodeBusy, true));
    // (at, deadline, sent)
    let table = [
        (1, Some(900), false),
        (1, Some(1_001), false),
        // It can wait for longer than the one that was refused.
        (1, Some(1_900), true),
        (1, None, true),
        (49, Some(1_000), false),
        (50, Some(1_000), true),
    ];
    for (ticket, (at, deadline, sent)) in (2..).zip(table) {
        bench.now = ms(at);
        let out = bench.feed(client(ticket, deadline.map(ms)));
        let went = matches!(out[..], [GatewayEffect::Send { to: A, .. }]);
        assert_eq!(went, sent, "at {at} with {deadline:?}: {out:?}");
        if !sent {
            assert_eq!(not_run(&out), (Code::NodeBusy, true));
        }
    }
    // What is asked by a turn goes.
    let out = bench.feed(GatewayInput::Nested(nested(1, 1)));
    assert!(matches!(out[..], [GatewayEffect::Send { .. }]), "{out:?}");
}

/// While every leader is overrun, whoever lets clients in is told so, for as long as that holds for
/// all of them; one that is not, or not known to be, has room.
#[test]
fn clients_need_not_come_while_every_leader_is_overrun() {
    let overrun = |out: &[GatewayEffect]| {
        let said = out.iter().filter_map(|effect| match effect {
            GatewayEffect::Overrun { until, patience } => Some((*until, *patience)),
            _ => None,
        });
        said.collect::<Vec<_>>()
    };
    let busy = |retry_after_ms| {
        AnswerKind::NotRun(NotRunAnswer {
            code: u32::from(Code::NodeBusy.number()),
            detail: "too many turns wait".to_owned(),
            retry_after_ms,
        })
    };
    let mut bench = Bench::new();
    let (_, one) = bench.call(1, Some(ms(1_000)));
    let (_, two) = bench.call(2, Some(ms(600)));
    let (_, three) = bench.call(3, Some(ms(600)));
    let out = bench.answer(A, &one, busy(50));
    let half = |time: u64| Duration::from_millis(time / 2);
    assert_eq!(
        overrun(&out),
        [(ms(50), half(1_000))],
        "A leads all there is"
    );
    // No longer than was told before: it is not said again for each call.
    bench.now = ms(2);
    assert_eq!(overrun(&bench.answer(A, &two, busy(50))), []);
    bench.now = ms(10);
    assert_eq!(
        overrun(&bench.answer(A, &three, busy(50))),
        [(ms(60), half(600))]
    );
}
