//! Redis, with an append-only file that is synced before each acknowledgement.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::server::Program;
use crate::suite::{self, Kind};

fn command(command: &mut Command, directory: &Path, port: u16) {
    command
        .arg("--port")
        .arg(port.to_string())
        .arg("--dir")
        .arg(directory);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "always"]);
}

fn metadata(port: u16) -> Vec<(&'static str, String)> {
    vec![
        ("redisHost", format!("127.0.0.1:{port}")),
        ("processingTimeout", "600ms".to_owned()),
        ("redeliverInterval", "200ms".to_owned()),
    ]
}

const KIND: Kind = Kind {
    kind: "pubsub.redis",
    program: Program {
        name: "redis-server",
        install: "Debian: redis-server",
        command,
    },
    metadata,
    lease: Some(Duration::from_millis(600)),
    prepare: |_| Box::pin(async {}),
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_serves() {
    suite::serves(KIND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_comes_and_goes() {
    suite::comes_and_goes(KIND).await;
}
