//! Namespaces for containers to join: a process that holds new ones of the
//! kinds asked for, as a pod's first process does, and ends with the value.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::{look, reaper};

/// A process in namespaces of its own.
#[derive(Debug)]
pub struct Holder {
    child: Child,
    /// The process, as the host numbers it.
    pub pid: i32,
}

impl Holder {
    /// Makes new namespaces: the options of unshare(1), such as `--net`.
    pub fn new(options: &[&str]) -> Self {
        let mut command = Command::new("unshare");
        command.args(options).args(["--fork", "--kill-child", "--", "sleep", "1000"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("cannot run unshare(1)");
        reaper::keep(child.id() as i32);
        let mut pid = 0;
        look::eventually("unshare(1) to have started its program", || {
            let below = look::descendants(child.id() as i32);
            pid = below.first().copied().unwrap_or(0);
            pid != 0 && look::stat(pid).is_some_and(|stat| stat.comm == "sleep")
        });
        Self { child, pid }
    }

    /// The path of its namespace of this kind, as /proc/PID/ns names it (`net`, `mnt`).
    pub fn path(&self, kind: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/{kind}", self.pid))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // unshare(1) takes its child along; both may be gone already.
        self.child.kill().ok();
        self.child.wait().ok();
        reaper::release(self.child.id() as i32);
        let gone = || {
            reaper::collect();
            !look::is_alive(self.pid)
        };
        if !look::eventually_within(std::time::Duration::from_secs(5), gone) {
            log::warn!("process {} does not end", self.pid);
        }
    }
}
