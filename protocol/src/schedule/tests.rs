use proptest::prelude::*;

use super::*;

const NOW: WallTime = WallTime(1_772_366_400_000); // 2026-03-01T12:00:00Z

fn span(months: u32, days: u32, ms: u64) -> Span {
    Span {
        months,
        days,
        time: Duration::from_millis(ms),
    }
}

#[test]
fn due_times() {
    for (text, expected) in [
        ("0h0m2s0ms0\u{3bc}s", span(0, 0, 2_000)),
        ("0h0m2s0ms0\u{b5}s", span(0, 0, 2_000)),
        ("1h2m3s4ms", span(0, 0, 3_723_004)),
        ("0h0m3s0ms", span(0, 0, 3_000)),
        ("2s", span(0, 0, 2_000)),
        ("1m", span(0, 0, 60_000)),
        ("500ms", span(0, 0, 500)),
        ("1.5h", span(0, 0, 5_400_000)),
        (".5s", span(0, 0, 500)),
        ("1.s", span(0, 0, 1_000)),
        ("+3s", span(0, 0, 3_000)),
        ("0", span(0, 0, 0)),
        ("-0", span(0, 0, 0)),
        ("-5s", span(0, 0, 0)),
        ("@every 1s", span(0, 0, 1_000)),
        ("PT5S", span(0, 0, 5_000)),
        ("P1DT2H", span(0, 1, 7_200_000)),
        ("P1Y2M1W3DT4H5M6S", span(14, 10, 14_706_000)),
        ("PT", span(0, 0, 0)),
        ("R-1/PT5S", span(0, 0, 5_000)),
    ] {
        assert_eq!(Due::parse(text), Ok(Due::After(expected)), "{text}");
    }
    assert_eq!(Due::parse("2026-03-01T13:00:00+01:00"), Ok(Due::At(NOW)));
    assert_eq!(
        Due::parse("100us"),
        Ok(Due::After(Span::exact(Duration::from_micros(100))))
    );
}

#[test]
fn what_is_no_due_time_is_refused_in_daprs_words() {
    for text in [
        "soon",
        "5",
        "5 s",
        "1d",
        "s",
        ".s",
        "1h2",
        "--1s",
        "P",
        "PT5",
        "P5",
        "PT0.5S",
        "P1S",
        "PT1D",
        "P1DX",
        "pt5s",
        "P-1D",
        "@every",
        "@hourly",
        "2026-03-01",
        "9999999h",
        "P99999999D",
        "P999999W",
        "P10001Y",
        "PT3652500H",
        "P١D",
    ] {
        let error = Due::parse(text).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("unsupported time/duration format: {text}")
        );
    }
    for text in ["R3/PT5S", "R3"] {
        let error = Due::parse(text).unwrap_err();
        assert_eq!(error.to_string(), "repetitions are not allowed", "{text}");
    }
}

#[test]
fn periods() {
    for (text, every, repetitions, shown) in [
        ("1s", span(0, 0, 1_000), None, "@every 1s"),
        ("@every 90s", span(0, 0, 90_000), None, "@every 1m30s"),
        ("0h0m0s100ms", span(0, 0, 100), None, "@every 100ms"),
        ("R4/PT5S", span(0, 0, 5_000), Some(4), "@every 5s"),
        ("R1/PT1H", span(0, 0, 3_600_000), Some(1), "@every 1h0m0s"),
        ("R2", span(0, 0, 0), Some(2), "@every 0s"),
        ("R2/", span(0, 0, 0), Some(2), "@every 0s"),
        ("P1D", span(0, 1, 0), None, "P1D"),
        ("R3/P1M2DT30M", span(1, 2, 1_800_000), Some(3), "P1M2DT30M"),
        ("P2Y", span(24, 0, 0), None, "P2Y"),
    ] {
        let period = Period::parse(text).unwrap();
        assert_eq!(period, Period { every, repetitions }, "{text}");
        assert_eq!(period.to_string(), shown, "{text}");
    }
    for (text, words) in [
        ("R0/PT5S", "has zero repetitions"),
        ("R0", "has zero repetitions"),
        ("", "parse error: unsupported duration format: "),
        ("-1s", "parse error: unsupported duration format: -1s"),
        ("R/PT5S", "parse error: unsupported duration format: R/PT5S"),
        (
            "R+2/PT5S",
            "parse error: unsupported duration format: R+2/PT5S",
        ),
        ("R2PT5S", "parse error: unsupported duration format: R2PT5S"),
        (
            "R5000000000/PT1S",
            "parse error: unsupported duration format: R5000000000/PT1S",
        ),
        (
            "2026-03-01T12:00:00Z",
            "parse error: unsupported duration format: 2026-03-01T12:00:00Z",
        ),
    ] {
        assert_eq!(Period::parse(text).unwrap_err().to_string(), words);
    }
}

#[test]
fn durations_are_written_as_go_writes_them() {
    for (nanos, text) in [
        (0, "@every 0s"),
        (1, "@every 1ns"),
        (1_500, "@every 1.5µs"),
        (2_000_000, "@every 2ms"),
        (2_050_000, "@every 2.05ms"),
        (1_000_000_000, "@every 1s"),
        (1_250_000_000, "@every 1.25s"),
        (60_000_000_000, "@every 1m0s"),
        (3_600_000_000_000, "@every 1h0m0s"),
        (90_061_500_000_000, "@every 25h1m1.5s"),
    ] {
        assert_eq!(every_text(Duration::from_nanos(nanos)), text);
    }
}

fn parse(kind: Kind, due_time: &str, period: &str, ttl: &str) -> Result<Schedule, String> {
    let texts = Texts {
        due_time,
        period,
        ttl,
    };
    Schedule::parse(kind, "t||1||name", texts, NOW).map_err(|error| error.to_string())
}

#[test]
fn registrations() {
    let at = |ms: u64| WallTime(NOW.0 + ms);
    let once = Schedule {
        first: NOW,
        period: None,
        expires: None,
    };
    assert_eq!(parse(Kind::Reminder, "", "", ""), Ok(once));
    assert_eq!(parse(Kind::Reminder, "0s", "PT0S", ""), Ok(once));
    assert_eq!(parse(Kind::Reminder, "", "R2", ""), Ok(once));
    let whole = parse(Kind::Reminder, "5s", "R3/PT1S", "10s").unwrap();
    assert_eq!((whole.first, whole.expires), (at(5_000), Some(at(10_000))));
    assert_eq!(whole.period.unwrap().repetitions, Some(3));
    let timer = parse(Kind::Timer, "5s", "1s", "3s").unwrap();
    assert_eq!(timer.expires, Some(at(8_000)), "counts from the due time");
    let finer = parse(Kind::Timer, "100us", "", "").unwrap();
    assert_eq!(finer.first, at(1), "rounded up");
    let past = parse(Kind::Reminder, "2020-01-01T00:00:00Z", "", "").unwrap();
    assert!(past.first < NOW);
}

#[test]
fn refused_registrations_carry_daprs_words() {
    for (kind, due, period, ttl, words) in [
        (
            Kind::Reminder,
            "soon",
            "",
            "",
            "error parsing reminder due time: unsupported time/duration format: soon",
        ),
        (
            Kind::Timer,
            "R2/PT1S",
            "",
            "",
            "error parsing timer due time: repetitions are not allowed",
        ),
        (
            Kind::Reminder,
            "",
            "R0/PT1S",
            "",
            "invalid reminder period: has zero repetitions",
        ),
        (
            Kind::Timer,
            "",
            "often",
            "",
            "invalid timer period: parse error: unsupported duration format: often",
        ),
        (
            Kind::Timer,
            "",
            "",
            "later",
            "error parsing timer TTL: unsupported time/duration format: later",
        ),
        (
            Kind::Reminder,
            "10s",
            "",
            "5s",
            "reminder t||1||name has already expired: dueTime: 2026-03-01T12:00:10Z TTL: 5s",
        ),
        (
            Kind::Timer,
            "",
            "",
            "2026-03-01T11:59:59Z",
            "timer t||1||name has already expired: dueTime: 2026-03-01T12:00:00Z \
             TTL: 2026-03-01T11:59:59Z",
        ),
    ] {
        assert_eq!(parse(kind, due, period, ttl), Err(words.to_owned()));
    }
}

#[test]
fn a_missed_tick_fires_once_and_is_counted() {
    let at = |ms: u64| WallTime(NOW.0 + ms);
    let second = span(0, 0, 1_000);
    for (previous, every, now, due, missed) in [
        (at(0), second, at(0), at(1_000), 0),
        (at(0), second, at(999), at(1_000), 0),
        (at(0), second, at(1_000), at(2_000), 1),
        (at(0), second, at(5_500), at(6_000), 5),
        // A clock that went back fires no earlier than the grid says.
        (at(5_000), second, at(0), at(6_000), 0),
        (
            at(0),
            span(0, 1, 0),
            at(86_400_000 * 2 + 1),
            at(86_400_000 * 3),
            2,
        ),
        (
            at(0),
            Span::exact(Duration::from_micros(10)),
            at(3),
            at(4),
            3,
        ),
    ] {
        let next = next_due(previous, &every, now);
        assert_eq!(
            next,
            Some(Next { due, missed }),
            "{previous:?} {every:?} {now:?}"
        );
    }
    assert_eq!(next_due(NOW, &Span::default(), NOW), None);
    let months = next_due(NOW, &span(1, 0, 0), WallTime(NOW.0 + 65 * 86_400_000)).unwrap();
    assert_eq!(rfc3339(months.due), "2026-06-01T12:00:00Z");
    assert_eq!(months.missed, 2);
    assert_eq!(next_due(NOW, &span(1, 0, 0), WallTime(COUNT_MAX)), None);
    // Beyond the calendar days alone would go on, for as good as ever.
    assert_eq!(next_due(NOW, &span(1, 1, 0), WallTime(COUNT_MAX)), None);
    assert_eq!(next_due(WallTime(COUNT_MAX - 1), &second, NOW), None);
}

fn any_schedule_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-+]?[R0-9PTYMWDHS/.:Zhmsnuµμ@ -]{0,24}",
        "(R[0-9]{0,11}/)?P([0-9]{0,10}[YMWD]){0,4}(T([0-9]{0,10}[HMS]){0,3})?",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{0,12})?(Z|[+-][0-9]{2}:[0-9]{2})",
        "([0-9]{0,25}(\\.[0-9]{0,30})?(ns|us|µs|μs|ms|s|m|h)){0,4}",
    ]
}

proptest! {
    #[test]
    fn no_text_and_no_time_makes_it_panic(
        due_time in any_schedule_text(),
        period in any_schedule_text(),
        ttl in any_schedule_text(),
        now in prop_oneof![0..=COUNT_MAX, Just(0), Just(COUNT_MAX)],
        late in prop_oneof![0..=COUNT_MAX, 0..1_000_000_u64],
    ) {
        let texts = Texts { due_time: &due_time, period: &period, ttl: &ttl };
        for kind in [Kind::Reminder, Kind::Timer] {
            if let Err(error) = Schedule::parse(kind, "key", texts, WallTime(now)) {
                prop_assert!(!error.to_string().is_empty());
            }
        }
        if let Ok(period) = Period::parse(&period) {
            let now = WallTime(now.saturating_add(late).min(COUNT_MAX));
            let previous = WallTime(now.0.saturating_sub(late));
            if let Some(next) = next_due(previous, &period.every, now) {
                prop_assert!(next.due > now);
            }
            // What is given back can be registered again, and means the same.
            let again = Period::parse(&period.to_string()).unwrap();
            prop_assert_eq!(again.every, period.every);
        }
    }

    #[test]
    fn the_grid_of_due_times_is_kept(
        every_ms in 1..10_000_000_u64,
        ticks in 0..1_000_u64,
        late in 0..10_000_000_u64,
    ) {
        let every = Span::exact(Duration::from_millis(every_ms));
        let now = WallTime(NOW.0 + ticks * every_ms + late);
        let next = next_due(NOW, &every, now).unwrap();
        prop_assert_eq!((next.due.0 - NOW.0) % every_ms, 0);
        prop_assert!(next.due > now && next.due.0 - now.0 <= every_ms);
        prop_assert_eq!(next.due.0, NOW.0 + (next.missed + 1) * every_ms);
    }
}
