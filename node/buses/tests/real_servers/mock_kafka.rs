//! librdkafka's mock cluster in the place of Kafka's servers: groups, offsets and idempotent
//! producers over real sockets.

use libtest_mimic::Trial;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::server::Serves;
use crate::suite::{Count, Joining, Kind, Sharing};
use crate::{suite, trial};

const KAFKA: Kind = Kind {
    name: "pubsub.kafka",
    metadata: |port| {
        vec![
            ("brokers", format!("127.0.0.1:{port}")),
            ("initialOffset", "oldest".to_owned()),
            // The mock cluster waits for a busy member a second less than this when it shares
            // partitions out anew; Kafka waits for five minutes.
            ("sessionTimeout", "10s".to_owned()),
            ("heartbeatInterval", "300ms".to_owned()),
        ]
    },
    prepare: |_| {},
    lease: None,
    sharing: Sharing::SideBySide,
    count: Count::Process,
    joining: Joining::RepeatsTheLast,
};
/// The cluster's only broker.
const BROKER: i32 = 1;

/// A cluster whose broker can go away and keeps what it has.
struct Mock {
    cluster: MockCluster<'static, DefaultProducerContext>,
    port: u16,
}

impl Mock {
    /// One that nobody can reach yet.
    fn new() -> Self {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        let servers = cluster.bootstrap_servers();
        let (_, port) = servers.rsplit_once(':').expect("an address");
        let port = port.parse().expect("a port");
        let mut mock = Self { cluster, port };
        mock.end();
        mock
    }
}

impl Serves for Mock {
    fn port(&self) -> u16 {
        self.port
    }

    fn start(&mut self) {
        self.cluster
            .broker_up(BROKER)
            .expect("a broker that starts");
    }

    fn end(&mut self) {
        self.cluster
            .broker_down(BROKER)
            .expect("a broker that ends");
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let serves = trial(KAFKA.name, "serves", || async {
        suite::serves(KAFKA, &mut Mock::new()).await;
    });
    let comes_and_goes = trial(KAFKA.name, "comes and goes", || async {
        suite::comes_and_goes(KAFKA, &mut Mock::new()).await;
    });
    vec![serves, comes_and_goes]
}
