//! The leak oracle: what a machine looked like before a test, and what is there
//! in addition after it.
//!
//! The suite runs one test at a time, below itself as a subreaper and in a
//! mount namespace of its own, so the comparison is exact for processes, mounts,
//! network links and state. Cgroups are compared as a whole in a private cgroup
//! namespace (see `settings/`), and otherwise only as far as they carry the
//! name of this run, as others may use the machine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{look, reaper};

/// The inode of the cgroup namespace that a machine boots with.
const INITIAL_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;

/// What there is now.
#[derive(Debug, Clone)]
pub struct Snapshot {
    things: BTreeSet<String>,
}

/// Where to look.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The directory below which the run makes everything of its own.
    pub base: PathBuf,
    /// The word that begins the ids of the run's containers.
    pub tag: String,
}

impl Scope {
    /// Takes stock; reaps what has ended.
    pub fn snapshot(&self) -> Snapshot {
        reaper::collect();
        let mut things = BTreeSet::new();
        let me = std::process::id() as i32;
        things.extend(look::descendants(me).into_iter().filter(|pid| look::stat(*pid).is_some()).map(describe_process));
        things.extend(lines("/proc/self/mountinfo", |_| true).map(|line| format!("mount {line}")));
        let base = self.base.to_string_lossy().into_owned();
        let ours = |line: &str| line.contains(&base) || line.contains(&self.tag);
        things.extend(lines("/proc/1/mountinfo", ours).map(|line| format!("mount on the host {line}")));
        let dirs = look::cgroup_dirs().into_iter().filter(|dir| self.is_cgroup_of_interest(dir));
        things.extend(dirs.map(|dir| format!("cgroup {}", dir.display())));
        let names = |line: &str| line.contains(':');
        things.extend(
            lines("/proc/self/net/dev", names)
                .map(|line| format!("network link {}", line.split(':').next().unwrap_or_default().trim())),
        );
        things.extend(
            look::fds(me)
                .into_iter()
                .filter(|(_, what)| !is_own_listing(what))
                .map(|(fd, what)| format!("descriptor {fd} -> {what}")),
        );
        for file in ["hostname", "domainname"] {
            things.extend(lines(&format!("/proc/sys/kernel/{file}"), |_| true).map(|name| format!("{file} {name}")));
        }
        // With version 2 alone every runtime has to; beside version 1 it takes them from the machine.
        if look::cgroups() == look::Cgroups::Hybrid {
            let handed_down = lines("/sys/fs/cgroup/unified/cgroup.subtree_control", |_| true);
            things.extend(handed_down.map(|on| format!("controllers on {on}")));
        }
        // The kernel keeps the nodes of loop devices for whoever wants one next, and udev lists them.
        let of_loops = ["/dev/loop", "/dev/block", "/dev/disk"];
        let kept = |path: &PathBuf| !of_loops.iter().any(|start| path.to_string_lossy().starts_with(start));
        things.extend(entries(Path::new("/dev")).filter(kept).map(|path| format!("file {}", path.display())));
        // Others may use the runtimes' usual places at the same time.
        for dir in ["/run", "/run/runc", "/run/crun", "/run/proa"] {
            let ours = entries(Path::new(dir)).filter(|path| path.to_string_lossy().contains(&self.tag));
            things.extend(ours.map(|path| format!("file {}", path.display())));
        }
        Snapshot { things }
    }

    fn is_cgroup_of_interest(&self, dir: &Path) -> bool {
        let private = fs::metadata("/proc/self/ns/cgroup").is_ok_and(|meta| meta.ino() != INITIAL_CGROUP_NAMESPACE);
        private || dir.to_string_lossy().contains(&self.tag)
    }

    /// What is there beyond `before` and does not go away within a second.
    ///
    /// A killed process takes a moment to end, and its cgroup to become empty.
    pub fn leaks(&self, before: &Snapshot, state: &Path) -> Vec<String> {
        let mut extra = Vec::new();
        look::eventually_within(Duration::from_secs(1), || {
            let now = self.snapshot();
            extra = now.things.difference(&before.things).cloned().collect();
            extra.extend(
                before
                    .things
                    .difference(&now.things)
                    .filter(|thing| is_lasting(thing))
                    .map(|thing| format!("gone: {thing}")),
            );
            extra.extend(state_entries(state).map(|path| format!("state {}", path.display())));
            extra.is_empty()
        });
        extra
    }
}

/// What is in a runtime's state directory, without what crun keeps there for
/// all containers in hidden names.
fn state_entries(state: &Path) -> impl Iterator<Item = PathBuf> {
    entries(state).filter(|path| !path.ends_with(".empty-directory") && !path.ends_with(".cache"))
}

/// Things of the machine that a test may not take away either.
fn is_lasting(thing: &str) -> bool {
    ["mount ", "cgroup ", "network link ", "hostname ", "domainname ", "file /dev"]
        .iter()
        .any(|kind| thing.starts_with(kind))
}

fn is_own_listing(target: &str) -> bool {
    target.starts_with("/proc/") && target.ends_with("/fd")
}

fn describe_process(pid: i32) -> String {
    let state =
        look::stat(pid).map(|stat| format!("{} ({}) parent {}", stat.state, stat.comm, stat.ppid)).unwrap_or_default();
    format!("process {pid} {state}")
}

fn lines(path: &str, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| wanted(line)).map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// Puts things back after a test: ends the processes it left, unmounts what is
/// mounted below `dir`, removes its cgroups. Says what could not be.
pub fn sweep(dir: &Path, tag: &str) -> Vec<String> {
    let me = std::process::id() as i32;
    reaper::release_all();
    for dir in look::cgroup_dirs().iter().filter(|dir| dir.to_string_lossy().contains(tag)) {
        // A frozen process does not end; only one of the two files is there.
        fs::write(dir.join("cgroup.freeze"), "0").ok();
        fs::write(dir.join("freezer.state"), "THAWED").ok();
    }
    for pid in look::descendants(me) {
        // It may have ended since; what matters is checked below.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
    }
    let mut left = Vec::new();
    if !look::eventually_within(Duration::from_secs(5), || {
        reaper::collect();
        look::descendants(me).is_empty()
    }) {
        left.push("processes do not end".to_owned());
    }
    for mount in look::mounts(me).into_iter().rev().filter(|mount| mount.mount_point.starts_with(dir)) {
        if let Err(error) = nix::mount::umount2(&mount.mount_point, nix::mount::MntFlags::MNT_DETACH) {
            left.push(format!("cannot unmount {}: {error}", mount.mount_point.display()));
        }
    }
    for dir in look::cgroup_dirs().into_iter().rev().filter(|dir| dir.to_string_lossy().contains(tag)) {
        if !look::eventually_within(Duration::from_secs(1), || fs::remove_dir(&dir).is_ok() || !dir.exists()) {
            left.push(format!("cannot remove {}", dir.display()));
        }
    }
    left
}
