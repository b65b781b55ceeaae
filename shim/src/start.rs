//! `start`: finds the shim of the container's group, or starts one, and answers with its address. Nothing else may be
//! printed: containerd reads both outputs as one.

use std::fs;
use std::io::{PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{getppid, setpgid};

use crate::args::Args;
use crate::bootstrap::Params;
use crate::bundle::Config;
use crate::options::Options;
use crate::socket::{self, Socket};
use crate::sys;

/// Keeps the address in the bundle, for `delete`.
pub(crate) const ADDRESS_FILE: &str = "address";

/// Answers containerd.
///
/// # Errors
/// One line: the reason why there is no shim. One that was started ends by itself then.
pub(crate) fn start(args: &Args, bundle: &Path) -> Result<(), String> {
    if args.id.is_empty() || args.namespace.is_empty() {
        return Err("start wants -namespace and -id".into());
    }
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).map_err(|error| format!("standard input: {error}"))?;
    let params = Params::parse(&input, args, |name| std::env::var(name).ok())?;
    // A sandbox's bundle need not have one.
    let config = Config::read(bundle).unwrap_or_default();
    let group = config.group().unwrap_or(&args.id);

    let directory = match &params.socket_dir {
        // containerd looks for it in the bundle.
        Some(directory) => {
            fs::create_dir_all(directory).map_err(|error| format!("mkdir {directory}: {error}"))?;
            symlink(directory, bundle.join("s")).ok();
            Some(directory.as_str())
        }
        None => None,
    };
    let path = socket::path(directory, &params.grpc_address, &args.namespace, group)?;
    let told = match socket::listen(&path).map_err(|error| format!("socket {}: {error}", path.display()))? {
        Socket::Served => None,
        Socket::Listening(listener) => {
            let told = serve(args, bundle, &params, listener.into()).inspect_err(|_| {
                socket::remove(&path).ok();
            })?;
            Some(told)
        }
    };
    let address = socket::address(&path);
    fs::write(bundle.join(ADDRESS_FILE), &address).map_err(|error| format!("{ADDRESS_FILE}: {error}"))?;
    std::io::stdout().write_all(&params.answer(&address)).map_err(|error| format!("answer: {error}"))?;
    match told {
        Some(mut told) => told.write_all(b"\n").map_err(|error| format!("the shim has ended: {error}")),
        None => Ok(()),
    }
}

/// Starts the process that stays, with the socket as descriptor 3. It ends if its standard input does before containerd
/// has been told of it: this process may be killed at any moment, and nobody would know of the shim.
fn serve(args: &Args, bundle: &Path, params: &Params, listener: OwnedFd) -> Result<PipeWriter, String> {
    let (known, told) = std::io::pipe().map_err(|error| format!("pipe: {error}"))?;
    let options = Options::from_any(params.options.as_ref()).unwrap_or_default();
    let program = std::env::current_exe().map_err(|error| format!("own program: {error}"))?;
    let mut command = Command::new(program);
    command.args(["-namespace", &args.namespace, "-id", &args.id, "-address", &params.grpc_address]);
    if params.debug {
        command.arg("-debug");
    }
    command.current_dir(bundle).stdin(known).stdout(Stdio::null()).stderr(Stdio::null());
    command.env("TTRPC_ADDRESS", &params.ttrpc_address).env("GRPC_ADDRESS", &params.grpc_address);
    command.env("NAMESPACE", &args.namespace).env("CONTAINERD_VERSION", &params.version);
    let core_scheduling = std::env::var("SCHED_CORE").is_ok_and(|value| !value.is_empty());
    let descriptors = [listener];
    sys::before_exec(&mut command, move || {
        setpgid(None, None)?;
        if core_scheduling {
            sys::core_schedule()?;
        }
        sys::place(&descriptors)
    });
    let child = command.spawn().map_err(|error| format!("cannot start the shim: {error}"))?;
    let settled = settle(child.id(), &options);
    if let Err(error) = &settled {
        // It has done nothing so far.
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        return Err(error.clone());
    }
    Ok(told)
}

/// Puts the shim where its user wants it, and where the kernel finds it before containerd when memory is short.
fn settle(pid: u32, options: &Options) -> Result<(), String> {
    if !options.shim_cgroup.is_empty() {
        enter(pid, &options.shim_cgroup).map_err(|error| format!("ShimCgroup {:?}: {error}", options.shim_cgroup))?;
    }
    let parent = getppid().map_or(1, |pid| pid.as_raw_nonzero().get());
    let score = fs::read_to_string(format!("/proc/{parent}/oom_score_adj")).unwrap_or_default();
    let score = (score.trim().parse().unwrap_or(0) + 1).min(1000);
    fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
        .map_err(|error| format!("oom_score_adj {score}: {error}"))
}

/// Moves the shim to a cgroup, in every hierarchy.
fn enter(pid: u32, path: &str) -> Result<(), String> {
    let host = cgroup::Host::detect().map_err(|error| error.to_string())?;
    let place = host.place(Some(path), "shim").map_err(|error| error.to_string())?;
    let cgroup = place.create().map_err(|error| error.to_string())?;
    for (_, directory) in cgroup.place().paths() {
        let procs = directory.join("cgroup.procs");
        fs::write(&procs, pid.to_string()).map_err(|error| format!("write to {}: {error}", procs.display()))?;
    }
    Ok(())
}
