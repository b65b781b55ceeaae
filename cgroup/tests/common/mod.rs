//! Cgroups and processes for tests, gone at the end of each however it ends. The tests need root; each uses what the
//! host has, cgroup v1, v2 or both, and says so where that has not what it is about.

// Each test program uses a part of it.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cgroup::{Cgroup, Host, Place};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A place of a test's own.
pub(crate) struct Scratch {
    pub(crate) host: Host,
    pub(crate) name: String,
    pub(crate) place: Place,
}

impl Scratch {
    /// Where a container of the default configuration would be.
    pub(crate) fn new() -> Scratch {
        Scratch::at(|_| None)
    }

    /// Where `cgroupsPath`, made from a name of the test's own, says.
    pub(crate) fn at(cgroups_path: impl Fn(&str) -> Option<String>) -> Scratch {
        let host = Host::detect().unwrap();
        let name = format!("proa-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let place = host.place(cgroups_path(&name).as_deref(), &name).unwrap();
        Scratch { host, name, place }
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.place.paths().map(|(_, path)| path).collect()
    }

    /// That nothing is left of it in any hierarchy.
    pub(crate) fn assert_gone(&self) {
        for path in self.paths() {
            assert!(!path.exists(), "{} is left", path.display());
        }
        assert!(self.place.open().unwrap().is_none());
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let cgroup = self.place.open();
        let result =
            cgroup.and_then(|cgroup| cgroup.map_or(Ok(()), |cgroup| cgroup.kill().and_then(|()| cgroup.remove())));
        // Above it, as far as that is of this test too.
        for path in self.paths() {
            let ours = |above: &&Path| above.iter().any(|name| name == self.name.as_str());
            path.ancestors().skip(1).take_while(ours).for_each(|above| drop(fs::remove_dir(above)));
        }
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

/// A shell script in a process of its own, killed at the end.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Runs `script` once it is let go by [`Process::go`].
    pub(crate) fn waiting(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("read _; {script}")]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Process(command.spawn().unwrap())
    }

    /// Sleeps in `cgroup` from the start.
    pub(crate) fn sleeping_in(cgroup: &Cgroup) -> Process {
        let process = Process::waiting("exec sleep 1000");
        cgroup.join(process.pid(), false).unwrap();
        process.go()
    }

    pub(crate) fn go(mut self) -> Process {
        drop(self.0.stdin.take());
        self
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// How it ends, which must be soon.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("a process ends", || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Its processor time, in ticks.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Its cgroups, as lines of /proc/PID/cgroup.
    pub(crate) fn cgroups(&self) -> String {
        fs::read_to_string(format!("/proc/{}/cgroup", self.pid())).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        // Not waited for in vain: a frozen one ends once its cgroup is thawed.
        if !std::thread::panicking() {
            self.0.wait().unwrap();
        }
    }
}

/// Runs a shell script in `cgroup`; its exit status.
pub(crate) fn run_in(cgroup: &Cgroup, script: &str) -> Option<i32> {
    let process = Process::waiting(script);
    cgroup.join(process.pid(), false).unwrap();
    process.go().end().code()
}

pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Makes a cgroup by hand, and those above it. v1's cpuset would take no process in without processors of its own.
pub(crate) fn make(directory: &Path) {
    if directory.exists() {
        return;
    }
    let above = directory.parent().unwrap();
    make(above);
    fs::create_dir(directory).unwrap();
    for file in ["cpuset.cpus", "cpuset.mems"].map(Path::new) {
        // The root of v2 has none.
        if directory.join(file).exists() && above.join(file).exists() {
            fs::write(directory.join(file), fs::read(above.join(file)).unwrap()).unwrap();
        }
    }
}

pub(crate) fn move_to(directory: &Path, pid: i32) {
    fs::write(directory.join("cgroup.procs"), pid.to_string()).unwrap();
}

/// Says why a test has nothing to test here.
pub(crate) fn skip(reason: &str) {
    println!("SKIPPED: {reason}");
}
