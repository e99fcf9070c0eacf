//! A cluster, and what a scenario does to it.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ghostlight_core::admin::{AdminAnswer, AdminRequest, StatusView};
use ghostlight_core::io::HaltReason;
use ghostlight_storage::MemoryDisk;
use ghostlight_storage::memory::CrashKind;
use ghostlight_transport::security::key::ClusterKey;
use tokio::sync::oneshot;

use crate::clients::{Clients, Desks, Lines};
use crate::dice::{Dice, MS, SEC};
use crate::guests::Asked;
use crate::machine::{Driver, Machine, Owner, lock};
use crate::network::{Network, Seen, Weather};
use crate::node::{Build, Launch, Place, Refusal, Shape};

/// What a scenario comes to: or why it did not.
pub type Outcome = Result<(), String>;

/// Owner of the network's task, of clients; processes are counted from there on.
const NETWORK: Owner = Owner(0);
pub(crate) const CLIENTS: Owner = Owner(1);
const FIRST_RUN: u64 = 2;
/// Time between two looks at something that is waited for.
const LOOK: u64 = 50 * MS;

/// How a new node comes to its cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It founds one.
    Founds,
    /// It joins by the addresses of the others.
    Joins,
}

/// What a run has come to.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// Virtual time that it took, in nanoseconds.
    pub time: u64,
    /// Every datagram.
    pub seen: Vec<Seen>,
}

/// See the module.
pub struct World {
    machine: Machine,
    network: Network,
    places: Vec<Place>,
    desks: Desks,
    dice: Dice,
    key: ClusterKey,
    shape: Shape,
    weather: Weather,
    next_run: u64,
}

/// Runs a scenario in a world of its own; `Err`: what went wrong, a panic anywhere included.
///
/// # Errors
/// When it does not come to its end.
pub fn guarded(
    seed: u64,
    scenario: impl AsyncFnOnce(&mut World) -> Outcome,
) -> Result<Report, String> {
    // Unwind safe: nobody looks into a world that failed.
    let run = || {
        let mut world = World::new(seed);
        let machine = world.machine.clone();
        let outcome = machine.block_on(scenario(&mut world));
        let report = Report {
            time: machine.now(),
            seen: world.network.seen(),
        };
        world.end();
        outcome.map(|()| report)
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(panic) => Err(format!("a panic: {}", said(&*panic))),
    }
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a text".to_owned())
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "world");
        let machine = Machine::new(Dice::new(seed, "order"));
        let driver = Driver {
            machine: machine.clone(),
            owner: NETWORK,
        };
        let weather = Weather::draw(&mut Dice::new(seed, "weather"));
        let network = Network::new(&driver, Dice::new(seed, "network"), weather);
        let partitions = [2, 4, 8][dice.index(3)];
        Self {
            machine,
            network,
            places: Vec::new(),
            desks: Desks::default(),
            dice,
            key: ClusterKey::generate(),
            shape: Shape {
                partitions,
                factor: 3,
            },
            weather,
            next_run: FIRST_RUN,
        }
    }

    /// Tasks and what they hold refer to each other.
    fn end(self) {
        for run in 0..self.next_run {
            self.machine.kill(Owner(run));
        }
    }

    /// Adds a place with an empty disk, and starts a node there.
    pub fn add(&mut self, origin: Origin) -> usize {
        self.add_with(origin, self.key.clone(), Build::Present)
    }

    /// The same with another cluster key.
    pub fn add_of_other_key(&mut self, origin: Origin) -> usize {
        self.add_with(origin, ClusterKey::generate(), Build::Present)
    }

    /// The same with another program.
    pub fn add_build(&mut self, origin: Origin, build: Build) -> usize {
        self.add_with(origin, self.key.clone(), build)
    }

    fn add_with(&mut self, origin: Origin, key: ClusterKey, build: Build) -> usize {
        let number = self.places.len();
        let host = u8::try_from(number + 1).expect("a few places");
        self.places.push(Place {
            address: SocketAddr::from(([10, 0, 0, host], 7_400)),
            disk: MemoryDisk::new(self.dice.any()),
            key,
            build,
            run: None,
            refusals: Arc::default(),
        });
        self.start(number, origin);
        number
    }

    /// Starts a process on a place's disk.
    ///
    /// # Panics
    /// When one runs there.
    pub fn start(&mut self, number: usize, origin: Origin) {
        let place = &self.places[number];
        assert!(place.run.is_none(), "place {number} runs already");
        let owner = Owner(self.next_run);
        self.next_run += 1;
        let others = self.places.iter().map(|place| place.address);
        let others = others.filter(|address| *address != place.address);
        let seeds = match origin {
            Origin::Founds => Vec::new(),
            Origin::Joins => others.map(|address| address.to_string()).collect(),
        };
        let launch = Launch {
            place,
            number,
            origin,
            seeds,
            shape: self.shape,
            driver: Driver {
                machine: self.machine.clone(),
                owner,
            },
            network: &self.network,
            dice: &mut self.dice,
        };
        let run = launch.start();
        self.desks.open(number, run.asked.clone());
        self.places[number].run = Some(run);
    }

    /// A process dies: its socket disappears without a word, its disk keeps what `kind` leaves.
    pub fn kill(&mut self, number: usize, kind: CrashKind) {
        let place = &mut self.places[number];
        let Some(run) = place.run.take() else { return };
        self.desks.close(number);
        self.network.unbind(place.address);
        self.machine.kill(run.driver.owner);
        drop(run);
        place.disk.crash(kind);
    }

    /// A node is told to end, and ends; its peers hear of it.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn shut_down(&mut self, number: usize, grace: Duration) -> Outcome {
        let asked = self.places[number]
            .run
            .as_ref()
            .map(|run| run.asked.clone());
        if let Some(asked) = asked {
            drop(asked.send(Asked::Shutdown { grace }).await);
        }
        self.desks.close(number);
        self.until("the node ends", grace + Duration::from_secs(2), |world| {
            world.halted(number).is_some()
        })
        .await?;
        // What its transport still has to say.
        self.sleep(Duration::from_millis(300)).await;
        self.kill(number, CrashKind::Process);
        Ok(())
    }

    /// Why the process of a place has ended by itself.
    #[must_use]
    pub fn halted(&self, number: usize) -> Option<HaltReason> {
        let run = self.places[number].run.as_ref()?;
        lock(&run.halted).clone()
    }

    /// Connections of a place that were refused so far.
    #[must_use]
    pub fn refusals(&self, number: usize) -> Vec<Refusal> {
        lock(&self.places[number].refusals).clone()
    }

    /// Installs another program, for its next process.
    pub fn install(&mut self, number: usize, build: Build) {
        self.places[number].build = build;
    }

    /// Nothing passes between these and the others.
    pub fn split(&mut self, some: &[usize]) {
        for one in 0..self.places.len() {
            for other in 0..self.places.len() {
                if some.contains(&one) != some.contains(&other) {
                    self.cut(one, other);
                }
            }
        }
    }

    /// Nothing passes from one to the other.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.network
            .cut(self.places[from].address, self.places[to].address);
    }

    /// Everything passes again.
    pub fn mend(&mut self) {
        self.network.mend();
    }

    /// The network behaves well from now on.
    pub fn calm(&mut self) {
        self.weather = Weather {
            loss: 0.0,
            twice: 0.0,
            late: (0.0, 0),
            ..self.weather
        };
        self.network.set_weather(self.weather);
    }

    /// Any number below `most`.
    pub fn any_below(&mut self, most: usize) -> usize {
        self.dice.index(most)
    }

    /// A time between the two.
    pub fn any_time(&mut self, low: Duration, high: Duration) -> Duration {
        Duration::from_millis(
            self.dice
                .between(low.as_millis() as u64, high.as_millis() as u64),
        )
    }

    /// Virtual time so far.
    #[must_use]
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.machine.now())
    }

    /// Waits.
    pub async fn sleep(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.machine.sleep(nanos.max(1)).await;
    }

    /// Waits for something that can be seen from outside.
    ///
    /// # Errors
    /// When it is not there in time.
    pub async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        there: impl Fn(&mut Self) -> bool,
    ) -> Outcome {
        let begun = self.now();
        while !there(self) {
            if self.now() - begun > limit {
                return Err(format!("after {limit:?} of waiting: {what}: not so"));
            }
            self.machine.sleep(LOOK).await;
        }
        Ok(())
    }

    /// What a node says of its cluster; `None`: it says nothing within a second.
    pub async fn status(&self, number: usize) -> Option<StatusView> {
        let run = self.places[number].run.as_ref()?;
        let (answer, mut answered) = oneshot::channel();
        let request = AdminRequest::Status;
        run.asked.try_send(Asked::Admin { request, answer }).ok()?;
        let mut limit = Box::pin(self.machine.sleep(SEC));
        let answer = tokio::select! {
            biased;
            answer = &mut answered => answer.ok()?,
            () = &mut limit => return None,
        };
        match answer {
            AdminAnswer::Status(status) => Some(status),
            _ => None,
        }
    }

    /// Waits until these nodes, and no others, are a cluster at full strength, as each of them sees
    /// it.
    ///
    /// # Errors
    /// When they are not in time; with what they say instead.
    pub async fn until_whole(&mut self, places: &[usize], limit: Duration) -> Outcome {
        let begun = self.now();
        loop {
            let mut wrong = None;
            for place in places {
                let status = self.status(*place).await;
                if let Some(why) = not_whole(status.as_ref(), places.len()) {
                    wrong = Some(format!("place {place}: {why}"));
                    break;
                }
            }
            let Some(wrong) = wrong else { return Ok(()) };
            if self.now() - begun > limit {
                return Err(format!("not whole after {limit:?}: {wrong}"));
            }
            self.machine.sleep(LOOK).await;
        }
    }

    /// The place whose node leads most, as `asked` sees it.
    pub async fn leads_most(&self, asked: usize) -> Option<usize> {
        let status = self.status(asked).await?;
        let most = status.members.iter().max_by_key(|m| m.leaders)?;
        let address = |place: &Place| place.address.to_string() == most.address;
        self.places.iter().position(address)
    }

    /// Starts clients that append lines to logs through these places, until they are told to stop.
    pub fn clients(&mut self, through: &[usize], count: usize, lines: Lines) -> Clients {
        let (machine, desks) = (&self.machine, &self.desks);
        Clients::start(machine, desks, through, (count, lines), &mut self.dice)
    }
}

fn not_whole(status: Option<&StatusView>, nodes: usize) -> Option<String> {
    let Some(status) = status else {
        return Some("says nothing".to_owned());
    };
    let alive = status.members.iter().filter(|m| m.state == "alive");
    let members = status.members.iter().filter(|m| m.state != "left");
    let (alive, members) = (alive.count(), members.count());
    let copies = u32::try_from(nodes).unwrap_or(u32::MAX).min(status.factor);
    let whole = alive == nodes
        && members == nodes
        && status.partitions > 0
        && status.partitions_led == status.partitions
        && status.copies_min == copies
        && status.moves == 0;
    (!whole).then(|| {
        format!(
            "{alive} of {members} members alive, {} of {} partitions led, {} copies, {} moves: {:?}",
            status.partitions_led, status.partitions, status.copies_min, status.moves, status.reasons
        )
    })
}

/// Shared by whoever needs one.
pub(crate) type Shared<T> = Arc<Mutex<T>>;

impl World {
    pub(crate) fn desks(&self) -> Desks {
        self.desks.clone()
    }
}
