//! Which stream of an application is asked, and whether it is asked at all.
//!
//! An application that comes by stream has one seat: the newest stream, and what it hosts. While
//! the application is unwell (its health probes fail, `pubsub::grpc_app` asks them) its stream
//! stays open and hosts nothing, as over HTTP; it hosts again when it is well. Absent: what is said
//! over a stream (`stream`).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::Mutex as AsyncMutex;

use super::config::{DRAIN_TIMEOUT, Hosted, HostedType};
use super::instance::Instance;
use super::owner::{End, Image, Pair};
use super::settings::AppSettings;
use super::stream::{StreamLine, StreamPeer};
use super::{AppChannel, AppId, Shared, lock};

/// The applications that have come by stream, and those that are unwell.
#[derive(Default)]
pub(super) struct Seats(AsyncMutex<Table>);

#[derive(Default)]
struct Table {
    taken: HashMap<AppId, Seat>,
    unwell: HashSet<AppId>,
}

/// The newest stream of an application.
struct Seat {
    settings: Arc<AppSettings>,
    line: Arc<StreamLine>,
    /// The process at its other end; `None`: it cannot be told from others.
    owner: Option<Image>,
    types: Vec<HostedType>,
    /// `None`: the application is unwell.
    hosting: Option<Arc<Instance>>,
}

impl Seats {
    /// These applications are unwell until somebody has found them well.
    pub(super) fn unwell(apps: impl Iterator<Item = AppId>) -> Self {
        Self(AsyncMutex::new(Table {
            taken: HashMap::new(),
            unwell: apps.collect(),
        }))
    }
}

impl AppChannel {
    /// An application that comes by stream is well: it hosts what its stream has said.
    pub(crate) async fn is_well(&self, app: &AppId) {
        let mut table = self.shared.seats.0.lock().await;
        if table.unwell.remove(app)
            && let Some(seat) = table.taken.get_mut(app)
        {
            self.shared.sit(seat).await;
        }
    }

    /// It is not: it hosts nothing until it is.
    pub(crate) async fn is_unwell(&self, app: &AppId, why: &str) {
        let mut table = self.shared.seats.0.lock().await;
        table.unwell.insert(app.clone());
        let hosting = table
            .taken
            .get_mut(app)
            .and_then(|seat| seat.hosting.take());
        if let Some(instance) = hosting {
            self.shared.suspend(&instance, why).await;
        }
    }
}

impl Shared {
    /// Makes the stream the one that takes new requests of its application.
    pub(super) async fn host(
        &self,
        settings: &Arc<AppSettings>,
        peer: Option<StreamPeer>,
        line: &Arc<StreamLine>,
        hosted: Hosted,
    ) {
        let owner = match peer {
            Some(StreamPeer { near, far }) => {
                match self.registrar.owner(Pair { near, far }, None).await {
                    End::Of(image) => Some(image),
                    End::Absent | End::NotYet | End::Unseen => None,
                }
            }
            None => None,
        };
        let mut table = self.seats.0.lock().await;
        let before = table.taken.remove(&settings.id);
        let mut seat = Seat {
            settings: Arc::clone(settings),
            line: Arc::clone(line),
            owner,
            types: hosted.types,
            hosting: None,
        };
        match before {
            // The same process: what runs over the older stream goes on.
            Some(Seat {
                owner: of,
                hosting: Some(instance),
                ..
            }) if owner.is_some() && of == owner => {
                instance.switch(Arc::clone(line));
                seat.hosting = Some(instance);
            }
            Some(Seat {
                hosting: Some(instance),
                ..
            }) => self.drain(&instance).await,
            Some(Seat { line, .. }) => line.end(),
            None => {}
        }
        if table.unwell.contains(&settings.id) {
            tracing::info!(app = %settings.id, "a stream of an application waits until its health probes pass");
        } else {
            self.sit(&mut seat).await;
        }
        table.taken.insert(settings.id.clone(), seat);
    }

    /// Announces what a stream hosts.
    async fn sit(&self, seat: &mut Seat) {
        let instance = seat.hosting.get_or_insert_with(|| {
            let id = self.instance_id(&seat.settings.id, seat.owner);
            let memory = seat.owner.and_then(|image| self.memories.of(image));
            let settings = Arc::clone(&seat.settings);
            Instance::by_stream(id, settings, seat.owner, memory, Arc::clone(&seat.line))
        });
        self.announce(instance, seat.types.clone(), bytes::Bytes::new())
            .await;
    }

    /// Lets an older process finish what it runs, for a while, and takes its types away.
    async fn drain(&self, before: &Arc<Instance>) {
        lock(&self.instances).remove(&before.id);
        drop(tokio::time::timeout(DRAIN_TIMEOUT, before.rested()).await);
        self.withdraw(
            before,
            "a newer process of the application has opened a stream",
        )
        .await;
    }

    /// A stream has ended: what was under way over it has no answer, and its instance is over if no
    /// newer one is.
    pub(super) async fn stream_over(&self, app: &AppId, line: &Arc<StreamLine>, why: &str) {
        line.end();
        let mut table = self.seats.0.lock().await;
        let newest = table
            .taken
            .get(app)
            .is_some_and(|seat| Arc::ptr_eq(&seat.line, line));
        if newest
            && let Some(seat) = table.taken.remove(app)
            && let Some(instance) = seat.hosting
        {
            self.withdraw(&instance, why).await;
        }
    }
}
