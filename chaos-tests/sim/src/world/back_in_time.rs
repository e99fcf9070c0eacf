//! A disk that goes back in time: an old image is put back, and what was synced since is gone.
//!
//! Its node finds out by the marks that the others remember, before it has promised anything; then
//! its database is given up as lost. A start that the others take for a second process of the node
//! ends too.

use ghostlight_core::node::Trust;
use ghostlight_protocol::code::Code;
use ghostlight_storage::memory::CrashKind;

use super::{Repair, World};
use crate::net::Place;
use crate::process::Fallen;

impl World {
    /// Keeps what the disk of a place holds now.
    pub fn keep_image(&mut self, place: Place) {
        let image = self.nodes[place].disk.image();
        self.nodes[place].image = Some(image);
    }

    /// The node dies, and what its disk held at `keep_image` is put back. It is started later.
    /// `false`: nothing was kept.
    pub fn put_image_back(&mut self, place: Place) -> Restored {
        let Some(image) = self.nodes[place].image.take() else {
            return Restored::Nothing;
        };
        self.crash(place, CrashKind::Process);
        self.nodes[place].disk.restore(&image);
        self.nodes[place].fallen = Fallen::Unknown;
        self.trace
            .line(self.now, format_args!("the disk of {place} goes back"));
        self.restart_later(place);
        Restored::Image
    }

    /// From now on a place is told that its log was cut at a damaged place.
    pub fn put_in_doubt(&mut self, place: Place) {
        self.nodes[place].trust = Trust::InDoubt;
    }

    /// Kept at one time, put back at another.
    pub(super) fn image_by_chance(&mut self, place: Place) {
        if self.nodes[place].image.is_none() {
            return self.keep_image(place);
        }
        if self.may_lose() {
            self.sometimes.hit("fault: old image of a disk put back");
            self.repair = Repair::Copies;
            self.put_image_back(place);
        }
    }

    /// Whether a node ended because its disk had gone back; if so, it is looked after.
    pub(super) fn has_gone_back(&mut self, place: Place, code: Code) -> bool {
        if self.nodes[place].fallen != Fallen::Unknown {
            return false;
        }
        match code {
            Code::PromisesLost => {
                self.sometimes.hit("disk found to have gone back");
                self.nodes[place].fallen = Fallen::Known;
            }
            // As a run that the others know already. Started again, it is a later one.
            Code::StaleGeneration => self.sometimes.hit("old image taken for a second process"),
            _ => return false,
        }
        self.crash(place, CrashKind::Process);
        self.restart_later(place);
        true
    }
}

/// Whether there was an image to put back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Restored {
    /// There was.
    Image,
    /// There was not.
    Nothing,
}
