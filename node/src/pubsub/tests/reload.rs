//! Files that change while applications are subscribed: what they say anew begins, what they do not
//! say any more ends, and nothing else is touched.

use std::collections::BTreeMap;
use std::time::Instant;

use futures::future::BoxFuture;

use super::*;
use crate::pubsub::stream::Asked;
use crate::pubsub::target::{Batch, Handed, Letter, Said, Target};
use crate::resources;

const PATIENCE: Duration = Duration::from_secs(20);

/// Notes what comes, by path and id.
#[derive(Default, Debug)]
struct Notes(Mutex<Vec<String>>);

impl Target for Notes {
    fn deliver<'a>(&'a self, letter: &'a Letter, _handed: &'a Handed) -> BoxFuture<'a, Said> {
        let id = letter.envelope.text("id").unwrap_or_default();
        let note = format!("{} {id}", letter.path);
        self.0.lock().unwrap().push(note);
        Box::pin(async { Said::Done })
    }

    fn deliver_batch<'a>(
        &'a self,
        _batch: &'a Batch,
        _handed: &'a Handed,
    ) -> BoxFuture<'a, Vec<Said>> {
        Box::pin(async { Vec::new() })
    }
}

fn bus(name: &str, kind: &str, more: &str) -> resources::Component {
    resources::Component {
        name: name.to_owned(),
        kind: kind.to_owned(),
        version: "v1".to_owned(),
        ignore_errors: false,
        metadata: BTreeMap::from([("more".to_owned(), more.to_owned())]),
        scopes: Vec::new(),
        place: String::new(),
    }
}

fn in_memory(name: &str, more: &str) -> resources::Component {
    bus(name, "pubsub.in-memory", more)
}

fn of_bus(topic: &str, path: &str, rule: &str) -> resources::Subscription {
    let rules = [(rule.to_owned(), path.to_owned())];
    resources::Subscription {
        name: topic.to_owned(),
        pubsub: "bus".to_owned(),
        topic: topic.to_owned(),
        rules: rules.into_iter().filter(|_| !rule.is_empty()).collect(),
        default_path: Some(path.to_owned()),
        metadata: BTreeMap::new(),
        dead_letter_topic: None,
        bulk: None,
        scopes: Vec::new(),
        place: format!("folder/subs.yaml:{}", path.len()),
    }
}

fn files(
    components: &[resources::Component],
    subscriptions: &[resources::Subscription],
) -> Resources {
    Resources {
        components: components.to_vec(),
        subscriptions: subscriptions.to_vec(),
        ..Resources::default()
    }
}

/// The application `shop`, which is there.
struct Bed {
    pubsub: Arc<PubSub>,
    notes: Arc<Notes>,
    published: u64,
}

impl Bed {
    fn new(resources: &Resources) -> Self {
        let ours: Arc<dyn Bus> = ScriptedBus::answers([]);
        let ours = OwnTopics {
            durable: Arc::clone(&ours),
            ephemeral: Arc::clone(&ours),
            latched: ours,
        };
        let pubsub = Arc::new(PubSub::new(owner(), resources, &ours).unwrap());
        let notes = Arc::new(Notes::default());
        let target: Arc<dyn Target> = Arc::clone(&notes) as Arc<_>;
        pubsub.app_ready("shop", Vec::new(), &target);
        Self {
            pubsub,
            notes,
            published: 0,
        }
    }

    fn reload(&self, resources: &Resources) -> Result<Changes, String> {
        let declared = resources.subscriptions.iter().map(Wanted::from).collect();
        self.pubsub
            .reload(resources, vec![("shop".to_owned(), declared)])
    }

    fn seen(&self, note: &str) -> bool {
        self.notes.0.lock().unwrap().iter().any(|one| one == note)
    }

    /// Publishes until it has come to this path: a subscription begins in a task of its own.
    async fn comes_to(&mut self, topic: &str, path: &str) {
        let begun = Instant::now();
        loop {
            let id = self.publish("bus", topic).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            if self.seen(&format!("{path} {id}")) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing comes to {path}");
        }
    }

    /// Publishes an event; its id.
    async fn publish(&mut self, bus: &str, topic: &str) -> u64 {
        self.published += 1;
        let component = self.pubsub.find(bus, topic).unwrap();
        let body = Body {
            data: b"1",
            content_type: "application/json",
        };
        let id = self.published.to_string();
        let beside = Beside {
            metadata: metadata(&[("cloudevent.id", &id)]),
            ..Beside::default()
        };
        let published = self.pubsub.publish(&component, topic, body, beside);
        published.await.unwrap();
        self.published
    }
}

#[tokio::test]
async fn subscriptions_follow_their_files_and_others_run_on() {
    let components = [in_memory("bus", "")];
    let mut bed = Bed::new(&files(
        &components,
        &[of_bus("a", "/a", ""), of_bus("b", "/b", "")],
    ));
    bed.comes_to("a", "/a").await;
    bed.comes_to("b", "/b").await;
    let component = bed.pubsub.find("bus", "a").unwrap();
    // Moved in its file, and beside others: the same.
    let moved = resources::Subscription {
        place: "folder/other.yaml:9".to_owned(),
        ..of_bus("a", "/a", "")
    };
    let changes = bed.reload(&files(
        &components,
        &[
            of_bus("c", "/c", ""),
            moved,
            of_bus("b", "/other", "event.type == 'x'"),
        ],
    ));
    let wanted = Changes {
        begun: 2,
        ended: 1,
        ..Changes::default()
    };
    assert_eq!(changes, Ok(wanted));
    let same = bed.pubsub.find("bus", "a").unwrap();
    assert!(Arc::ptr_eq(&component, &same), "its bus lives on");
    bed.comes_to("c", "/c").await;
    bed.comes_to("b", "/other").await;
    bed.comes_to("a", "/a").await;
    // Nothing comes twice: the one before has ended.
    let count = |bed: &Bed, id: u64| {
        let notes = bed.notes.0.lock().unwrap();
        let id = format!(" {id}");
        notes.iter().filter(|note| note.ends_with(&id)).count()
    };
    let begun = Instant::now();
    loop {
        let id = bed.publish("bus", "b").await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        if count(&bed, id) == 1 {
            break;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "the subscription before does not end"
        );
    }
    let views: Vec<String> = bed.pubsub.views().into_iter().map(|v| v.topic).collect();
    assert_eq!(views, ["c", "a", "b"]);
    let none = bed.reload(&files(&components, &[])).unwrap();
    assert_eq!((none.begun, none.ended), (0, 3));
}

#[tokio::test]
async fn a_component_that_changes_takes_its_subscriptions_along() {
    let subscriptions = [of_bus("a", "/a", "")];
    let mut bed = Bed::new(&files(&[in_memory("bus", "1")], &subscriptions));
    bed.comes_to("a", "/a").await;
    let changes = bed.reload(&files(
        &[in_memory("bus", "2"), in_memory("more", "")],
        &subscriptions,
    ));
    let wanted = Changes {
        added: vec!["more".to_owned()],
        changed: vec!["bus".to_owned()],
        begun: 1,
        ended: 1,
        ..Changes::default()
    };
    assert_eq!(changes, Ok(wanted));
    bed.comes_to("a", "/a").await;
    bed.publish("more", "a").await;
    // The one of the name that is there by itself goes when a file has it, and comes back.
    let changes = bed.reload(&files(&[in_memory("pubsub", "")], &subscriptions));
    let changes = changes.unwrap();
    assert_eq!(changes.changed, ["pubsub"]);
    assert_eq!(changes.removed, ["bus", "more"]);
    assert_eq!((changes.begun, changes.ended), (0, 1));
    let gone = bed.pubsub.find("bus", "a").unwrap_err();
    assert_eq!(gone, PublishError::NotFound);
    let changes = bed.reload(&files(&[in_memory("bus", "")], &subscriptions));
    assert_eq!(changes.unwrap().begun, 1, "it waited for its component");
    bed.comes_to("a", "/a").await;
}

#[tokio::test]
async fn what_cannot_be_taken_changes_nothing_and_is_told() {
    let subscriptions = [of_bus("a", "/a", "")];
    let mut bed = Bed::new(&files(&[in_memory("bus", "")], &subscriptions));
    bed.comes_to("a", "/a").await;
    let before = bed.pubsub.find("bus", "a").unwrap();
    // A rule that does not compile.
    let wrong = bed.reload(&files(
        &[in_memory("bus", "2")],
        &[of_bus("a", "/x", "event.type ==")],
    ));
    let why = wrong.unwrap_err();
    assert!(why.contains("folder/subs.yaml:2"), "{why}");
    bed.pubsub.note_reload(Some(why.clone()));
    let troubles = bed.pubsub.troubles();
    assert!(
        troubles.iter().any(|said| said.contains(&why)),
        "{troubles:?}"
    );
    // A component that cannot be what it is said to be now; a new one that cannot be.
    let changes = bed.reload(&files(
        &[bus("bus", "pubsub.redis", ""), bus("odd", "pubsub.odd", "")],
        &subscriptions,
    ));
    let changes = changes.unwrap();
    bed.pubsub.note_reload(None);
    assert_eq!(changes.refused.len(), 1);
    assert!(changes.refused[0].contains("redisHost"), "{changes:?}");
    assert_eq!((changes.begun, changes.ended), (0, 0));
    let after = bed.pubsub.find("bus", "a").unwrap();
    assert!(Arc::ptr_eq(&before, &after));
    bed.comes_to("a", "/a").await;
    let troubles = bed.pubsub.troubles();
    assert!(
        troubles.len() == 1 && troubles[0].contains("pubsub.odd"),
        "{troubles:?}"
    );
}

#[tokio::test]
async fn a_stream_ends_with_its_component() {
    let bed = Bed::new(&files(&[in_memory("bus", "")], &[]));
    let asked = Asked {
        pubsub: "bus".to_owned(),
        topic: "a".to_owned(),
        metadata: Metadata::new(),
        dead_letter_topic: String::new(),
    };
    let (running, _events, _verdicts) = bed.pubsub.stream(asked).await.unwrap().run();
    let running = tokio::spawn(running);
    bed.reload(&files(&[in_memory("bus", "")], &[])).unwrap();
    assert!(!running.is_finished(), "nothing has changed");
    bed.reload(&files(&[in_memory("bus", "2")], &[])).unwrap();
    let ended = tokio::time::timeout(PATIENCE, running).await;
    ended.expect("it is told to subscribe again").unwrap();
}

/// While the end is held up, an application that comes again gets nothing, nor do files begin
/// anything.
#[tokio::test]
async fn nothing_is_delivered_any_more_when_deliveries_have_ended() {
    let components = [in_memory("bus", "")];
    let mut bed = Bed::new(&files(&components, &[]));
    bed.pubsub.end_deliveries();
    let target: Arc<dyn Target> = Arc::clone(&bed.notes) as Arc<_>;
    bed.pubsub.app_ready("shop", Vec::new(), &target);
    let changes = bed.reload(&files(&components, &[of_bus("a", "/a", "")]));
    assert_eq!(changes.map(|changes| changes.begun), Ok(0));
    bed.publish("bus", "a").await;
    assert!(bed.notes.0.lock().unwrap().is_empty());
}
