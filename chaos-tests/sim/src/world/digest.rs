//! What the trace's hash takes of inputs and answers: enough to tell runs apart, as far as that is
//! cheap.

use ghostlight_core::gateway::CallTicket;
use ghostlight_core::io::Input;
use ghostlight_core::turn_io::RunnerInput;
use ghostlight_protocol::outcome::CallOutcome;
use ghostlight_protocol::wire::frame_bytes;

use crate::net::Place;
use crate::trace::Trace;

impl Trace {
    /// Takes an input of a process. What a frame holds was taken when it was sent.
    pub(super) fn input(&mut self, now: u64, place: Place, input: &Input) {
        self.mix(now, kind_of(input), place, &[]);
        match input {
            Input::Frame { from, frame } => {
                self.more(&from.to_bytes());
                self.more_number(frame_bytes(frame) as u64);
            }
            Input::Gossip(data) => self.more(data),
            Input::Runner(RunnerInput::Asked { turn, .. } | RunnerInput::Ended { turn, .. }) => {
                self.more_number(u64::from(turn.activation.partition.0));
                self.more_number(turn.activation.number);
            }
            Input::Call { ticket, call } => {
                self.more_number(ticket.0);
                self.more(call.method.as_bytes());
                self.more(&call.body);
                self.more_number(call.stamp.seed);
            }
            Input::Tick
            | Input::Store(_)
            | Input::Connected { .. }
            | Input::Disconnected { .. } => {}
            Input::Dialed { .. }
            | Input::Refused(_)
            | Input::CallNotSent { .. }
            | Input::AppendsNotSent { .. }
            | Input::DeliveryNotSent { .. }
            | Input::Hangup(_)
            | Input::App(_)
            | Input::Subscriber(_)
            | Input::Admin { .. }
            | Input::Shutdown { .. } => self.more_text(format_args!("{input:?}")),
        }
    }

    /// Takes what a caller is answered.
    pub(super) fn answer(
        &mut self,
        now: u64,
        place: Place,
        ticket: CallTicket,
        outcome: &CallOutcome,
    ) {
        self.mix(now, b'R', place, &ticket.0.to_be_bytes());
        match outcome {
            CallOutcome::Reply(body) => self.more(body),
            CallOutcome::AppReply(_)
            | CallOutcome::App(_)
            | CallOutcome::NotRun(_)
            | CallOutcome::Unknown { .. } => self.more_text(format_args!("{outcome:?}")),
        }
    }
}

fn kind_of(input: &Input) -> u8 {
    match input {
        Input::Tick => b't',
        Input::Frame { .. } => b'f',
        Input::Gossip(_) => b'g',
        Input::Connected { .. } => b'c',
        Input::Dialed { .. } => b'D',
        Input::Disconnected { .. } => b'd',
        Input::Refused(_) => b'R',
        Input::CallNotSent { .. } => b'n',
        Input::DeliveryNotSent { .. } => b'N',
        Input::AppendsNotSent { .. } => b'a',
        Input::Call { .. } => b'C',
        Input::Hangup(_) => b'h',
        Input::Runner(_) => b'r',
        Input::App(_) => b'A',
        Input::Subscriber(_) => b'S',
        Input::Admin { .. } => b'a',
        Input::Store(_) => b's',
        Input::Shutdown { .. } => b'x',
    }
}
