//! The `hooktide` command: arguments and environment in, exit code out.

use std::process::ExitCode;

/// Returns memory to the system sooner than the system's own allocator, and is faster under several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hooktide::cli::run(std::env::args_os(), std::env::vars_os())
}
