//! A node whose database is lost comes back as a new one under load, and nothing is lost.

use ghostlight_sim::{Params, SEC, Show, World, compare, form, guarded, heal};

#[test]
fn a_lost_database_is_given_up_and_made_anew() {
    for seed in 1..=10 {
        let mut world = World::new(Params::quiet(seed, 3, 4), Show::Nothing);
        let ran = guarded(&mut world, |world| {
            form(world)?;
            world.begin_work();
            for place in [1, 0] {
                let now = world.now();
                world.run_until(now + SEC);
                let before = world.id_of(place);
                world.lose_database(place);
                if !world.run_while(60 * SEC, SEC / 10, |world| !world.settled()) {
                    return Err(format!("not whole: {:?}", world.unsettled()));
                }
                assert!(world.id_of(place).is_some() && world.id_of(place) != before);
            }
            heal(world)?;
            compare(world)
        });
        if let Err(failure) = ran {
            panic!("seed {seed}: {}\n{}", failure.before, failure.what);
        }
        assert_eq!(
            world.sometimes.count("lost database: given up"),
            2,
            "seed {seed}"
        );
        // Without the grace that a node that is only down would have.
        assert!(
            world.now() < 100 * SEC,
            "seed {seed}: {} s",
            world.now() / SEC
        );
    }
}
