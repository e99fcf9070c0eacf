//! What was appended to one log actor, and the comparison with what the actor holds.
//!
//! One client appends its lines one after the other. Every acknowledged line must be there exactly
//! once, in this order. A line without an answer may be there once; after one, the client appends
//! nothing more to this actor, so that a late arrival is never taken for a wrong order.

/// How an append ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is there.
    Acknowledged,
    /// It may be there.
    Unknown,
}

/// One client's memory of one log actor.
#[derive(Clone, Default, Debug)]
pub struct Diary {
    lines: Vec<(String, Answer)>,
}

impl Diary {
    /// Notes an append.
    ///
    /// # Panics
    /// After an append of unknown outcome.
    pub fn note(&mut self, line: String, answer: Answer) {
        assert!(self.is_open(), "nothing follows an unknown outcome");
        self.lines.push((line, answer));
    }

    /// Whether more may be appended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.lines.last(), Some((_, Answer::Unknown)))
    }

    /// How many lines were acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> usize {
        let lines = self.lines.iter();
        lines
            .filter(|(_, answer)| *answer == Answer::Acknowledged)
            .count()
    }

    /// Compares with all that the actor holds.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn check(&self, stored: &[String]) -> Result<(), String> {
        self.check_known(stored)?;
        if stored.len() > self.lines.len() {
            return Err(format!(
                "{} lines too many, from {:?}",
                stored.len() - self.lines.len(),
                stored[self.lines.len()]
            ));
        }
        Ok(())
    }

    /// Compares with what the actor held at a moment when it may have had more than is known here.
    ///
    /// # Errors
    /// The first difference, in words.
    pub fn check_known(&self, stored: &[String]) -> Result<(), String> {
        for (place, (line, answer)) in self.lines.iter().enumerate() {
            match (stored.get(place), answer) {
                (Some(found), _) if found == line => {}
                (None, Answer::Unknown) => {}
                (Some(found), _) => {
                    return Err(format!("line {place} is {found:?} instead of {line:?}"));
                }
                (None, Answer::Acknowledged) => {
                    return Err(format!(
                        "line {place} {line:?} was acknowledged and is lost; {} lines are there",
                        stored.len()
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diary(answers: &[Answer]) -> Diary {
        let mut diary = Diary::default();
        for (number, answer) in answers.iter().enumerate() {
            diary.note(number.to_string(), *answer);
        }
        diary
    }

    #[test]
    fn lost_doubled_and_disordered_are_seen() {
        use Answer::{Acknowledged, Unknown};
        let diary = diary(&[Acknowledged, Acknowledged, Unknown]);
        assert_eq!(diary.acknowledged(), 2);
        assert!(!diary.is_open());
        for (stored, good) in [
            (&["0", "1", "2"][..], true),
            (&["0", "1"], true),
            (&["0"], false),
            (&[], false),
            (&["0", "0", "1"], false),
            (&["1", "0"], false),
            (&["0", "1", "1"], false),
            (&["0", "1", "2", "2"], false),
            (&["0", "2"], false),
        ] {
            let stored: Vec<String> = stored.iter().map(|line| (*line).to_owned()).collect();
            assert_eq!(diary.check(&stored).is_ok(), good, "{stored:?}");
        }
    }
}
