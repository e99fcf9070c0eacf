//! The binary `ghostlight`: everything is in the library's `cli` module.

fn main() -> std::process::ExitCode {
    ghostlight::cli::run()
}
