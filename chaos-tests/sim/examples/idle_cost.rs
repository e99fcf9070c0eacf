//! What a quiet cluster costs: CPU time of virtual minutes in which nobody asks for anything.
#![expect(clippy::print_stdout, reason = "what it is for")]

use ghostlight_sim::{Params, SEC, Show, World, form};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn cpu_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = told.split(' ').next().and_then(|n| n.parse::<f64>().ok());
    first.map_or(f64::NAN, |nanoseconds| nanoseconds / 1e9)
}

fn main() {
    for (nodes, partitions) in [(1, 1), (3, 1), (3, 8), (5, 4), (7, 8)] {
        let mut world = World::new(Params::quiet(1, nodes, partitions), Show::Nothing);
        form(&mut world).expect("it forms");
        let (before, events) = (cpu_seconds(), world.trace.events());
        let end = world.now() + 600 * SEC;
        world.run_until(end);
        let took = cpu_seconds() - before;
        println!(
            "{nodes} nodes, {partitions} partitions: {:.3} s for 10 minutes, {:.0} times real time, {} events",
            took,
            600.0 / took,
            world.trace.events() - events
        );
    }
}
