//! A topic that is deleted: its events go whatever their age, and no offset is given again.

use super::*;

impl Bed {
    fn delete(&mut self, last: &[u64]) -> TopicOutcome {
        self.act(TopicAct::Trim(Trim {
            last: last.to_vec(),
            next_last: None,
            delete: 1,
        }))
    }
}

#[test]
fn a_deleted_topic_is_gone_until_it_is_used_and_its_offsets_go_on() {
    let mut bed = Bed::new();
    // One that never was is not made by it.
    bed.delete(&[]);
    assert_eq!(bed.count(Family::Topic), 0);
    bed.publish(5, &["a", "b"]);
    bed.publish(6, &["c"]);
    bed.act(put("g", GroupSettings::default()));
    let used = bed.delete(&[1, 2]);
    assert_eq!(used, TopicOutcome::Refused(TopicRefusal::InUse));
    let letters = GroupLetters {
        group: "g".to_owned(),
        offsets: Vec::new(),
    };
    bed.act(TopicAct::Delete(letters));
    // A batch at a time, the oldest first.
    bed.delete(&[2]);
    assert_eq!((bed.topic_row().first, bed.topic_row().gone), (0, 0));
    bed.delete(&[1]);
    assert_eq!((bed.topic_row().first, bed.topic_row().gone), (2, 0));
    bed.delete(&[2]);
    let row = bed.topic_row();
    assert_eq!((row.first, row.next, row.bytes, row.gone), (3, 3, 0, 1));
    assert!(bed.events().is_empty());
    // Published or subscribed to, it is there again.
    bed.publish(7, &["d"]);
    assert_eq!(bed.topic_row().gone, 0);
    assert_eq!(bed.events(), [(3, "d".to_owned())]);
    bed.delete(&[3]);
    assert_eq!(bed.topic_row().gone, 1);
    let row = group(bed.act(put("g", GroupSettings::default())));
    assert_eq!((row.floor, bed.topic_row().gone), (4, 0));
}

#[test]
fn names_of_a_deleted_topic_say_nothing_any_more() {
    let mut bed = Bed::new();
    let named = || {
        let publishes = vec![PublishItem {
            request: None,
            body: Some(PublishBody {
                events: vec![event("a")],
                names: vec![crate::topic::event_name("shop", "a")],
                ..PublishBody::default()
            }),
        }];
        TopicAct::Append(Append { publishes })
    };
    bed.act(named());
    bed.act(named());
    assert_eq!(bed.topic_row().next, 1);
    bed.delete(&[0]);
    bed.act(named());
    bed.act(named());
    assert_eq!(bed.topic_row().next, 2, "it is another event, once");
}
