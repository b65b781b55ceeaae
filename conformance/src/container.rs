//! A container that a test has created: the commands on it, and its init process.

use std::fs;

use serde_json::Value;

use crate::look;
use crate::reaper;
use crate::runtime::{Call, Output, TIME_LIMIT};
use crate::sys;
use crate::test::Test;

/// A container that `create` has made.
#[derive(Debug)]
pub struct Container<'t> {
    test: &'t Test<'t>,
    /// Its id.
    pub id: String,
    /// The host's pid of its init process.
    pub pid: i32,
    /// The call of `create`: the container's output appears in its files.
    pub output: Output,
}

impl<'t> Container<'t> {
    /// A container that `output` made.
    pub fn new(test: &'t Test<'t>, id: String, pid: i32, output: Output) -> Self {
        reaper::forget(pid);
        Self { test, id, pid, output }
    }

    /// `COMMAND ID`, not yet made.
    pub fn call(&self, command: &str) -> Call<'t> {
        self.test.call(&[command, &self.id])
    }

    /// `start`, which must succeed.
    #[track_caller]
    pub fn start(&self) {
        self.call("start").output().ok();
        if !self.test.is_proa() {
            self.wait_for_program();
        }
    }

    /// Waits until init has become the program, or has ended. proa's `start` tells
    /// its caller just that, others return before.
    fn wait_for_program(&self) {
        look::eventually("the program to run", || {
            let exe = fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
            let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
            let text = exe.to_string_lossy() + String::from_utf8_lossy(&line);
            !["runc", "crun", "memfd:"].iter().any(|part| text.contains(part))
        });
        // execve(2) changes the program first and the credentials a moment later.
        std::thread::sleep(std::time::Duration::from_millis(2));
    }

    /// `state`.
    #[track_caller]
    pub fn state(&self) -> Value {
        self.call("state").output().ok().json()
    }

    /// The word for its state.
    #[track_caller]
    pub fn status(&self) -> String {
        self.state()["status"].as_str().unwrap_or_else(|| panic!("the state has no status")).to_owned()
    }

    /// Fails the test unless its state is `status`.
    #[track_caller]
    pub fn assert_status(&self, status: &str) {
        assert_eq!(self.status(), status, "state of the container");
    }

    /// `kill ID SIGNAL`, which must succeed.
    #[track_caller]
    pub fn kill(&self, signal: &str) {
        self.call("kill").arg(signal).output().ok();
    }

    /// `delete`, which must succeed.
    #[track_caller]
    pub fn delete(&self) {
        self.call("delete").output().ok();
    }

    /// `exec`, not yet made.
    pub fn exec(&self, args: &[&str]) -> Call<'t> {
        self.exec_with(&[], args)
    }

    /// `exec` with options, not yet made.
    pub fn exec_with(&self, options: &[&str], args: &[&str]) -> Call<'t> {
        let mut call = self.test.call(&["exec"]);
        for option in options {
            call = call.arg(option);
        }
        call = call.arg(&self.id);
        args.iter().fold(call, |call, arg| call.arg(arg))
    }

    /// Runs a shell script in it by `exec`, which must succeed; returns what it printed.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.exec(&["/bin/sh", "-c", script]).output().ok().stdout()
    }

    /// Waits for the init process to end, and reaps it, as an engine does.
    /// Returns its exit code, 128+N for signal N.
    #[track_caller]
    pub fn wait(&self) -> i32 {
        wait_for(self.pid)
    }

    /// Kills and reaps the init process behind the runtime's back.
    #[track_caller]
    pub fn murder(&self) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL)
            .expect("cannot kill the container's init");
        assert_eq!(self.wait(), 128 + 9, "exit code of a killed init");
    }

    /// What its program has printed so far.
    pub fn stdout(&self) -> String {
        self.output.stdout()
    }

    /// Waits until its program has printed this.
    #[track_caller]
    pub fn prints(&self, text: &str) {
        if !look::eventually_within(std::time::Duration::from_secs(10), || self.stdout().contains(text)) {
            panic!("did not print {text:?} but {:?}", self.stdout());
        }
    }

    /// /proc/PID/status of its init process.
    pub fn proc_status(&self) -> procfs::process::Status {
        look::status(self.pid)
    }

    /// A file of the container as text, read from outside.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        let path = look::root_of(self.pid, path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    }
}

/// Waits for a process that has become the suite's child, and reaps it.
/// Returns its exit code, 128+N for signal N.
#[track_caller]
pub fn wait_for(pid: i32) -> i32 {
    use nix::sys::wait::{WaitStatus, waitpid};
    if let Some(code) = reaper::exit_code(pid) {
        return code;
    }
    if let Ok(pidfd) = sys::pidfd_open(pid) {
        assert!(look::exits_within(&pidfd, TIME_LIMIT), "process {pid} does not end");
    }
    match waitpid(nix::unistd::Pid::from_raw(pid), None) {
        Ok(WaitStatus::Exited(_, code)) => code,
        Ok(WaitStatus::Signaled(_, signal, _)) => 128 + signal as i32,
        other => panic!("process {pid} is not the suite's child: {other:?}"),
    }
}
