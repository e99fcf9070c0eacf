//! The binary `ghostlight`: everything is in the library's `cli` module.

/// A turn allocates many small objects on one thread and frees them on another, which the system's
/// allocator makes dear: with this one a durable turn on three nodes takes half the work.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    ghostlight::cli::run()
}
