//! `containerd-shim-proa-v2`: the process that will stay with a container and speak to containerd. It does not exist
//! yet; until it does, this program says so and fails, so that nobody takes it for one.

use std::process::ExitCode;

fn main() -> ExitCode {
    eprintln!("containerd-shim-proa-v2: the shim is not written yet; run containers with proa itself");
    ExitCode::FAILURE
}
