//! A place whose database is lost: it asks the others whether it may give it up, as the shell does
//! it, and comes back as a new node.

use ghostlight_core::inquiry::{Inquiry, InquiryEffect, InquiryInput, Verdict};
use ghostlight_core::io::Input;
use ghostlight_protocol::ids::NodeId;
use ghostlight_protocol::time::Instant;
use ghostlight_protocol::wire::frame::{Frame, Survival};
use ghostlight_storage::memory::KeepNote;
use ghostlight_storage::{NodeIdentity, Note, StorageError, Store};

use super::boot::Origin;
use super::{Event, World};
use crate::net::Place;

/// An inquiry that is under way.
#[derive(Debug)]
pub(crate) struct Asking {
    /// What it is called while it asks.
    id: NodeId,
    inquiry: Inquiry,
    note: Note,
}

impl World {
    /// Begins to ask. `false`: nobody knows who the node was.
    pub(crate) fn ask_about(&mut self, place: Place, why: &StorageError) -> bool {
        let note = self.nodes[place].disk.note();
        let Some(note) = note.and_then(|bytes| Note::open(&bytes)) else {
            return false;
        };
        let identity = note.identity.clone().unwrap_or_default();
        let (Some(lost), Some(cluster)) = (identity.id(), &identity.cluster) else {
            return false;
        };
        let id = NodeId(self.dice.node.any128());
        self.trace.line(
            self.now,
            format_args!("node {place}: {why}; {lost} asks as {id}"),
        );
        self.sometimes.hit("lost database: asked the others");
        let partitions = u16::try_from(cluster.partitions).unwrap_or(u16::MAX);
        let others = self.nodes.iter().enumerate();
        let others = others.filter(|(other, _)| *other != place);
        let addresses = others.map(|(_, node)| node.address.clone()).collect();
        let inquiry = Inquiry::new(Instant(self.now), lost, partitions, addresses);
        let asking = Asking { id, inquiry, note };
        self.asking.insert(place, asking);
        self.inquire(place, id, InquiryInput::Tick);
        true
    }

    pub(crate) fn inquire(&mut self, place: Place, asker: NodeId, input: InquiryInput) {
        let now = Instant(self.now);
        let Some(asking) = self.asking.get_mut(&place).filter(|a| a.id == asker) else {
            return;
        };
        let mut effects = Vec::new();
        asking.inquiry.handle(now, input, &mut effects);
        let deadline = asking.inquiry.next_deadline();
        for effect in effects {
            match effect {
                InquiryEffect::Dial(address) => self.dial_to_ask(place, asker, &address),
                InquiryEffect::Ask(node, question) => {
                    if let Some(other) = self.place_of(node)
                        && self.net.passes(place, other)
                    {
                        let frame = Frame::AskSurvival(question);
                        let run = self.nodes[other].run;
                        let input = Box::new(Input::Frame { from: asker, frame });
                        let delay = self.delay();
                        let arrive = Event::Arrive {
                            place: other,
                            run,
                            input,
                        };
                        self.after(delay, arrive);
                    }
                }
                InquiryEffect::End(Verdict::GiveUp { by }) => {
                    self.sometimes.hit("lost database: given up");
                    self.trace
                        .line(self.now, format_args!("node {place}: {by:?} let it go"));
                    self.begin_anew(place);
                }
                InquiryEffect::End(Verdict::Keep { why }) => {
                    self.sometimes.hit("lost database: kept");
                    self.trace
                        .line(self.now, format_args!("node {place} does not start: {why}"));
                    self.asking.remove(&place);
                    self.restart_later(place);
                }
            }
        }
        if let Some(deadline) = deadline {
            let input = Box::new(InquiryInput::Tick);
            let tick = Event::Inquiry {
                place,
                asker,
                input,
            };
            self.at(deadline.0, tick);
        }
    }

    fn dial_to_ask(&mut self, place: Place, asker: NodeId, address: &str) {
        let mut places = 0..self.nodes.len();
        let Some(other) = places.find(|p| self.nodes[*p].address == address) else {
            return;
        };
        let reached = self.net.passes(place, other) && self.net.passes(other, place);
        let Some(node) = self.id_of(other).filter(|_| reached) else {
            return;
        };
        let input = InquiryInput::Connected {
            node,
            address: address.to_owned(),
        };
        let delay = 3 * self.delay();
        let connected = Event::Inquiry {
            place,
            asker,
            input: Box::new(input),
        };
        self.after(delay, connected);
    }

    /// An answer to whoever asks; `false`: it is for somebody else.
    pub(crate) fn answer_asker(&mut self, from: Place, to: NodeId, survival: &Survival) -> bool {
        let asked = self.asking.iter().find(|(_, asking)| asking.id == to);
        let Some(place) = asked.map(|(place, _)| *place) else {
            return false;
        };
        if let Some(node) = self.id_of(from)
            && self.net.passes(from, place)
        {
            let input = InquiryInput::Answer {
                from: node,
                survival: survival.clone(),
            };
            let delay = self.delay();
            let answer = Event::Inquiry {
                place,
                asker: to,
                input: Box::new(input),
            };
            self.after(delay, answer);
        }
        true
    }

    /// The database goes aside, and a new node begins that names the one it replaces.
    fn begin_anew(&mut self, place: Place) {
        let Some(Asking { note, .. }) = self.asking.remove(&place) else {
            return;
        };
        self.nodes[place].disk.wipe(KeepNote::Kept);
        self.nodes[place].begins_anew();
        self.checks.wiped(place);
        let lost = note.identity.unwrap_or_default();
        let identity = NodeIdentity {
            cluster: lost.cluster,
            replaces: lost.node,
            ..NodeIdentity::new(NodeId(self.dice.node.any128()), "anew")
        };
        let begun = Store::open(self.nodes[place].disk.open())
            .and_then(|(mut store, _)| store.begin(&identity, &note.nodes));
        if let Err(error) = begun {
            return self.violate(format!("node {place} cannot begin anew: {error}"));
        }
        self.start(place, Origin::Joins);
    }
}
