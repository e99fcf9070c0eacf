//! What one client appended to a log actor, and the comparison with what the actor has.
//!
//! Every acknowledged append must be there exactly once, in order. An append without an answer may
//! be there once. Anything else is a lost or a doubled append.

use axum::body::Bytes;

/// Appends to one actor before the next one is used, so that a long demo stays small.
const PAGE_APPENDS_MAX: usize = 200;

/// The client's memory of one log actor.
pub(super) struct Diary {
    run: u64,
    page: u32,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    text: String,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Acknowledged,
    Unknown,
}

/// The result of a check.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Checked {
    pub(super) appends: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
}

impl Checked {
    pub(super) fn add(&mut self, other: Self) {
        self.appends += other.appends;
        self.lost += other.lost;
        self.doubled += other.doubled;
    }
}

impl Diary {
    pub(super) fn open(run: u64) -> Self {
        Self {
            run,
            page: 0,
            lines: Vec::new(),
        }
    }

    fn actor(&self) -> String {
        format!("log/demo-{:x}-{}", self.run, self.page)
    }

    /// Path and body of the next append; `note` tells how it went.
    pub(super) fn next(&mut self) -> (String, Bytes) {
        let text = format!("{}-{}", self.page, self.lines.len());
        let body = Bytes::from(format!("\"{text}\""));
        self.lines.push(Line {
            text,
            answer: Answer::Unknown,
        });
        (format!("{}/method/append", self.actor()), body)
    }

    pub(super) fn note(&mut self, answer: Answer) {
        if let (Answer::Acknowledged, Some(line)) = (answer, self.lines.last_mut()) {
            line.answer = Answer::Acknowledged;
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.lines.len() >= PAGE_APPENDS_MAX
    }

    pub(super) fn turn_page(&mut self) {
        self.page += 1;
        self.lines.clear();
    }

    pub(super) fn read_path(&self) -> String {
        format!("{}/method/read", self.actor())
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.lines
            .iter()
            .filter(|line| line.answer == Answer::Acknowledged)
            .count() as u64
    }

    /// Compares with what the actor answered; `None` if that is no list of texts.
    pub(super) fn check(&self, body: &[u8]) -> Option<Checked> {
        let stored: Vec<String> = serde_json::from_slice(body).ok()?;
        let mut checked = Checked {
            appends: self.acknowledged(),
            ..Checked::default()
        };
        // Our lines are appended one after the other, so they must appear in this order.
        let mut rest = stored.iter().peekable();
        for line in &self.lines {
            if rest.next_if(|text| **text == line.text).is_some() {
                while rest.next_if(|text| **text == line.text).is_some() {
                    checked.doubled += 1;
                }
            } else if line.answer == Answer::Acknowledged {
                checked.lost += 1;
            }
        }
        // Whatever is left is a line that stands where it should not: it came twice.
        checked.doubled += rest.count() as u64;
        Some(checked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diary(answers: &[bool]) -> Diary {
        let mut diary = Diary::open(7);
        for answer in answers {
            diary.next();
            diary.note(if *answer {
                Answer::Acknowledged
            } else {
                Answer::Unknown
            });
        }
        diary
    }

    #[test]
    fn lost_and_doubled_are_seen() {
        let diary = diary(&[true, false, true]);
        for (stored, lost, doubled) in [
            (r#"["0-0","0-1","0-2"]"#, 0, 0),
            (r#"["0-0","0-2"]"#, 0, 0),
            (r#"["0-0","0-1"]"#, 1, 0),
            (r#"[]"#, 2, 0),
            (r#"["0-0","0-0","0-2"]"#, 0, 1),
            (r#"["0-0","0-2","0-1"]"#, 0, 1),
            (r#"["0-0","0-1","0-2","0-0"]"#, 0, 1),
        ] {
            let wanted = Checked {
                appends: 2,
                lost,
                doubled,
            };
            assert_eq!(diary.check(stored.as_bytes()), Some(wanted), "{stored}");
        }
        assert_eq!(diary.check(b"{}"), None);
    }

    #[test]
    fn pages_turn() {
        let mut diary = diary(&[true; PAGE_APPENDS_MAX]);
        assert!(diary.is_full());
        let before = diary.read_path();
        diary.turn_page();
        assert!(!diary.is_full());
        assert_ne!(diary.read_path(), before);
    }
}
