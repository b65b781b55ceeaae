//! `delete`: what containerd calls when a shim has died. It can be called again, from wherever it got to.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use containerd_shim_protos::api::DeleteResponse;
use nix::mount::{MntFlags, umount2};
use protobuf::Message;

use crate::args::Args;
use crate::events::timestamp;
use crate::options::{DEFAULT_ROOT, Options};
use crate::runtime::{call_alone, program};
use crate::socket;
use crate::start::ADDRESS_FILE;

/// As if it had been killed, which it is now.
const KILLED: u32 = 128 + 9;

/// Ends what runs, removes what there is, and tells containerd how it ended.
///
/// # Errors
/// One line: the container could not be deleted.
pub(crate) fn delete(args: &Args, bundle: &Path) -> Result<(), String> {
    if args.id.is_empty() || args.namespace.is_empty() {
        return Err("delete wants -namespace and -id".into());
    }
    let options = Options::load(bundle);
    // As it was chosen when the container was created.
    let kept = fs::read_to_string(bundle.join("runtime")).unwrap_or_default();
    let program = program(if kept.is_empty() { &options.binary_name } else { &kept });
    let root = Path::new(if options.root.is_empty() { DEFAULT_ROOT } else { &options.root }).join(&args.namespace);
    let pid = fs::read_to_string(bundle.join("init.pid")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);

    let mut command = Command::new(&program);
    command.arg("--root").arg(root).args(options.systemd_cgroup.then_some("--systemd-cgroup"));
    command.args(["delete", "--force", &args.id]);
    call_alone(command, &format!("delete --force {}", args.id)).map_err(|error| error.to_string())?;
    // A sandbox's shm; and a root, if it was containerd's own shim that has died: this one mounts none on the host.
    for mounted in ["shm", "rootfs"] {
        while umount2(&bundle.join(mounted), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).is_ok() {}
    }
    remove_socket(bundle);

    let response =
        DeleteResponse { pid, exit_status: KILLED, exited_at: timestamp(SystemTime::now()), ..Default::default() };
    let bytes = response.write_to_bytes().map_err(|error| format!("answer: {error}"))?;
    std::io::stdout().write_all(&bytes).map_err(|error| format!("answer: {error}"))
}

/// Removes the dead shim's socket, unless a shim answers there.
fn remove_socket(bundle: &Path) {
    let address = fs::read_to_string(bundle.join(ADDRESS_FILE)).unwrap_or_default();
    if let Some(path) = address.strip_prefix("unix://").map(Path::new)
        && !socket::answers(path)
    {
        socket::remove(path).ok();
    }
}
