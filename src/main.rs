//! The `hooktide` command. Takes arguments and environment from the process, and returns the exit code.

use std::process::ExitCode;

/// mimalloc returns memory to the system sooner than the system's own allocator, and is faster with several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    hooktide::cli::run(std::env::args_os(), std::env::vars_os())
}
