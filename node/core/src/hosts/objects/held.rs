//! What each process keeps of an actor in its memory: one entry for each actor and process, kept
//! while the process lives.
//!
//! A process that is out of reach, or that another one has taken its actors from, has its objects
//! when it comes back (`docs/decisions/0007`): they are remembered until it ends, and told to go as
//! soon as it can be told. One object of an actor is asked at a time, over all processes here.
//! Absent: what a turn does to an object (`super`).

use ghostlight_protocol::actor::ActorKey;
use ghostlight_protocol::ids::ActorVersion;

use super::{App, HostEffect, Object, Objects, Reach, Stage};
use crate::hosts::words::{AppAnswer, AppInstance, Sent};
use crate::turn_io::ActivationId;

/// One actor's object in one process.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) app: String,
    pub(super) process: AppInstance,
    pub(super) trust: Trust,
    /// The activation whose turn has brought it to the version of `trust`. Only the next turn of
    /// the same activation shows that this has counted: another leader may know another write by
    /// the same version.
    pub(super) raised_by: Option<ActivationId>,
    /// Whether it is known to exist: only then may it be told to go.
    pub(super) made: Made,
}

/// What is known of the state in its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trust {
    /// It has none.
    Nothing,
    /// It is that of this version.
    Clean(ActorVersion),
    /// Nobody knows.
    Unclean,
}

/// Known by a turn that it answered with success, or by what its code asked about its state or
/// schedule while a turn ran: a failed turn leaves nothing to save in an object that has not even
/// asked (`docs/decisions/0015`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Made {
    No,
    /// A turn in it has no answer, and may run on in its process: what it asks then shows that it
    /// exists.
    InDoubt,
    Yes,
}

impl Held {
    /// An object that is about to be called for the first time.
    fn fresh(app: String, process: AppInstance) -> Self {
        Self {
            app,
            process,
            trust: Trust::Nothing,
            raised_by: None,
            made: Made::No,
        }
    }

    /// Whether a turn on this version may begin without a reset.
    fn fits(&self, base: ActorVersion, activation: ActivationId) -> bool {
        let counted = self.raised_by.is_none_or(|by| by == activation);
        self.trust == Trust::Nothing || (self.trust == Trust::Clean(base) && counted)
    }

    /// What it has in memory may not be what is stored.
    pub(super) fn doubt(&mut self) {
        self.trust = match self.trust {
            Trust::Nothing => Trust::Nothing,
            Trust::Clean(_) | Trust::Unclean => Trust::Unclean,
        };
    }

    /// What the end of a turn shows about its existence, also of one that was given up.
    pub(super) fn learn(&mut self, answer: &AppAnswer) {
        self.made = match (self.made, answer) {
            (_, AppAnswer::Answered { status: 200, .. }) => Made::Yes,
            (
                Made::No,
                AppAnswer::NoAnswer {
                    sent: Sent::Maybe, ..
                },
            ) => Made::InDoubt,
            (made, _) => made,
        };
    }
}

/// What a turn needs before it may begin in a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Needs {
    Nothing,
    Reset,
}

impl Object {
    /// An actor of which no process has an object.
    pub(super) fn absent(instance: AppInstance) -> Self {
        Self {
            instance,
            serves: None,
            held: Vec::with_capacity(1),
            stage: Stage::Idle,
        }
    }

    /// Nothing serves it, and nothing is asked of it.
    pub(super) fn is_left(&self) -> bool {
        self.serves.is_none() && matches!(self.stage, Stage::Idle)
    }

    /// The object that the stage is about.
    pub(super) fn here(&mut self) -> Option<&mut Held> {
        self.held_in(self.instance)
    }

    pub(super) fn held_in(&mut self, process: AppInstance) -> Option<&mut Held> {
        self.held.iter_mut().find(|held| held.process == process)
    }

    /// The object that the stage is about may have changed in a way that does not count.
    pub(super) fn mark_unclean(&mut self) {
        if let Some(held) = self.here() {
            held.trust = Trust::Unclean;
        }
    }

    /// Goes to a process for a turn on this version.
    pub(super) fn enter(
        &mut self,
        (app, process): (String, AppInstance),
        base: ActorVersion,
        activation: ActivationId,
    ) -> Needs {
        self.instance = process;
        match self.here() {
            Some(held) if held.made == Made::Yes && !held.fits(base, activation) => Needs::Reset,
            Some(_) => Needs::Nothing,
            None => {
                self.held.push(Held::fresh(app, process));
                Needs::Nothing
            }
        }
    }
}

impl Objects {
    /// What a process may hold that this table does not know: a node that ran here before called it
    /// into being. It is told to go before its first turn.
    pub fn held_before(&mut self, app: &str, instance: AppInstance, actors: Vec<ActorKey>) {
        for actor in actors {
            let object = self.table.entry(actor);
            let object = object.or_insert_with(|| Object::absent(instance));
            if object.held_in(instance).is_none() {
                object.held.push(Held {
                    trust: Trust::Unclean,
                    made: Made::Yes,
                    ..Held::fresh(app.to_owned(), instance)
                });
            }
        }
    }

    /// A process cannot be reached. What it keeps in memory is there when it comes back.
    pub fn gone(&mut self, app: &str, instance: AppInstance, out: &mut Vec<HostEffect>) {
        let Some(known) = self.apps.get_mut(app) else {
            return;
        };
        if known.instance != instance {
            return;
        }
        known.reach = Reach::Gone;
        for actor in self.held_by(|held| held.process == instance) {
            let Some(object) = self.table.get_mut(&actor) else {
                continue;
            };
            if let Some(held) = object.held_in(instance) {
                held.doubt();
            }
            if object.instance == instance {
                self.end_running(&actor, "the application is gone", out);
            }
        }
    }

    fn held_by(&self, of: impl Fn(&Held) -> bool) -> Vec<ActorKey> {
        let objects = self.table.iter();
        let objects = objects.filter(|(_, object)| object.held.iter().any(&of));
        objects.map(|(actor, _)| actor.clone()).collect()
    }

    /// These processes of an application have ended, and their objects with them: no `DELETE`,
    /// another process would not know them.
    pub(super) fn forget_ended(
        &mut self,
        app: &str,
        lives: impl Fn(AppInstance) -> bool,
        out: &mut Vec<HostEffect>,
    ) {
        // Nothing is asked of the one that hosted, if it has ended unnoticed.
        if let Some(known) = self.apps.get_mut(app)
            && !lives(known.instance)
        {
            known.reach = Reach::Gone;
        }
        let ended = |held: &Held| held.app == app && !lives(held.process);
        for actor in self.held_by(ended) {
            let Some(object) = self.table.get_mut(&actor) else {
                continue;
            };
            if object.here().is_some_and(|held| ended(held)) {
                self.end_running(&actor, "the application was started again", out);
                if let Some(object) = self.table.get_mut(&actor) {
                    object.stage = Stage::Idle;
                }
            }
            let Some(object) = self.table.get_mut(&actor) else {
                continue;
            };
            object.held.retain(|held| !ended(held));
            if object.held.is_empty() {
                self.remove(&actor);
            } else if object.is_left() {
                self.let_go(&actor, out);
            }
        }
    }

    /// A process can be reached again: what nothing serves any more in it is told to go.
    pub(super) fn let_go_of_left(&mut self, instance: AppInstance, out: &mut Vec<HostEffect>) {
        for actor in self.held_by(|held| held.process == instance) {
            if self.table.get(&actor).is_some_and(Object::is_left) {
                self.let_go(&actor, out);
            }
        }
    }

    /// Nothing serves here any more: the objects go, one after the other. Each is told so only if
    /// it was made, and waits for that while its process is out of reach.
    pub(super) fn let_go(&mut self, actor: &ActorKey, out: &mut Vec<HostEffect>) {
        let Some(object) = self.table.get_mut(actor) else {
            return;
        };
        object.held.retain(|held| held.made != Made::No);
        if object.held.is_empty() {
            return self.remove(actor);
        }
        let up = |app: &App, process| app.reach == Reach::Up && app.instance == process;
        let apps = &self.apps;
        let told = object.held.iter().find(|held| {
            let app = apps.get(&held.app);
            held.made == Made::Yes && app.is_some_and(|app| up(app, held.process))
        });
        if let Some(process) = told.map(|held| held.process) {
            object.instance = process;
            self.reset(actor, None, out);
        }
    }

    /// The code of an object asks about its own state while its turn runs, given up or not: it
    /// exists, and may keep changes that fail with the turn.
    pub(super) fn shows_itself(&mut self, actor: &ActorKey) {
        let Some(object) = self.table.get_mut(actor) else {
            return;
        };
        match object.stage {
            Stage::Running(_) | Stage::GivenUp(_) => {
                if let Some(held) = object.here() {
                    held.made = Made::Yes;
                }
            }
            // A request does not say which process asks: of several in doubt all count as made.
            Stage::Idle | Stage::Resetting { .. } => {
                let in_doubt = object.held.iter_mut();
                for held in in_doubt.filter(|held| held.made == Made::InDoubt) {
                    held.made = Made::Yes;
                }
            }
        }
    }
}
