//! Room on the disk: when a node stops to lead, stops to write, and comes back.

use super::super::tests::bench::{Bench, node_id};
use super::*;
use crate::io::{Input, StoreInput};
use crate::turns::Writes;

const P0: PartitionId = PartitionId(0);

fn room(per_mille: u64) -> Room {
    Room {
        free_bytes: per_mille << 30,
        total_bytes: 1_000 << 30,
    }
}

#[test]
fn it_takes_more_room_to_come_back_than_to_go() {
    use RoomStage::{Ample, Gone, Short};
    // Free thousandths, and what follows, one after the other.
    let table = [
        (1_000, Ample),
        (50, Ample),
        (49, Short),
        (59, Short),
        (60, Ample),
        (20, Short),
        (19, Gone),
        (29, Gone),
        (30, Short),
        (0, Gone),
        (59, Short),
        (0, Gone),
        (60, Ample),
        (0, Gone),
        (1_000, Ample),
    ];
    let mut stage = RoomStage::default();
    for (free, expected) in table {
        let before = stage;
        stage = stage.after(free);
        assert_eq!(stage, expected, "{free} free after {before:?}");
    }
}

#[test]
fn a_file_system_that_does_not_say_how_large_it_is_is_never_full() {
    let unknown = Room {
        free_bytes: 0,
        total_bytes: 0,
    };
    assert_eq!(unknown.free_per_mille(), 1_000);
    let largest = Room {
        free_bytes: u64::MAX,
        total_bytes: u64::MAX,
    };
    assert_eq!(largest.free_per_mille(), 1_000);
}

#[test]
fn a_node_with_little_room_leads_nothing_until_it_has_more() {
    let (mut bench, leader) = Bench::led(3, 1);
    bench.feed(leader, Input::Store(StoreInput::Room(room(40))));
    bench.until("another node leads", |b| {
        b.server(P0).is_some_and(|now| now != leader)
    });
    let told = bench.members[leader as usize - 1].core.fitness.present();
    assert_eq!(told, Fitness::RoomShort);
    let other = bench.server(P0).expect("just seen");
    let heard = bench.at(other).core.links.link(node_id(leader));
    assert_eq!(
        heard.map(|link| link.said.fitness),
        Some(Fitness::RoomShort)
    );
    // It takes no leadership back, whatever the others do.
    bench.pass(20_000);
    assert_ne!(bench.server(P0), Some(leader));
    bench.feed(leader, Input::Store(StoreInput::Room(room(70))));
    bench.pass(100);
    let told = bench.members[leader as usize - 1].core.fitness.present();
    assert_eq!(told, Fitness::Fit);
}

#[test]
fn a_node_that_nobody_can_relieve_keeps_leading_and_refuses_writes_without_room() {
    let (mut bench, leader) = Bench::led(1, 1);
    let writes = |bench: &mut Bench| {
        let slot = bench
            .at(leader)
            .core
            .cluster
            .as_ref()
            .and_then(|c| c.slot(P0));
        slot.and_then(Slot::serving)
            .map(|(_, serving)| serving.writes)
    };
    // (free thousandths, what becomes of writes)
    let table = [
        (40, Writes::Taken),
        (19, Writes::NoRoom),
        (25, Writes::NoRoom),
        (31, Writes::Taken),
    ];
    for (free, expected) in table {
        bench.feed(leader, Input::Store(StoreInput::Room(room(free))));
        bench.pass(500);
        assert_eq!(writes(&mut bench), Some(expected), "{free} free");
    }
}
