//! The core's thread: runs the loop (`ghostlight_shell::core_loop`) to the node's end, and ends
//! what is around it.

use std::sync::Arc;

use ghostlight_core::io::HaltReason;
use ghostlight_core::node::NodeCore;
use ghostlight_core::turn_io::RunnerInput;
use ghostlight_protocol::code::Code;
use ghostlight_protocol::time::{Instant, WallTime};
use ghostlight_shell::admission::Doorkeeper;
use ghostlight_shell::core_loop::{CoreLoop, Parts};
use ghostlight_shell::guests::Clocks;
use ghostlight_shell::ports::StorePorts;
use ghostlight_shell::store_threads::StoreThreads;
use tokio::sync::mpsc;

use super::apps::AppPort;
use super::guests::NodeGuests;
use crate::actors::Executor;
use crate::clock::Clock;
use crate::ephemeral::Hub;
use crate::handle::{Door, Request};
use crate::transport::{EventQueues, TokioRuntime, Transport};

/// Everything the core's thread owns.
pub(crate) struct CoreThread {
    pub(crate) core: NodeCore,
    pub(crate) clock: Clock,
    pub(crate) ports: StorePorts,
    pub(crate) store: StoreThreads,
    pub(crate) transport: Transport,
    pub(crate) events: EventQueues,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) runner: mpsc::Receiver<RunnerInput>,
    pub(crate) executor: Executor,
    pub(crate) apps: AppPort,
    pub(crate) doorkeeper: Arc<Doorkeeper>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) door: Arc<Door>,
}

impl Clocks for Clock {
    fn now(&self) -> Instant {
        Self::now(self)
    }

    fn wall(&self) -> WallTime {
        Self::wall(self)
    }

    fn to_std(&self, at: Instant) -> std::time::Instant {
        Self::to_std(self, at)
    }
}

impl CoreThread {
    /// Runs the node to its end.
    pub(crate) fn run(self) -> HaltReason {
        let runtime = match tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
        {
            Ok(runtime) => runtime,
            Err(error) => {
                let detail = format!("cannot start the core's thread: {error}");
                return HaltReason::Refused {
                    code: Code::Internal,
                    detail,
                };
            }
        };
        let (store, hub) = (self.store, Arc::clone(&self.hub));
        let guests = NodeGuests::new(
            self.requests,
            self.runner,
            self.executor,
            self.apps,
            self.hub,
            self.door,
        );
        let mut running = CoreLoop::new(Parts {
            core: self.core,
            clocks: self.clock,
            runtime: Arc::new(TokioRuntime),
            store: self.ports,
            transport: self.transport,
            events: self.events,
            guests,
            doorkeeper: self.doorkeeper,
        });
        let reason = runtime.block_on(running.until_halt());
        let Parts {
            store: ports,
            transport,
            guests,
            ..
        } = running.into_parts();
        hub.end();
        drop(guests);
        drop(transport);
        store.end(ports);
        reason
    }
}
