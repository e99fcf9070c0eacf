//! Answers, for new connections, whose they are; many connections share one look at the kernel's
//! tables.
//!
//! A connection has no owner until the application accepts it, and nothing tells when it does: the
//! look is repeated, quickly at first. As long as nobody waits nothing is looked at.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::owner::{self, End, Image, Pair};

/// Connections that wait for the registrar; then those that open one wait.
const QUESTIONS_MAX: usize = 1_024;
/// Pauses between looks: an application that is idle accepts within the first ones.
const PAUSES: [Duration; 6] = [
    Duration::from_micros(200),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(20),
];
/// Looks in a row that must miss a connection, or its owner, before it counts as not there, and how
/// long it must have been looked for: the kernel shows its tables piece by piece, and while many
/// connections come and go a row may be missed several times.
const MISSES_MIN: u32 = 6;
const MISSED_TIME_MIN: Duration = Duration::from_millis(250);

/// The way to it.
#[derive(Clone)]
pub(super) struct Registrar {
    questions: mpsc::Sender<Question>,
}

struct Question {
    pair: Pair,
    probably: Option<Image>,
    misses: u32,
    asked: Instant,
    answer: oneshot::Sender<End>,
}

impl Registrar {
    /// Starts it; it ends with its last handle.
    pub(super) fn start() -> Self {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        drop(tokio::spawn(run(asked)));
        Self { questions }
    }

    /// One that sees nothing, as where the application runs on another machine.
    #[cfg(test)]
    pub(super) fn blind() -> Self {
        let (questions, mut asked) = mpsc::channel::<Question>(QUESTIONS_MAX);
        drop(tokio::spawn(async move {
            while let Some(question) = asked.recv().await {
                question.answer.send(End::Unseen).ok();
            }
        }));
        Self { questions }
    }

    /// Who is at the far end. Waits until the far end has been accepted; never answers
    /// [`End::NotYet`].
    pub(super) async fn owner(&self, pair: Pair, probably: Option<Image>) -> End {
        let (answer, answered) = oneshot::channel();
        let question = Question {
            pair,
            probably,
            misses: 0,
            asked: Instant::now(),
            answer,
        };
        if self.questions.send(question).await.is_err() {
            return End::Absent;
        }
        answered.await.unwrap_or(End::Absent)
    }
}

async fn run(mut questions: mpsc::Receiver<Question>) {
    let mut waiting: Vec<Question> = Vec::new();
    let mut round = 0;
    loop {
        if waiting.is_empty() {
            match questions.recv().await {
                Some(question) => waiting.push(question),
                None => return,
            }
            round = 0;
        }
        while let Ok(question) = questions.try_recv() {
            waiting.push(question);
        }
        // Whoever has stopped waiting is not looked for.
        waiting.retain(|question| !question.answer.is_closed());
        waiting = look(waiting).await;
        if waiting.is_empty() {
            continue;
        }
        let pause = PAUSES[round.min(PAUSES.len() - 1)];
        round += 1;
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            question = questions.recv() => match question {
                Some(question) => {
                    waiting.push(question);
                    round = 0;
                }
                None => return,
            },
        }
    }
}

/// Answers what can be answered; the others are given back.
async fn look(waiting: Vec<Question>) -> Vec<Question> {
    let pairs: Vec<Pair> = waiting.iter().map(|question| question.pair).collect();
    let mut known: Vec<Image> = waiting.iter().filter_map(|one| one.probably).collect();
    known.dedup();
    let looked = tokio::task::spawn_blocking(move || owner::look(&pairs, &known)).await;
    let Ok(ends) = looked else {
        // The runtime is ending.
        return Vec::new();
    };
    let mut still = Vec::new();
    for (mut question, end) in waiting.into_iter().zip(ends) {
        question.misses = match end {
            End::Absent | End::Unseen => question.misses + 1,
            End::NotYet | End::Of(_) => 0,
        };
        let answers = match end {
            End::NotYet => false,
            End::Absent | End::Unseen => {
                question.misses >= MISSES_MIN && question.asked.elapsed() >= MISSED_TIME_MIN
            }
            End::Of(_) => true,
        };
        if answers {
            question.answer.send(end).ok();
        } else {
            still.push(question);
        }
    }
    still
}
