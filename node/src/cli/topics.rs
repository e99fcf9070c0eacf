//! The commands about topics: `topics`, `subscriptions`, `dead-letters`, `publish`, `subscribe`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ghostlight_protocol::calendar::parse_rfc3339;
use ghostlight_protocol::code::Code;

use super::args::{
    DeadLetters, DeleteGroup, DeleteTopic, Form, GroupRef, LetterRef, Publish, Redrive, SeekGroup,
    Subscribe, Subscriptions, SubscriptionsDo, Target, Topics, TopicsDo,
};
use super::client::{Client, block_on, confirmed, parse};
use super::http::Ask;
use super::lists::{describe, or_dash, print_json, print_text, show, try_print};
use super::table::{Align, Table};
use super::verbs::body;
use super::{Failure, Verdict};
use crate::api::admin::BASE;
use crate::api::admin::readers::{EventView, READER_HEADER, Taken};
use crate::api::admin::topics::{
    ChangedView, ClassName, ComponentCheck, GroupOrder, PayloadForm, Position, PublishOrder,
    PublishedView, RedriveOrder, RedriveWay, TopicOrder,
};
use crate::api::path::encode;
use crate::config::parse_duration;
use crate::pubsub::fresh_id;
use crate::topics::look::{
    LETTERS_PAGE_MAX, LetterHead, LetterView, SubscriptionView, TopicKind, TopicView,
};

/// How long an order may take.
const ORDER_TIME_MAX: Duration = Duration::from_secs(35);
/// A stream that is silent for so long is broken: a node that has nothing to say says so every few
/// seconds.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// So many printed events are acknowledged at once, also while more of them are here.
const ACKS_AFTER: u64 = 32;

/// `topics`.
pub(super) fn topics(target: &Target, args: &Topics) -> Result<Verdict, Failure> {
    if let Some(TopicsDo::Delete(which)) = &args.action {
        return delete_topic(target, which);
    }
    block_on(async {
        let mut client = Client::to(target)?;
        let Some(topic) = &args.topic else {
            let path = listed("topics", args.pubsub.as_deref());
            let views: Vec<TopicView> = client.read(&path).await?;
            let of = args.pubsub.as_ref();
            let of = of.map_or_else(String::new, |name| format!(" of component {name}"));
            return Ok(show(
                &views,
                args.output,
                topics_text,
                &format!("no topics{of}: nothing was published"),
            ));
        };
        let pubsub = component(args.pubsub.as_deref());
        let path = format!("topics/{}/{}", encode(pubsub), encode(topic));
        let view: TopicView = client.read(&path).await?;
        match args.output.form() {
            Form::Json => print_json(&view),
            Form::Text => print_text(&topic_text(&view)),
        }
        Ok(Verdict::Ok)
    })
}

fn delete_topic(target: &Target, which: &DeleteTopic) -> Result<Verdict, Failure> {
    confirmed(which.sure, || {
        format!(
            "this deletes {} with its events, groups and dead letters, and nothing brings them back. Say --yes if \
             you mean it; \"ghostlight topics {}\" shows what is there",
            which.topic, which.topic
        )
    })?;
    let order = TopicOrder {
        pubsub: which.pubsub.clone(),
        topic: which.topic.clone(),
    };
    let body = serde_json::to_vec(&order).expect("a plain struct");
    block_on(async {
        let ask = Ask::post(format!("{BASE}/topics/delete"), body).within(ORDER_TIME_MAX);
        let reply = Client::to(target)?.ask(ask).await?;
        let done: ChangedView = parse(&reply)?;
        eprintln!("deleted: topic {}, {}", order.topic, logs(done.changed));
        Ok(Verdict::Ok)
    })
}

/// One topic: what it is, and a row for each of its logs.
fn topic_text(view: &TopicView) -> String {
    let mut text = format!("{} of {}, {}\n", view.topic, view.pubsub, view.kind);
    match view.kind {
        TopicKind::Durable => text.push_str(&format!(
            "{} events, {} bytes, {} published; groups: {}\n\n",
            view.events,
            view.bytes,
            view.published,
            or_dash(&view.groups.join(", "))
        )),
        TopicKind::Ephemeral => text.push_str(&format!(
            "{} subscribers on {} nodes, which have lost {} events; last value: {}\n",
            view.subscribers.unwrap_or_default(),
            view.nodes.unwrap_or_default(),
            view.dropped.unwrap_or_default(),
            or_dash(view.last_value.as_deref().unwrap_or_default())
        )),
    }
    if view.partitions.is_empty() {
        return text;
    }
    let mut table = Table::new(&[
        ("LOG", Align::Right),
        ("FIRST", Align::Right),
        ("NEXT", Align::Right),
        ("EVENTS", Align::Right),
        ("BYTES", Align::Right),
        ("LAST EVENT", Align::Left),
    ]);
    for log in &view.partitions {
        table.row(vec![
            log.number.to_string(),
            log.first.to_string(),
            log.next.to_string(),
            log.next.saturating_sub(log.first).to_string(),
            log.bytes.to_string(),
            or_dash(&log.last),
        ]);
    }
    text + &table.render()
}

fn topics_text(views: &[TopicView]) -> String {
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("PUBSUB", Align::Left),
        ("KIND", Align::Left),
        ("EVENTS", Align::Right),
        ("BYTES", Align::Right),
        ("PUBLISHED", Align::Right),
        ("SUBSCRIBERS", Align::Right),
        ("DROPPED", Align::Right),
        ("GROUPS", Align::Left),
    ]);
    let number = |number: Option<u64>| or_dash(&number.map_or(String::new(), |n| n.to_string()));
    for view in views {
        let is_kept = view.kind == TopicKind::Durable;
        table.row(vec![
            view.topic.clone(),
            view.pubsub.clone(),
            view.kind.to_string(),
            number(is_kept.then_some(view.events)),
            number(is_kept.then_some(view.bytes)),
            number(is_kept.then_some(view.published)),
            number(view.subscribers),
            number(view.dropped),
            or_dash(&view.groups.join(",")),
        ]);
    }
    table.render()
}

/// `subscriptions`, and what is done to them.
pub(super) fn subscriptions(target: &Target, args: Subscriptions) -> Result<Verdict, Failure> {
    match args.action {
        None => block_on(async {
            let mut client = Client::to(target)?;
            let path = match &args.topic {
                None => listed("subscriptions", args.pubsub.as_deref()),
                Some(topic) => {
                    let pubsub = component(args.pubsub.as_deref());
                    format!("subscriptions/{}/{}", encode(pubsub), encode(topic))
                }
            };
            let views: Vec<SubscriptionView> = client.read(&path).await?;
            let of = args.topic.as_ref();
            let of = of.map_or_else(String::new, |topic| format!(" of topic {topic}"));
            let none = format!("no groups of subscribers{of}");
            Ok(show(&views, args.output, subscriptions_text, &none))
        }),
        Some(SubscriptionsDo::Pause(group)) => order(target, "pause", group, None),
        Some(SubscriptionsDo::Resume(group)) => order(target, "resume", group, None),
        Some(SubscriptionsDo::Delete(DeleteGroup { group, sure })) => {
            confirmed(sure, || {
                format!(
                    "this forgets group {} of topic {} with its place and its dead letters, and nothing brings them back. \
                     Say --yes if you mean it; \"ghostlight subscriptions {}\" shows what it still has to get",
                    group.group, group.topic, group.topic
                )
            })?;
            order(target, "delete", group, None)
        }
        Some(SubscriptionsDo::Seek(SeekGroup {
            group,
            to,
            partition,
        })) => {
            let to = position(&to, partition)?;
            order(target, "seek", group, Some(to))
        }
    }
}

fn subscriptions_text(views: &[SubscriptionView]) -> String {
    let mut table = Table::new(&[
        ("TOPIC", Align::Left),
        ("GROUP", Align::Left),
        ("PUBSUB", Align::Left),
        ("STATE", Align::Left),
        ("ORDER", Align::Left),
        ("SUBSCRIBERS", Align::Right),
        ("LAG", Align::Right),
        ("IN FLIGHT", Align::Right),
        ("REDELIVERED", Align::Right),
        ("LETTERS", Align::Right),
        ("DEAD", Align::Right),
    ]);
    for view in views {
        table.row(vec![
            view.topic.clone(),
            view.group.clone(),
            view.pubsub.clone(),
            if view.paused { "paused" } else { "active" }.to_owned(),
            view.order.clone(),
            view.subscribers.to_string(),
            view.lag.to_string(),
            view.in_flight.to_string(),
            view.redelivered.to_string(),
            view.letters.to_string(),
            view.dead.to_string(),
        ]);
    }
    table.render()
}

fn order(
    target: &Target,
    verb: &str,
    group: GroupRef,
    to: Option<Position>,
) -> Result<Verdict, Failure> {
    let order = GroupOrder {
        pubsub: group.pubsub,
        topic: group.topic,
        group: group.group,
        to,
    };
    let body = serde_json::to_vec(&order).expect("a plain struct");
    block_on(async {
        let path = format!("{BASE}/subscriptions/{verb}");
        let ask = Ask::post(path, body).within(ORDER_TIME_MAX);
        let reply = Client::to(target)?.ask(ask).await?;
        let done: ChangedView = parse(&reply)?;
        let done_to = match verb {
            "pause" => "paused",
            "resume" => "resumed",
            "seek" => "moved",
            _ => "deleted",
        };
        eprintln!(
            "{done_to}: group {} of topic {}, in {}",
            order.group,
            order.topic,
            logs(done.changed)
        );
        Ok(Verdict::Ok)
    })
}

fn logs(count: usize) -> String {
    match count {
        1 => "1 log".to_owned(),
        count => format!("{count} logs"),
    }
}

/// `first`, `last`, a time, or an offset of one log.
fn position(text: &str, partition: Option<u16>) -> Result<Position, Failure> {
    let wrong = |why: &str| {
        Err(Failure::usage(
            Code::CursorOutOfRange,
            format!(
                "{text:?} {why}. Write first, last, a time such as 2026-01-31T12:00:00Z, how long ago such \
                 as 10m, or an offset"
            ),
        ))
    };
    match (text, partition) {
        ("first", None) => return Ok(Position::First),
        ("last", None) => return Ok(Position::Last),
        _ => {}
    }
    if let Ok(offset) = text.parse() {
        let Some(number) = partition else {
            return wrong("is an offset of one log: name the log with --partition");
        };
        return Ok(Position::Offset { number, offset });
    }
    if partition.is_some() {
        return wrong("is no offset, and --partition goes with offsets alone");
    }
    match time_ms(text) {
        Some(ms) => Ok(Position::TimeMs(ms)),
        None => wrong("is no place in a topic"),
    }
}

/// A moment, or how long ago it was.
fn time_ms(text: &str) -> Option<u64> {
    if let Some(time) = parse_rfc3339(text) {
        return Some(time.0);
    }
    let ago = parse_duration(text)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(now.saturating_sub(ago).as_millis()).ok()
}

/// `dead-letters`.
pub(super) fn dead_letters(target: &Target, args: DeadLetters) -> Result<Verdict, Failure> {
    match args {
        DeadLetters::List { group, output } => block_on(async {
            let letters = letters(target, &group).await?;
            let none = match letters.is_empty() {
                true => no_letters(target, &group).await?,
                false => String::new(),
            };
            Ok(show(&letters, output, letters_text, &none))
        }),
        DeadLetters::Show {
            group,
            letter,
            output,
        } => block_on(async {
            let LetterRef { number, offset } = letter;
            let path = format!("{}/{number}/{offset}", letters_path(&group));
            let view: LetterView = Client::to(target)?.read(&path).await?;
            Ok(describe(&view, output))
        }),
        DeadLetters::Redrive(args) => redrive(target, args),
    }
}

/// All letters, page by page.
async fn letters(target: &Target, group: &GroupRef) -> Result<Vec<LetterHead>, Failure> {
    let mut client = Client::to(target)?;
    let mut all: Vec<LetterHead> = Vec::new();
    loop {
        let mut path = letters_path(group);
        if let Some(last) = all.last() {
            path.push_str(&format!("?after={}/{}", last.number, last.offset));
        }
        let page: Vec<LetterHead> = client.read(&path).await?;
        let is_last = page.len() < LETTERS_PAGE_MAX;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

/// A group that is misspelt has none either: those that there are.
async fn no_letters(target: &Target, group: &GroupRef) -> Result<String, Failure> {
    let GroupRef {
        pubsub,
        topic,
        group,
    } = group;
    let path = format!("subscriptions/{}/{}", encode(pubsub), encode(topic));
    // A topic that is not there has none either.
    let mut client = Client::to(target)?;
    let views: Vec<SubscriptionView> = client.read(&path).await.unwrap_or_default();
    let groups: Vec<&str> = views.iter().map(|view| view.group.as_str()).collect();
    let groups = match groups.is_empty() {
        true => "it has no groups".to_owned(),
        false => format!("its groups are: {}", groups.join(", ")),
    };
    Ok(format!(
        "no dead letters of group {group} for topic {topic}; {groups}"
    ))
}

fn letters_path(group: &GroupRef) -> String {
    format!(
        "dead-letters/{}/{}/{}",
        encode(&group.pubsub),
        encode(&group.topic),
        encode(&group.group)
    )
}

fn letters_text(views: &[LetterHead]) -> String {
    let mut table = Table::new(&[
        ("LETTER", Align::Left),
        ("DIED", Align::Left),
        ("ATTEMPTS", Align::Right),
        ("KEY", Align::Left),
        ("REASON", Align::Left),
    ]);
    for view in views {
        table.row(vec![
            format!("{}/{}", view.number, view.offset),
            view.died.clone(),
            view.attempts.to_string(),
            or_dash(&view.key),
            or_dash(view.reason.lines().next().unwrap_or("")),
        ]);
    }
    table.render()
}

fn redrive(target: &Target, args: Redrive) -> Result<Verdict, Failure> {
    if args.letters.is_empty() && !args.all {
        return Err(Failure::usage(
            Code::InvalidArgument,
            "name letters such as 3/17, or say --all",
        ));
    }
    let named = args.letters.iter();
    let order = RedriveOrder {
        pubsub: args.group.pubsub,
        topic: args.group.topic,
        group: args.group.group,
        letters: (!args.all).then(|| named.map(|l| (l.number, l.offset)).collect()),
        to: if args.discard {
            RedriveWay::Nowhere
        } else {
            RedriveWay::Group
        },
    };
    let body = serde_json::to_vec(&order).expect("a plain struct");
    block_on(async {
        let ask = Ask::post(format!("{BASE}/dead-letters/redrive"), body).within(ORDER_TIME_MAX);
        let reply = Client::to(target)?.ask(ask).await?;
        let done: ChangedView = parse(&reply)?;
        let letters = match done.changed {
            1 => "1 letter".to_owned(),
            count => format!("{count} letters"),
        };
        let done_to = match order.to {
            RedriveWay::Group => "driven again",
            RedriveWay::Nowhere => "thrown away",
        };
        eprintln!("{letters} of group {} {done_to}", order.group);
        Ok(if done.changed == 0 {
            Verdict::UnhealthyOrEmpty
        } else {
            Verdict::Ok
        })
    })
}

/// `publish`.
pub(super) fn publish(target: &Target, args: Publish) -> Result<Verdict, Failure> {
    let id = args.id.unwrap_or_else(fresh_id);
    let order = PublishOrder {
        pubsub: args.pubsub,
        topic: args.topic,
        data_base64: STANDARD.encode(body(args.data.as_deref())?),
        key: args.key,
        content_type: args.content_type.unwrap_or_default(),
        id: Some(id.clone()),
        payload: if args.raw {
            PayloadForm::Raw
        } else {
            PayloadForm::Wrapped
        },
        component: if args.force {
            ComponentCheck::Any
        } else {
            ComponentCheck::Known
        },
        class: match (args.ephemeral, args.latched) {
            (_, true) => Some(ClassName::Latched),
            (true, false) => Some(ClassName::Ephemeral),
            (false, false) => None,
        },
    };
    let body = serde_json::to_vec(&order).expect("a plain struct");
    block_on(async {
        let ask = Ask::post(format!("{BASE}/publish"), body).within(ORDER_TIME_MAX);
        let mut client = Client::to(target)?;
        let reply = client
            .ask_once(ask, |why| may_be_published(why, &id))
            .await?;
        let done: PublishedView = parse(&reply)?;
        match args.output.form() {
            Form::Json => print_json(&done),
            Form::Text => print_text(&published_text(&done)),
        }
        Ok(Verdict::Ok)
    })
}

fn published_text(done: &PublishedView) -> String {
    match done.sent {
        None => format!("{}/{}\n", done.number, done.offset),
        Some(sent) => format!(
            "{}  subscribers: {}, other nodes: {}\n",
            done.offset, sent.subscribers, sent.nodes
        ),
    }
}

fn may_be_published(why: &str, id: &str) -> Failure {
    Failure::new(
        Code::OutcomeUnknown,
        format!(
            "the node took the event but did not answer ({why}). It may have been published: repeat the command \
             with --id {id} and the same --key, at this node or another --node"
        ),
    )
}

/// `subscribe`: prints events until it is stopped, or has had enough. What is printed is
/// acknowledged, nothing else.
pub(super) fn subscribe(target: &Target, args: &Subscribe) -> Result<Verdict, Failure> {
    let path = subscribe_path(args)?;
    block_on(async {
        let mut client = Client::to(target)?;
        let mut acks = Client::to(target)?;
        let mut lines = client.lines(Ask::get(path)).await?;
        let reader = lines.header(READER_HEADER).unwrap_or_default().to_owned();
        let (mut seen, mut said) = (0, 0);
        let mut printed = Printed::Yes;
        let mut ended = None;
        let enough = |seen: u64| args.count.is_some_and(|most| seen >= most);
        while printed == Printed::Yes && !enough(seen) {
            match lines.next(SILENCE_MAX).await {
                Ok(Some(line)) if line.is_empty() => {}
                Ok(Some(line)) => {
                    printed = print_event(&line, args);
                    seen += u64::from(printed == Printed::Yes);
                }
                Ok(None) => {
                    ended = Some("the node ended the stream".to_owned());
                    break;
                }
                Err(broken) => {
                    ended = Some(broken.to_string());
                    break;
                }
            }
            let pauses = !lines.has_more() || seen - said >= ACKS_AFTER;
            if seen > said && (pauses || enough(seen)) && args.is_shared() {
                acknowledge(&mut acks, &reader, seen).await?;
                said = seen;
            }
        }
        match ended {
            None => Ok(Verdict::Ok),
            Some(why) => Err(Failure::new(
                Code::NodeUnreachable,
                format!(
                    "the stream is over after {seen} events: {why}. Start again, or at another --node; a group goes \
                     on where it stands"
                ),
            )),
        }
    })
}

fn subscribe_path(args: &Subscribe) -> Result<String, Failure> {
    let mut path = format!(
        "{BASE}/subscribe/{}/{}?",
        encode(&args.pubsub),
        encode(&args.topic)
    );
    if let Some(group) = args.group.as_deref().filter(|_| args.is_shared()) {
        path.push_str(&format!("group={}&", encode(group)));
    }
    if args.force {
        path.push_str("component=any&");
    }
    if args.ephemeral {
        path.push_str("class=ephemeral&");
    }
    if let Some(from) = &args.from {
        if args.is_shared() && (args.partition.is_some() || from.parse::<u64>().is_ok()) {
            return Err(Failure::usage(
                Code::InvalidArgument,
                "a group goes on where it stands: an offset is for subscribers without --group. \
                 \"ghostlight subscriptions seek\" moves a group",
            ));
        }
        let from = match position(from, args.partition)? {
            Position::First => "first".to_owned(),
            Position::Last => "last".to_owned(),
            Position::TimeMs(ms) => format!("{ms}ms"),
            Position::Offset { number, offset } => format!("{number}/{offset}"),
        };
        path.push_str(&format!("from={from}"));
    }
    Ok(path)
}

/// Whether somebody took what was printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Printed {
    Yes,
    /// The pipe is closed, or the disk is full.
    No,
}

fn print_event(line: &[u8], args: &Subscribe) -> Printed {
    let text = match args.output.form() {
        Form::Json => format!("{}\n", String::from_utf8_lossy(line)),
        Form::Text => match serde_json::from_slice::<EventView>(line) {
            Ok(event) => {
                if event.missed > 0 {
                    eprintln!("missed: {} events before the next one", event.missed);
                }
                event_text(&event, args)
            }
            Err(error) => {
                eprintln!("a line is not understood: {error}");
                return Printed::No;
            }
        },
    };
    match try_print(&text) {
        Ok(()) => Printed::Yes,
        Err(_) => Printed::No,
    }
}

async fn acknowledge(client: &mut Client, reader: &str, lines: u64) -> Result<(), Failure> {
    let taken = Taken {
        reader: reader.to_owned(),
        lines,
    };
    let body = serde_json::to_vec(&taken).expect("a plain struct");
    let ask = Ask::post(format!("{BASE}/subscribe/taken"), body);
    let unheard = |why: &str| {
        Failure::new(
            Code::OutcomeUnknown,
            format!(
                "the node did not answer that it has heard what was printed ({why}): some of it may come again, to this \
                 group's next subscriber"
            ),
        )
    };
    client.ask_once(ask, unheard).await.map(|_| ())
}

fn event_text(event: &EventView, args: &Subscribe) -> String {
    let key = event.key.as_deref().unwrap_or("-");
    let whole = || STANDARD.decode(&event.data_base64).unwrap_or_default();
    let text = match args.raw {
        true => String::from_utf8_lossy(&whole()).into_owned(),
        false => event.text.clone(),
    };
    format!("{}/{}  {key}  {text}\n", event.number, event.offset)
}

fn listed(noun: &str, pubsub: Option<&str>) -> String {
    match pubsub {
        Some(pubsub) => format!("{noun}?pubsub={}", encode(pubsub)),
        None => noun.to_owned(),
    }
}

fn component(pubsub: Option<&str>) -> &str {
    pubsub.unwrap_or(super::args::PUBSUB_DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::look::TopicPartitionView;

    #[test]
    fn a_topic_is_a_table_of_its_logs() {
        let log = |number, first, next, last: &str| TopicPartitionView {
            number,
            first,
            next,
            bytes: 70 * (next - first),
            last: last.to_owned(),
        };
        let view = TopicView {
            pubsub: "pubsub".to_owned(),
            topic: "orders".to_owned(),
            events: 8,
            bytes: 560,
            published: 12,
            groups: vec!["bill".to_owned(), "shop".to_owned()],
            partitions: vec![log(0, 4, 12, "2026-01-31T12:00:00Z"), log(1, 0, 0, "")],
            ..TopicView::default()
        };
        let wanted = "\
orders of pubsub, durable
8 events, 560 bytes, 12 published; groups: bill, shop

LOG  FIRST  NEXT  EVENTS  BYTES  LAST EVENT
  0      4    12       8    560  2026-01-31T12:00:00Z
  1      0     0       0      0  -
";
        assert_eq!(topic_text(&view), wanted);
        let passing = TopicView {
            kind: TopicKind::Ephemeral,
            subscribers: Some(3),
            nodes: Some(2),
            dropped: Some(7),
            partitions: Vec::new(),
            ..view
        };
        let text = topic_text(&passing);
        let line = "3 subscribers on 2 nodes, which have lost 7 events; last value: -";
        assert_eq!(text.lines().nth(1), Some(line));
    }

    #[test]
    fn places_in_a_topic() {
        for (text, partition, wanted) in [
            ("first", None, Position::First),
            ("last", None, Position::Last),
            (
                "17",
                Some(3),
                Position::Offset {
                    number: 3,
                    offset: 17,
                },
            ),
            ("1970-01-01T00:00:02Z", None, Position::TimeMs(2_000)),
        ] {
            assert_eq!(position(text, partition), Ok(wanted), "{text}");
        }
        assert!(matches!(position("10m", None), Ok(Position::TimeMs(_))));
        for (text, partition) in [("17", None), ("first", Some(1)), ("now", None), ("", None)] {
            let failure = position(text, partition).unwrap_err();
            assert_eq!(failure.exit_code(), 2, "{text}");
        }
    }
}
