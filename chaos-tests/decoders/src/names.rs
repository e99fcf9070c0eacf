//! Names, keys, ids and times: texts from applications, and keys that are made of them.

use bytes::Bytes;
use ghostlight_core::ephemeral::TopicKey;
use ghostlight_protocol::actor::{ActorKey, clean_method};
use ghostlight_protocol::calendar::{parse_rfc3339, rfc3339};
use ghostlight_protocol::command::ScheduleKind;
use ghostlight_protocol::family::{self, DueKind};
use ghostlight_protocol::ids::{ClusterId, NodeId, PartitionId};
use ghostlight_protocol::limits::{NAME_BYTES_MAX, OUTSIDE_REQUEST_ID_BYTES_MAX};
use ghostlight_protocol::request::RequestId;
use ghostlight_protocol::schedule::{self, Due, Period, Schedule, Signed, Texts, parse_go};
use ghostlight_protocol::time::{Age, WallTime};
use ghostlight_protocol::topic::{TopicName, TopicPartition};

use crate::Decoder;
use crate::pieces;

/// Keys of rows, of actors and of requests, as bytes.
pub(crate) const KEY: Decoder = Decoder {
    name: "key",
    what: "keys of rows",
    take: key,
    valid: keys,
};

/// Names and ids that come as texts, over HTTP above all.
pub(crate) const NAME: Decoder = Decoder {
    name: "name",
    what: "names and ids as texts",
    take: name,
    valid: || {
        let ids = format!("{:?} {:?}", NodeId(7), ClusterId(7));
        let texts = ["default", "Counter", "a:b/c%", "admin/../legit", "..", &ids];
        let mut all: Vec<Vec<u8>> = texts.iter().map(|t| t.as_bytes().to_vec()).collect();
        all.push(pieces::join(&["default", "Counter", "a/b"]));
        all.push(pieces::join(&[&[b'x'; 300][..]]));
        all
    },
};

/// Due times, periods, moments.
pub(crate) const SCHEDULE: Decoder = Decoder {
    name: "schedule",
    what: "texts of schedules",
    take: schedule,
    valid: || {
        let texts = [
            "1h2m3.5s",
            "-3ms",
            "R3/P1Y2M3W4DT5H6M7S",
            "PT1.5S",
            "@every 1h",
            "2026-11-27T21:00:00Z",
            "2026-11-27T21:00:00.5+01:30",
        ];
        let mut all: Vec<Vec<u8>> = texts.iter().map(|t| t.as_bytes().to_vec()).collect();
        all.push(pieces::join(&["5s", "R3/PT10S", "1h"]));
        all.push(pieces::join(&["2026-11-27T21:00:00Z", "1h", "P1D"]));
        all
    },
};

fn actor() -> ActorKey {
    ActorKey::new("default", "log", "l1").expect("a name")
}

fn keys() -> Vec<Vec<u8>> {
    let topic = |name| TopicName::new("default", "pubsub", name).expect("a name");
    let orders = topic("orders").partition(3).key();
    vec![
        actor().as_bytes().to_vec(),
        topic("a:b/c%").partition(3).key().as_bytes().to_vec(),
        b"\x01one".to_vec(),
        vec![0; 34],
        family::schedule_key(&actor(), ScheduleKind::Reminder, "tea").to_vec(),
        family::state_key(&actor(), b"k").to_vec(),
        family::batch_key(&orders, 9).to_vec(),
        family::group_key(&orders, "g0").to_vec(),
        family::letter_key(&orders, "g0", 9).to_vec(),
        family::due_key(Age(7), b"record").to_vec(),
        family::due_row_key(DueKind::Reminder, 7, b"about").to_vec(),
        family::outbox_key(PartitionId(3), 9).to_vec(),
        family::inbox_key(9).to_vec(),
    ]
}

/// A key that is read is the key that its parts make.
fn key(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(key) = ActorKey::parse(bytes.clone()) {
        assert_eq!(key.as_bytes(), bytes, "a key is its bytes");
        let again = ActorKey::new(key.namespace(), key.actor_type(), key.actor_id());
        assert!(again.is_err() || again == Ok(key.clone()), "{key:?}");
        let again = TopicPartition::of_key(&key).map(|topic| topic.key());
        assert!(again.is_none_or(|again| again == key), "{key:?}");
    }
    if let Some((key, rest)) = ActorKey::split(&bytes) {
        assert!(bytes.starts_with(key.as_bytes()) && bytes.ends_with(&rest));
    }
    if let Some(id) = RequestId::parse(&bytes) {
        assert_eq!(id.to_bytes(), bytes, "{id:?}");
    }
    if let Some((actor, kind, name)) = family::parse_schedule_key(&bytes) {
        assert_eq!(family::schedule_key(&actor, kind, &name), bytes);
    }
    if let Some((topic, group)) = family::parse_group_key(&bytes) {
        assert_eq!(family::group_key(&topic, &group), bytes);
    }
    if let Some((topic, group, offset)) = family::parse_letter_key(&bytes) {
        assert_eq!(family::letter_key(&topic, &group, offset), bytes);
    }
    if let Some((due, record)) = family::parse_due_key(&bytes) {
        assert_eq!(family::due_key(due, &record), bytes);
    }
    if let Some((to, sequence)) = family::parse_outbox_key(&bytes) {
        assert_eq!(family::outbox_key(to, sequence), bytes);
    }
    if let Some(sequence) = family::parse_inbox_key(&bytes) {
        assert_eq!(family::inbox_key(sequence), bytes);
    }
    let _: Option<_> = family::record_age_max(&bytes);
    let _: Option<u64> = family::batch_end(&bytes);
    let _: Option<(u64, Bytes)> = family::parse_due_row_key(&bytes);
    let _: Option<_> = TopicKey::parse(bytes);
}

fn name(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(id) = NodeId::parse(&text) {
        assert_eq!(NodeId::parse(&format!("{id:?}")), Some(id));
    }
    if let Some(id) = ClusterId::parse(&text) {
        assert_eq!(ClusterId::parse(&format!("{id:?}")), Some(id));
    }
    if let Ok(id) = RequestId::outside(bytes) {
        assert!(bytes.len() <= OUTSIDE_REQUEST_ID_BYTES_MAX);
        assert_eq!(RequestId::parse(&id.to_bytes()), Some(id));
    }
    if let Ok(method) = clean_method(&text) {
        assert_eq!(clean_method(&method).as_ref(), Ok(&method), "{text:?}");
        let climbs = method
            .split('/')
            .any(|part| part == ".." || part.is_empty());
        assert!(!climbs, "{text:?} is taken for {method:?}");
    }
    let cut = ghostlight_protocol::text::cut(text.into_owned());
    assert_eq!(ghostlight_protocol::text::cut(cut.clone()), cut);
    let parts: Vec<_> = pieces::split(bytes).map(String::from_utf8_lossy).collect();
    if let [namespace, of, id, ..] = &parts[..] {
        if let Ok(key) = ActorKey::new(namespace, of, id) {
            assert!(id.len() <= NAME_BYTES_MAX, "a name of {} bytes", id.len());
            assert_eq!(ActorKey::parse(key.to_bytes()).as_ref(), Ok(&key));
            let parts = (key.namespace(), key.actor_type(), key.actor_id());
            assert_eq!(parts, (&namespace[..], &of[..], &id[..]), "{key:?}");
        }
        if let Ok(topic) = TopicName::new(namespace, of, id) {
            let partition = topic.partition_for(bytes);
            assert_eq!(TopicPartition::of_key(&partition.key()), Some(partition));
        }
    }
}

fn schedule(bytes: &[u8]) {
    let now = WallTime(1_700_000_000_000);
    let text = String::from_utf8_lossy(bytes);
    if let Some(time) = parse_rfc3339(&text) {
        let shown = rfc3339(time);
        assert_eq!(parse_rfc3339(&shown), Some(time), "{text:?} is {shown}");
    }
    let _: Option<Signed> = parse_go(&text);
    if let Ok(due) = Due::parse(&text) {
        let _: WallTime = due.at(now);
    }
    if let Ok(period) = Period::parse(&text) {
        let next = schedule::next_due(now, &period.every, now);
        assert!(next.is_none_or(|next| next.due > now), "{text:?}: {next:?}");
    }
    let parts: Vec<_> = pieces::split(bytes).map(String::from_utf8_lossy).collect();
    let texts = match &parts[..] {
        [due_time, period, ttl, ..] => Texts {
            due_time,
            period,
            ttl,
        },
        _ => Texts {
            due_time: &text,
            period: &text,
            ttl: &text,
        },
    };
    for kind in [schedule::Kind::Reminder, schedule::Kind::Timer] {
        drop(Schedule::parse(kind, "tea", texts, now));
    }
}
