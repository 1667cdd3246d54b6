//! The `reenact` command: parse, dispatch, and turn the outcome into an exit status.

use std::process::ExitCode;

fn main() -> ExitCode {
    reenact::cli::main(std::env::args_os().collect())
}
