//! The `reenact` command: parse, dispatch, and turn the outcome into an exit status.

use std::process::ExitCode;

/// Events are made on one thread and freed on another, which glibc's allocator is slow at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    reenact::cli::main(std::env::args_os().collect())
}
