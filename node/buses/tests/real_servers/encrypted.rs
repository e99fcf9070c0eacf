//! The same servers over TLS: one whose certificate is signed by an authority that counts serves,
//! any other one does not.
//!
//! The machine's roots are what `SSL_CERT_FILE` names, so that this program runs itself again with
//! an authority of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use libtest_mimic::Trial;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::programs::{JETSTREAM, MQTT, RABBITMQ, REDIS};
use crate::server::{Program, Server};
use crate::suite::{Kind, Sharing};
use crate::{suite, trial};

/// Folder of the authority's certificate, in the second run.
const FOLDER: &str = "GHOSTLIGHT_TEST_AUTHORITY";
/// The authority that counts, and one that does not.
const AUTHORITIES: [&str; 2] = ["known", "unknown"];

/// Names of a server's files in its directory.
const CERTIFICATE: &str = "server.pem";
const KEY: &str = "server.key";

/// Runs this program again where the authorities are; `None`: this is that run.
pub(crate) fn again() -> Option<ExitCode> {
    if std::env::var_os(FOLDER).is_some() {
        return None;
    }
    let folder = tempfile::tempdir().expect("a directory");
    for name in AUTHORITIES {
        write_authority(folder.path(), name);
    }
    let program = std::env::current_exe().expect("the path of this program");
    let ended = Command::new(program)
        .args(std::env::args_os().skip(1))
        .env(FOLDER, folder.path())
        .env("SSL_CERT_FILE", folder.path().join("known.pem"))
        .status();
    match ended.expect("this program again").success() {
        true => Some(ExitCode::SUCCESS),
        false => Some(ExitCode::FAILURE),
    }
}

fn folder() -> PathBuf {
    PathBuf::from(std::env::var_os(FOLDER).expect("the second run has it"))
}

/// Writes an authority, and a server's certificate and key that it has signed.
fn write_authority(folder: &Path, name: &str) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("a certificate");
    let issuer = Issuer::new(params, key);
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let server = CertificateParams::new(names).expect("two names");
    let server_key = KeyPair::generate().expect("a key");
    let signed = server
        .signed_by(&server_key, &issuer)
        .expect("a certificate");
    for (end, text) in [
        ("pem", authority.pem()),
        (CERTIFICATE, signed.pem()),
        (KEY, server_key.serialize_pem()),
    ] {
        std::fs::write(folder.join(format!("{name}.{end}")), text).expect("a file");
    }
}

fn authority() -> String {
    folder().join("known.pem").display().to_string()
}

/// The servers as they are, but for their encryption.
const ENCRYPTED: [Program; 4] = [
    Program {
        command: |command, directory, port| {
            (REDIS.command)(command, directory, 0);
            command
                .arg("--tls-port")
                .arg(port.to_string())
                .arg("--tls-cert-file")
                .arg(directory.join(CERTIFICATE))
                .arg("--tls-key-file")
                .arg(directory.join(KEY))
                .arg("--tls-ca-cert-file")
                .arg(directory.join(CERTIFICATE))
                .args(["--tls-auth-clients", "no"]);
        },
        metadata: |port| {
            let mut metadata = (REDIS.metadata)(port);
            metadata.push(("enableTLS", "true".to_owned()));
            metadata
        },
        ..REDIS
    },
    Program {
        command: |command, directory, port| {
            (JETSTREAM.command)(command, directory, port);
            // What an operator makes here is made without.
            let more = format!(
                "tls {{ cert_file: {:?}, key_file: {:?} }}\nallow_non_tls: true\n",
                directory.join(CERTIFICATE),
                directory.join(KEY)
            );
            append(&directory.join("nats.conf"), &more);
        },
        metadata: |port| {
            let mut metadata = (JETSTREAM.metadata)(port);
            metadata.retain(|(name, _)| *name != "natsURL");
            metadata.push(("natsURL", format!("tls://127.0.0.1:{port}")));
            metadata
        },
        ..JETSTREAM
    },
    Program {
        command: |command, directory, port| {
            (MQTT.command)(command, directory, port);
            let more = format!(
                "certfile {}\nkeyfile {}\n",
                directory.join(CERTIFICATE).display(),
                directory.join(KEY).display()
            );
            append(&directory.join("mosquitto.conf"), &more);
        },
        metadata: |port| {
            vec![
                ("url", format!("mqtts://127.0.0.1:{port}")),
                ("caCert", authority()),
            ]
        },
        ..MQTT
    },
    Program {
        command: |command, directory, port| {
            (RABBITMQ.command)(command, directory, port);
            let config = format!(
                "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\nssl_options.certfile = {}\n\
                 ssl_options.keyfile = {}\nssl_options.verify = verify_none\n",
                directory.join(CERTIFICATE).display(),
                directory.join(KEY).display()
            );
            let file = directory.join("encrypted.conf");
            append(&file, &config);
            command
                .env("RABBITMQ_CONFIG_FILE", file)
                .env_remove("RABBITMQ_NODE_IP_ADDRESS")
                .env_remove("RABBITMQ_NODE_PORT");
        },
        metadata: |port| {
            let mut metadata = (RABBITMQ.metadata)(port);
            metadata.retain(|(name, _)| *name != "connectionString");
            metadata.push(("connectionString", format!("amqps://127.0.0.1:{port}")));
            metadata.push(("caCert", authority()));
            metadata
        },
        ..RABBITMQ
    },
];

fn append(file: &Path, more: &str) {
    let mut text = std::fs::read_to_string(file).unwrap_or_default();
    text.push_str(more);
    std::fs::write(file, text).expect("a configuration");
}

fn server(program: Program, authority: &str) -> Server {
    let server = Server::new(program);
    for name in [CERTIFICATE, KEY] {
        let file = folder().join(format!("{authority}.{name}"));
        server.give(name, &std::fs::read_to_string(file).expect("a file"));
    }
    server
}

pub(crate) fn trials() -> Vec<Trial> {
    let trials = ENCRYPTED.iter().flat_map(|program| {
        let program = *program;
        let kind = Kind::of(&program, None, Sharing::SideBySide);
        let serves = trial(kind.name, "over TLS", move || async move {
            suite::delivers(kind, &mut server(program, "known")).await;
        });
        let refuses = trial(
            kind.name,
            "over TLS of nobody we know",
            move || async move {
                suite::is_refused(kind, &mut server(program, "unknown")).await;
            },
        );
        [serves, refuses].map(|trial| program.judged(trial))
    });
    trials.collect()
}
