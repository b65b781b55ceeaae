//! The leak oracle: what there is in the small machine of `settings/engines` before a test, and what is there in
//! addition after it. Nobody else uses that machine, so all of it is compared, but for what systemd has for itself.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use conformance::look;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::Stat;

use super::daemon::world;
use super::events;

/// What there is now.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot(BTreeSet<String>);

/// Takes stock.
pub(crate) fn snapshot() -> Snapshot {
    let mut things = BTreeSet::new();
    things.extend(processes().into_iter().map(|(pid, what)| format!("process {pid} {what}")));
    things.extend(mount_points().into_iter().map(|point| format!("mount {point}")));
    things.extend(look::cgroup_dirs().into_iter().map(|dir| format!("cgroup {}", dir.display())));
    list(Path::new("/run"), &mut things);
    list(&world().base().join("state"), &mut things);
    Snapshot(things)
}

impl Snapshot {
    /// What is there beyond this one and does not go away within `limit`: a shim has some seconds to end.
    pub(crate) fn leaks(&self, limit: Duration) -> Vec<String> {
        let mut extra = Vec::new();
        look::eventually_within(limit, || {
            extra = snapshot().0.difference(&self.0).filter(|thing| !is_common(thing)).cloned().collect();
            extra.is_empty()
        });
        extra
    }

    /// Puts things back after a test that failed.
    pub(crate) fn sweep(&self) {
        let of = |kind: &str| -> Vec<String> {
            let now = snapshot();
            let extra = now.0.difference(&self.0).filter(|thing| !is_common(thing));
            let extra = extra.filter_map(|thing| thing.strip_prefix(kind).map(str::to_owned));
            extra.collect()
        };
        for dir in of("cgroup ") {
            // A frozen process does not end.
            fs::write(Path::new(&dir).join("freezer.state"), "THAWED").ok();
        }
        look::eventually_within(Duration::from_secs(5), || {
            let left = of("process ");
            for thing in &left {
                if let Some(pid) = thing.split(' ').next().and_then(|pid| pid.parse().ok()) {
                    kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
                }
            }
            left.is_empty()
        });
        for point in of("mount ").into_iter().rev() {
            umount2(point.as_str(), MntFlags::MNT_DETACH).ok();
        }
        for dir in of("cgroup ").into_iter().rev() {
            fs::remove_dir(dir).ok();
        }
        for file in of("file ").into_iter().rev() {
            fs::remove_file(&file).or_else(|_| fs::remove_dir_all(&file)).ok();
        }
    }
}

/// Directories that belong to all containers together.
fn is_common(thing: &str) -> bool {
    let common = [
        "/run/containerd",
        "/run/containerd/s",
        "/run/containerd/fifo",
        "/run/containerd/runc",
        "/run/runc",
        // What CRIU has found out about the kernel.
        "/run/criu.kdat",
    ];
    // The parent of the cgroups of a namespace's containers is nobody's to remove.
    if thing.starts_with("cgroup ") && thing.ends_with("/suite") {
        return true;
    }
    // As are the slices of systemd.
    if thing.starts_with("cgroup ") && thing.ends_with(".slice") {
        return true;
    }
    let Some(path) = thing.strip_prefix("file ") else { return false };
    common.contains(&path)
        || path.ends_with("/suite")
        || ["/run/proa", "/run/containerd/proa"].contains(&path)
        // crun's, for all its containers.
        || path.ends_with("/.cache")
}

/// Every process but this one, containerd and the listener: its pid, and what it is. Zombies are no leak of the
/// machine's when their parent is this test. Neither are the kernel's threads and systemd's helpers, which come and go.
fn processes() -> Vec<(i32, String)> {
    let mine = [std::process::id() as i32, world().pid(), events::pid()];
    let all = procfs::process::all_processes().into_iter().flatten().filter_map(Result::ok);
    let stats = all.filter_map(|process| Some((process.stat().ok()?, process.cmdline().unwrap_or_default())));
    let theirs = stats.filter(|(stat, _)| !mine.contains(&stat.pid) && stat.ppid != mine[0] && stat.ppid != 0);
    let of_the_machine = |stat: &Stat| look::is_of_the_kernel(stat) || stat.comm.contains("systemd");
    let theirs = theirs.filter(|(stat, _)| !of_the_machine(stat) && stat.comm != "(udev-worker)");
    theirs.map(|(stat, words)| (stat.pid, format!("{} {}", stat.state == 'Z', words.join(" ")))).collect()
}

fn mount_points() -> Vec<String> {
    look::mounts(std::process::id() as i32).into_iter().map(|mount| mount.mount_point.display().to_string()).collect()
}

/// Every name below `dir`, not into mounts.
fn list(dir: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok) {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if ["/run/systemd", "/run/udev"].iter().any(|dir| path == Path::new(dir)) {
            continue;
        }
        into.insert(format!("file {}", path.display()));
        if kind.is_dir() && path.file_name().is_some_and(|name| name != "rootfs") {
            list(&path, into);
        }
    }
}

/// The shims of a container or of a pod: the processes whose words have `-id ID`.
pub(crate) fn shims_of(id: &str) -> Vec<i32> {
    let is_shim = |words: &[String]| {
        words.first().is_some_and(|name| name.contains("containerd-shim"))
            && words.windows(2).any(|pair| pair[0] == "-id" && pair[1] == id)
    };
    let all = procfs::process::all_processes().into_iter().flatten().filter_map(Result::ok);
    all.filter(|process| process.cmdline().is_ok_and(|words| is_shim(&words)))
        .map(|process| process.pid())
        .filter(|pid| look::is_alive(*pid))
        .collect()
}

/// The sockets of all shims.
pub(crate) fn sockets() -> Vec<String> {
    let entries = fs::read_dir("/run/containerd/s").into_iter().flatten().filter_map(Result::ok);
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()))
        .map(|entry| entry.path().display().to_string())
        .collect()
}
