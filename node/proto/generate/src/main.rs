//! Writes `node/src/api/grpc/generated` from `node/proto`, without protoc: protox parses, tonic's
//! builder writes.
//!
//! `cargo run --manifest-path node/proto/generate/Cargo.toml`, after a change of a proto file. A
//! test of the node compares the digests in `SOURCES`.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use prost::Message;

const PROTOS: [&str; 6] = [
    "dapr/proto/common/v1/common.proto",
    "dapr/proto/runtime/v1/actors.proto",
    "dapr/proto/runtime/v1/appcallback.proto",
    "dapr/proto/runtime/v1/dapr.proto",
    "dapr/proto/runtime/v1/metadata.proto",
    "dapr/proto/runtime/v1/pubsub.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let generated = protos.join("../src/api/grpc/generated");
    let descriptors = protox::compile(PROTOS, [&protos])?;
    fs::write(generated.join("dapr.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .out_dir(&generated)
        .compile_fds(descriptors)?;
    for package in ["common", "runtime"] {
        let from = generated.join(format!("dapr.proto.{package}.v1.rs"));
        fs::rename(from, generated.join(format!("{package}.v1.inc")))?;
    }
    let mut sources = String::new();
    for proto in PROTOS {
        writeln!(sources, "{proto} {:016x}", digest(&fs::read(protos.join(proto))?))?;
    }
    // Empty packages of Google's are not ours to keep.
    for entry in fs::read_dir(&generated)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            fs::remove_file(path)?;
        }
    }
    fs::write(generated.join("SOURCES"), sources)?;
    Ok(())
}

/// FNV-1a.
fn digest(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
