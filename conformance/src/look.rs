//! Looking at the machine and at processes from outside: /proc, cgroups, time.
//!
//! Not here: anything that changes what it looks at.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procfs::process::{MountInfo, MountOptFields, Process, Stat, Status};

/// How many times longer things may take here: an emulated machine of settings/vm is that much slower.
pub fn slowness() -> u32 {
    if Path::new("/run/machine/command").exists() { 10 } else { 1 }
}

/// Whether systemd runs this machine.
pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

/// Asks again and again until `condition` holds; false when it did not within `limit`, times `slowness`.
pub fn eventually_within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit * slowness();
    loop {
        if condition() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until `condition` holds, ten seconds at most (times `slowness`), or fails the test.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(eventually_within(Duration::from_secs(10), condition), "waited in vain for: {what}");
}

/// Waits for the process of a pidfd to end; false when it did not within `limit`.
pub fn exits_within(pidfd: &OwnedFd, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            Err(error) => panic!("cannot poll a pidfd: {error}"),
            Ok(0) if left.is_zero() => return false,
            Ok(0) => {}
            Ok(_) => return true,
        }
    }
}

fn process(pid: i32) -> Process {
    Process::new(pid).unwrap_or_else(|error| panic!("cannot look at process {pid}: {error}"))
}

/// /proc/PID/status.
pub fn status(pid: i32) -> Status {
    process(pid).status().unwrap_or_else(|error| panic!("no status of process {pid}: {error}"))
}

/// /proc/PID/stat, or nothing if there is no such process.
pub fn stat(pid: i32) -> Option<Stat> {
    Process::new(pid).and_then(|process| process.stat()).ok()
}

/// Whether this is a thread of the kernel's, and no process (PF_KTHREAD of the kernel's sched.h).
pub fn is_of_the_kernel(stat: &Stat) -> bool {
    stat.flags & 0x0020_0000 != 0
}

/// Whether a process runs: a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|stat| stat.state != 'Z' && stat.state != 'X')
}

/// One value of a `NAME: VALUE` file such as /proc/PID/status.
pub fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
}

/// The program of a process: the arguments it was started with.
pub fn cmdline(pid: i32) -> Vec<String> {
    process(pid).cmdline().unwrap_or_default()
}

/// A file below /proc/PID as text.
pub fn proc_text(pid: i32, name: &str) -> String {
    let path = format!("/proc/{pid}/{name}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"))
}

/// A path of the container of process `pid`, as the host reaches it.
pub fn root_of(pid: i32, path: &str) -> PathBuf {
    Path::new(&format!("/proc/{pid}/root")).join(path.trim_start_matches('/'))
}

/// The namespace of this kind (`net`, `mnt`) that `pid` is in: a number that two
/// processes share if they share the namespace.
pub fn namespace(pid: i32, kind: &str) -> u64 {
    let path = format!("/proc/{pid}/ns/{kind}");
    fs::metadata(&path).unwrap_or_else(|error| panic!("cannot look at {path}: {error}")).ino()
}

/// The mount table of a process.
pub fn mounts(pid: i32) -> Vec<MountInfo> {
    let table = process(pid).mountinfo().unwrap_or_else(|error| panic!("no mountinfo of {pid}: {error}"));
    table.into_iter().collect()
}

/// The uppermost mount at `point` in the mount table of `pid`.
#[track_caller]
pub fn mount(pid: i32, point: &str) -> MountInfo {
    let found = mounts(pid).into_iter().rfind(|mount| mount.mount_point == Path::new(point));
    found.unwrap_or_else(|| panic!("nothing is mounted at {point}: {}", proc_text(pid, "mountinfo")))
}

/// Whether anything is mounted at `point` in the mount table of `pid`.
pub fn is_mounted(pid: i32, point: &str) -> bool {
    mounts(pid).iter().any(|mount| mount.mount_point == Path::new(point))
}

/// A mount's propagation: `shared`, `slave`, `shared,slave`, `unbindable` or `private`.
pub fn propagation(mount: &MountInfo) -> String {
    let mut words: Vec<&str> = mount
        .opt_fields
        .iter()
        .filter_map(|field| match field {
            MountOptFields::Shared(_) => Some("shared"),
            MountOptFields::Master(_) => Some("slave"),
            MountOptFields::PropagateFrom(_) => None,
            MountOptFields::Unbindable => Some("unbindable"),
        })
        .collect();
    words.sort_unstable();
    if words.is_empty() { "private".into() } else { words.join(",") }
}

/// The open descriptors of a process: number to what it is open on.
pub fn fds(pid: i32) -> BTreeMap<i32, String> {
    let dir = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("cannot list {dir}: {error}"));
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, target.to_string_lossy().into_owned()))
        })
        .collect()
}

/// Every process below `ancestor`, with its parent, zombies too.
pub fn descendants(ancestor: i32) -> Vec<i32> {
    let Ok(all) = procfs::process::all_processes() else { return Vec::new() };
    let parents: BTreeMap<i32, i32> =
        all.filter_map(|process| process.ok()?.stat().ok()).map(|stat| (stat.pid, stat.ppid)).collect();
    let is_below = |mut pid: i32| {
        while let Some(parent) = parents.get(&pid) {
            if *parent == ancestor {
                return true;
            }
            pid = *parent;
        }
        false
    };
    parents.keys().copied().filter(|pid| is_below(*pid)).collect()
}

/// How the machine's cgroups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// Version 2 alone, at /sys/fs/cgroup.
    Unified,
    /// Version 1 hierarchies, perhaps with a version 2 beside them.
    Hybrid,
}

/// How the machine's cgroups are mounted.
pub fn cgroups() -> Cgroups {
    match nix::sys::statfs::statfs("/sys/fs/cgroup") {
        Ok(stat) if stat.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC => Cgroups::Unified,
        _ => Cgroups::Hybrid,
    }
}

/// The path of a process in each cgroup hierarchy: controllers (empty for version 2) to path.
pub fn cgroup_paths(pid: i32) -> BTreeMap<String, String> {
    proc_text(pid, "cgroup")
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
        })
        .collect()
}

/// Every directory of every cgroup hierarchy.
pub fn cgroup_dirs() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(dir) = left.pop() {
        // A cgroup that goes away while it is listed is no error.
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        let dirs = entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        left.extend(dirs.map(|entry| entry.path()));
        found.push(dir);
    }
    found.sort();
    found
}

/// The files of one controller in the cgroup of a process.
#[derive(Debug, Clone)]
pub struct Controller {
    /// Whether it is in version 2.
    pub unified: bool,
    /// The cgroup's directory.
    pub dir: PathBuf,
}

impl Controller {
    /// What a file holds, without white space at its ends; nothing if there is no such file.
    pub fn get(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.dir.join(file)).ok().map(|text| text.trim().to_owned())
    }

    /// What a file holds, which must be there.
    #[track_caller]
    pub fn read(&self, file: &str) -> String {
        self.get(file).unwrap_or_else(|| panic!("there is no {}", self.dir.join(file).display()))
    }

    /// A number of a file with lines such as `oom_kill 3`.
    pub fn count(&self, file: &str, name: &str) -> u64 {
        let text = self.read(file);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {file}: {text}"))
    }
}

/// Where the controller that version 1 calls `name` has the files of process `pid`: in version 1, else in version 2.
/// Nothing if the machine has it nowhere, or only in a version 2 beside others that does not hand it down.
pub fn controller(pid: i32, name: &str) -> Option<Controller> {
    let paths = cgroup_paths(pid);
    let below = |mount: &str, path: &str| Path::new(mount).join(path.trim_start_matches('/'));
    // A machine may have mounted version 2 alone, and hierarchies of version 1 nowhere.
    let v1 = paths.iter().find(|(key, _)| key.split(',').any(|one| one == name));
    if let Some((key, path)) = v1.filter(|_| cgroups() == Cgroups::Hybrid) {
        return Some(Controller { unified: false, dir: below(&format!("/sys/fs/cgroup/{key}"), path) });
    }
    let (mount, list) = match cgroups() {
        Cgroups::Unified => ("/sys/fs/cgroup", "cgroup.controllers"),
        Cgroups::Hybrid => ("/sys/fs/cgroup/unified", "cgroup.subtree_control"),
    };
    let name = if name == "blkio" { "io" } else { name };
    let offered = fs::read_to_string(Path::new(mount).join(list)).unwrap_or_default();
    let there = offered.split_whitespace().any(|one| one == name);
    there.then(|| Controller { unified: true, dir: below(mount, paths.get("").map_or("", String::as_str)) })
}

/// Whether, and in which version, the machine has a controller.
pub fn own_controller(name: &str) -> Option<Controller> {
    controller(std::process::id() as i32, name)
}
