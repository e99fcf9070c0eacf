//! Components and subscriptions that change while the process runs, as in Dapr: their files are
//! looked at once a second.
//!
//! A file that is being written changes from one look to the next, and is read when it rests. What
//! cannot be taken (a file that is no YAML, a rule that does not compile) changes nothing: what ran
//! before runs on, the log says why, and so does `status` until a later change is taken. Absent:
//! Configurations and Resiliency, which are read at the start alone, as in Dapr; that a state store
//! is marked for actors, which decides at the start whether there are any.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::api::{Context, sidecar};
use crate::pubsub::Changes;
use crate::pubsub::wanted::Wanted;
use crate::resources::{Error, Files, Resources, Stand};

/// Time between two looks.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// Dapr's name of the feature.
const FEATURE: &str = "HotReload";

/// Where values come from that resources do not say themselves.
pub type ReadVariable = fn(&str) -> Option<String>;

/// What is read for an application.
#[derive(Clone, Debug)]
pub struct Reading {
    files: Files,
    environment: ReadVariable,
    /// The application.
    app_id: String,
    /// How the files stood when they were last read.
    stand: Stand,
}

/// What was read.
#[derive(Debug)]
pub struct Loaded {
    /// Its resources.
    pub resources: Resources,
    /// Its declared subscriptions.
    pub declared: Vec<(String, Vec<Wanted>)>,
}

impl Reading {
    /// Of these files, as they stand now.
    #[must_use]
    pub fn new(files: Files, app_id: &str, environment: ReadVariable) -> Self {
        Self {
            stand: files.stand(),
            files,
            environment,
            app_id: app_id.to_owned(),
        }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// As [`Resources::load`].
    pub fn load(&self) -> Result<Loaded, Error> {
        let resources = self.files.load(&self.app_id, &self.environment)?;
        let wanted = resources.subscriptions.iter().map(Wanted::from).collect();
        Ok(Loaded {
            declared: vec![(self.app_id.clone(), wanted)],
            resources,
        })
    }
}

impl Reading {
    /// Itself, if files are to be looked at again: there are folders of them, and nobody has
    /// switched that off.
    #[must_use]
    pub fn if_wanted(self, resources: &Resources) -> Option<Self> {
        let feature = resources.configuration.features.get(FEATURE);
        let wanted = !self.files.folders.is_empty() && feature.copied().unwrap_or(true);
        wanted.then_some(self)
    }
}

/// Looks at the files until the APIs end.
pub(super) async fn watch(
    mut reading: Reading,
    context: Arc<Context>,
    mut end: watch::Receiver<bool>,
) {
    let mut before = reading.stand.clone();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_PAUSE) => {}
            _ = end.changed() => return,
        }
        let files = reading.files.clone();
        let looked = tokio::task::spawn_blocking(move || files.stand());
        let Ok(now) = looked.await else { return };
        if now != reading.stand && now == before {
            reading.stand = now.clone();
            take(&reading, &context).await;
        }
        before = now;
    }
}

async fn take(reading: &Reading, context: &Context) {
    let again = reading.clone();
    let Ok(loaded) = tokio::task::spawn_blocking(move || again.load()).await else {
        return;
    };
    let taken = loaded
        .map_err(|error| error.to_string())
        .and_then(|loaded| {
            let changes = context.pubsub.reload(&loaded.resources, loaded.declared)?;
            let components = sidecar::components(&loaded.resources, &context.pubsub);
            context.sidecar.components.set(components);
            Ok(changes)
        });
    match &taken {
        Ok(changes) => say(changes),
        Err(why) => {
            tracing::error!("changed resources are not taken, and what ran before runs on: {why}")
        }
    }
    context.pubsub.note_reload(taken.err());
}

fn say(changes: &Changes) {
    for (what, names) in [
        ("added", &changes.added),
        ("changed", &changes.changed),
        ("removed", &changes.removed),
    ] {
        for name in names {
            tracing::info!(component = name, "component {what}");
        }
    }
    for why in &changes.refused {
        tracing::error!("a changed component is not taken, and runs on as it was: {why}");
    }
    tracing::info!(
        begun = changes.begun,
        ended = changes.ended,
        "resources were read again: subscriptions that began and ended"
    );
}
