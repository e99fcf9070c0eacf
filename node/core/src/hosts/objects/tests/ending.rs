//! The objects of a node that ends.

use super::*;

/// Objects of other actors, as a node before this one has left them: so many exist in the process.
fn others(bed: &mut Bed, count: usize) {
    let keys = (0..count).map(|n| ActorKey::new("default", "cart", &format!("o{n}")).unwrap());
    bed.objects
        .held_before("shop", AppInstance(1), keys.collect());
}

/// What is known to exist, can be reached and runs nothing is told to go, once; whatever the answer
/// is, it is over.
#[test]
fn what_exists_is_told_to_go_when_its_node_ends() {
    type Before = fn(&mut Bed);
    let table: [(&str, Before, bool); 6] = [
        ("never called", |_| {}, false),
        (
            "called",
            |bed| {
                bed.good_turn(1, 1, 0, None);
            },
            true,
        ),
        (
            "failed at its first turn, and shows nothing of itself",
            |bed| {
                bed.run(1, 1, 0);
                let exchange = bed.called();
                bed.answer(exchange, 500);
            },
            false,
        ),
        (
            "a turn runs in it",
            |bed| {
                bed.good_turn(1, 1, 0, None);
                bed.run(1, 2, 0);
                bed.called();
            },
            false,
        ),
        (
            "its process is out of reach",
            |bed| {
                bed.good_turn(1, 1, 0, None);
                bed.gone(1);
            },
            false,
        ),
        (
            "another process took its place",
            |bed| {
                bed.good_turn(1, 1, 0, None);
                bed.hosting(2);
            },
            false,
        ),
    ];
    for (what, before, told) in table {
        for silent in [None, Some(Sent::Maybe), Some(Sent::CertainlyNot)] {
            let mut bed = Bed::new();
            before(&mut bed);
            bed.out.clear();
            let left = bed.objects.let_all_go(&mut bed.out);
            assert_eq!(left, usize::from(told), "{what}");
            if told {
                let exchange = bed.deleted();
                match silent {
                    None => bed.answer(exchange, 200),
                    Some(sent) => bed.silent(exchange, sent),
                }
                bed.out.clear();
            }
            assert_eq!(bed.objects.let_all_go(&mut bed.out), 0, "{what}");
            assert!(bed.out.is_empty(), "{what}: {:?}", bed.out);
        }
    }
}

/// However many there are, so many are told at a time, and all are.
#[test]
fn a_bounded_number_is_told_at_a_time() {
    let mut bed = Bed::new();
    let count = 3 * super::super::ending::ASKED_MAX + 7;
    others(&mut bed, count);
    let (mut told, mut open) = (0, Vec::new());
    while bed.objects.let_all_go(&mut bed.out) > 0 {
        while !bed.out.is_empty() {
            open.push(bed.deleted());
            told += 1;
        }
        assert!(
            open.len() <= super::super::ending::ASKED_MAX,
            "{}",
            open.len()
        );
        // Some take longer than others.
        for exchange in open.split_off(open.len() / 2) {
            bed.answer(exchange, 200);
        }
    }
    assert_eq!(told, count);
}
