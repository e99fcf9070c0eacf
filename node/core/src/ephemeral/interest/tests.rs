//! One node's interest, word by word.

use super::super::key;
use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn at(ms: u64) -> Instant {
    Instant(ms * 1_000_000)
}

fn wants(subscribers: u32) -> Wants {
    Wants {
        subscribers,
        dropped: 0,
    }
}

fn want(topic: &str, subscribers: u32) -> Input {
    Input::Wanted {
        topic: key(topic),
        wants: wants(subscribers),
    }
}

/// Two nodes, and what each has told the other and is not heard yet.
struct Pair {
    a: Interest,
    b: Interest,
    to_a: Vec<InterestFrame>,
    to_b: Vec<InterestFrame>,
    /// What `b` told besides.
    told: Vec<Output>,
}

impl Pair {
    fn connected() -> Self {
        let mut pair = Self {
            a: Interest::new(7),
            b: Interest::new(9),
            to_a: Vec::new(),
            to_b: Vec::new(),
            told: Vec::new(),
        };
        pair.a(at(0), Input::Connected { node: B, run: 9 });
        pair.b(at(0), Input::Connected { node: A, run: 7 });
        pair.deliver(at(0));
        pair.told.clear();
        pair
    }

    fn a(&mut self, now: Instant, input: Input) {
        let mut out = Vec::new();
        self.a.handle(now, input, &mut out);
        for output in out {
            if let Output::Send { frame, .. } = output {
                self.to_b.push(frame);
            }
        }
    }

    fn b(&mut self, now: Instant, input: Input) {
        let mut out = Vec::new();
        self.b.handle(now, input, &mut out);
        for output in out {
            match output {
                Output::Send { frame, .. } => self.to_a.push(frame),
                other => self.told.push(other),
            }
        }
    }

    fn deliver(&mut self, now: Instant) {
        while !self.to_a.is_empty() || !self.to_b.is_empty() {
            for frame in std::mem::take(&mut self.to_b) {
                self.b(now, Input::Said { from: A, frame });
            }
            for frame in std::mem::take(&mut self.to_a) {
                self.a(now, Input::Said { from: B, frame });
            }
        }
    }

    fn known_of_a(&self) -> Vec<(TopicKey, u32)> {
        let topics = self.b.topics();
        topics
            .flat_map(|topic| {
                let nodes = self.b.wanting(topic);
                nodes.map(|(_, wants)| (topic.clone(), wants.subscribers))
            })
            .collect()
    }
}

#[test]
fn a_change_is_known_when_it_is_answered() {
    let mut pair = Pair::connected();
    assert!(pair.a.is_known(0));
    pair.a(at(1), want("t", 1));
    assert!(!pair.a.is_known(pair.a.version()));
    pair.deliver(at(1));
    assert!(pair.a.is_known(pair.a.version()));
    let newcomer = Output::Newcomer {
        node: A,
        topic: key("t"),
    };
    assert_eq!(pair.told, [newcomer, Output::Changed(key("t"))]);
    pair.told.clear();
    // More subscribers of the same node: whoever publishes is told how many there are.
    pair.a(at(2), want("t", 2));
    pair.deliver(at(2));
    assert_eq!(pair.told, [Output::Changed(key("t"))]);
    assert_eq!(pair.known_of_a(), [(key("t"), 2)]);
    pair.told.clear();
    pair.a(at(3), want("t", 0));
    pair.deliver(at(3));
    assert_eq!(pair.told, [Output::Changed(key("t"))]);
    assert_eq!(pair.known_of_a(), []);
    // The same again says nothing.
    pair.a(at(4), want("t", 0));
    assert!(pair.to_b.is_empty());
}

#[test]
fn who_missed_a_change_asks_for_the_whole() {
    let mut pair = Pair::connected();
    pair.a(at(200), want("t", 1));
    pair.to_b.clear();
    pair.a(at(400), want("u", 1));
    pair.deliver(at(400));
    assert_eq!(pair.known_of_a(), [(key("t"), 1), (key("u"), 1)]);
    assert!(pair.a.is_known(pair.a.version()));
}

#[test]
fn who_says_nothing_is_told_the_whole_again() {
    let mut pair = Pair::connected();
    pair.a(at(200), want("t", 1));
    pair.to_b.clear();
    pair.a(at(1_100), Input::Tick);
    assert!(pair.to_b.is_empty(), "not yet");
    pair.a(at(1_200), Input::Tick);
    pair.to_b.clear();
    pair.a(at(2_200), Input::Tick);
    pair.deliver(at(2_200));
    assert_eq!(pair.known_of_a(), [(key("t"), 1)]);
    pair.a(at(9_000), Input::Tick);
    assert!(pair.to_b.is_empty(), "it is known");
}

#[test]
fn another_run_begins_anew_and_old_words_do_not_count() {
    let mut pair = Pair::connected();
    pair.a(at(1), want("t", 1));
    let old = pair.to_b.clone();
    pair.deliver(at(1));
    // A newer process of A, which wants something else.
    pair.a = Interest::new(8);
    pair.a(at(5), want("u", 1));
    pair.b(at(5), Input::Connected { node: A, run: 8 });
    assert_eq!(pair.known_of_a(), [], "what the run before wanted is over");
    for frame in old {
        pair.b(at(5), Input::Said { from: A, frame });
    }
    assert_eq!(pair.known_of_a(), []);
    pair.a(at(5), Input::Connected { node: B, run: 9 });
    pair.deliver(at(5));
    assert_eq!(pair.known_of_a(), [(key("u"), 1)]);
    // What B once knew of the run before says nothing about this one.
    let known = InterestSaid::Known(InterestVersion {
        version: 99,
        run: 7,
    });
    let said = Some(known);
    pair.a(at(6), want("v", 1));
    let frame = InterestFrame { run: 9, said };
    pair.a(at(6), Input::Said { from: B, frame });
    assert!(!pair.a.is_known(pair.a.version()));
}

#[test]
fn a_broken_connection_changes_nothing_for_a_minute() {
    let mut pair = Pair::connected();
    pair.a(at(1), want("t", 1));
    pair.deliver(at(1));
    pair.b(at(10), Input::Disconnected(A));
    pair.b(at(60_009), Input::Tick);
    assert_eq!(pair.known_of_a(), [(key("t"), 1)]);
    pair.b(at(60_010), Input::Tick);
    assert_eq!(pair.known_of_a(), []);
    // Nobody waits for one that is away.
    pair.a(at(60_011), Input::Disconnected(B));
    pair.a(at(60_011), want("u", 1));
    assert!(pair.a.is_known(pair.a.version()));
}

#[test]
fn a_whole_comes_in_parts_and_half_of_one_counts_for_nothing() {
    let mut pair = Pair::connected();
    let long = "x".repeat(400);
    for topic in 0..800 {
        pair.a(at(1), want(&format!("{long}{topic}"), 1));
    }
    pair.to_b.clear();
    pair.a(at(1), Input::Connected { node: B, run: 9 });
    let parts = std::mem::take(&mut pair.to_b);
    assert!(parts.len() > 3, "{}", parts.len());
    for frame in &parts[..2] {
        let frame = frame.clone();
        pair.b(at(2), Input::Said { from: A, frame });
    }
    assert_eq!(pair.known_of_a().len(), 0);
    // The third is lost.
    for frame in &parts[3..] {
        let frame = frame.clone();
        pair.b(at(2), Input::Said { from: A, frame });
    }
    assert_eq!(pair.known_of_a().len(), 0);
    pair.deliver(at(300));
    assert_eq!(pair.known_of_a().len(), 800);
    assert!(pair.a.is_known(800));
}
