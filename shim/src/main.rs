//! `containerd-shim-proa-v2`: the process that stays with a container, or with a pod's containers. It reaps, relays the
//! standard streams, runs the OCI runtime by its command line, and tells containerd what happens.
//!
//! ```text
//! containerd ── start ──▶ start ─▶ server: tasks ──▶ shim ──▶ container ──▶ runtime   (proa create, start, ...)
//!     ▲  ╲── ttrpc ─────────────────▲                            ├─▶ process, stdio   (pipes, terminals, FIFOs)
//!     │                                                          ├─▶ reaper           (who has ended)
//!     └──────────────────────────── events ◀─────────────────────┴─▶ usage, metrics   (cgroups, read only)
//! containerd ── delete ──▶ delete            when this process has died
//! ```
//!
//! Source: containerd's core/runtime/v2/README.md.

mod args;
mod bootstrap;
mod bundle;
mod container;
mod create;
mod delete;
mod error;
mod events;
mod exec;
mod idmap;
mod info;
mod logging;
mod metrics;
mod metrics_v1;
mod metrics_v2;
mod mounts;
mod options;
mod process;
mod reaper;
mod restore;
mod runtime;
mod sandbox;
mod server;
mod shim;
mod socket;
mod start;
mod stdio;
mod sys;
mod tasks;
mod usage;

use std::process::ExitCode;

use args::Action;

fn main() -> ExitCode {
    match act() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("containerd-shim-proa-v2: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act() -> Result<(), String> {
    let args = args::parse(std::env::args().skip(1))?;
    let bundle = match &args.bundle {
        Some(bundle) => bundle.clone(),
        None => std::env::current_dir().map_err(|error| format!("working directory: {error}"))?,
    };
    match args.action {
        Action::Version => {
            let (version, revision) = (env!("CARGO_PKG_VERSION"), option_env!("PROA_COMMIT").unwrap_or_default());
            println!("containerd-shim-proa-v2:\n  Version:  {version}\n  Revision: {revision}");
            Ok(())
        }
        Action::Info => info::info(),
        Action::Start => start::start(&args, &bundle),
        Action::Delete => delete::delete(&args, &bundle),
        Action::Pause => sandbox::pause::pause(),
        Action::Serve => server::serve(&args),
    }
}
