//! Commands with a time limit: the client of an engine is called as a user calls it, with or without a terminal.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use conformance::console::Master;
use conformance::look;
use conformance::sys::{self, ChildSetup};

/// What no command of a test needs, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(60);

/// A command to be run.
pub(crate) struct Call {
    command: Command,
    words: String,
    limit: Duration,
}

/// What a command said, and how it ended.
pub(crate) struct Said {
    status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
    words: String,
}

impl Call {
    pub(crate) fn new(program: &str, words: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null());
        Self { command, words: format!("{program} {}", words.join(" ")), limit: LIMIT }
    }

    /// Gives it more time than the usual minute.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Gives it a text to read.
    pub(crate) fn input(mut self, text: &str) -> Self {
        let file = tempfile::NamedTempFile::new().expect("no temporary file");
        std::fs::write(file.path(), text).expect("cannot write a temporary file");
        self.command.stdin(file.reopen().expect("cannot open a temporary file"));
        self
    }

    /// Runs it to its end. It writes to files: a pipe would be held open by a container that it leaves.
    #[track_caller]
    pub(crate) fn run(mut self) -> Said {
        let file = || tempfile::tempfile().expect("no temporary file");
        let (out, err) = (file(), file());
        let clone = |file: &File| file.try_clone().expect("cannot duplicate a descriptor");
        self.command.stdout(clone(&out)).stderr(clone(&err));
        let mut child = self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.words));
        let status = wait(&mut child, self.limit);
        let (out, err) = (text(out), text(err));
        let words = self.words;
        let status = status.unwrap_or_else(|| panic!("{words}: took too long\nstdout: {out}\nstderr: {err}"));
        Said { status, out, err, words }
    }

    /// Starts it at a terminal of 40 rows and 100 columns.
    pub(crate) fn at_terminal(mut self) -> Session {
        let (master, slave) = Master::open();
        sys::set_window_size(master.fd(), 40, 100).expect("cannot set the size of a terminal");
        let end = |fd: &OwnedFd| fd.try_clone().expect("cannot duplicate a descriptor");
        self.command.stdin(end(&slave)).stdout(end(&slave)).stderr(slave);
        sys::prepare_child(&mut self.command, ChildSetup { terminal: true, ..ChildSetup::default() });
        let child = self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.words));
        Session { child, master, words: self.words }
    }

    /// Starts it and leaves it running; what it says goes to a file of that path.
    pub(crate) fn start(mut self, log: &str) -> Running {
        let file = File::create(log).unwrap_or_else(|error| panic!("{log}: {error}"));
        self.command.stdout(file.try_clone().expect("cannot duplicate a descriptor")).stderr(file);
        let child = self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.words));
        conformance::reaper::keep(child.id() as i32);
        Running { child, log: log.to_owned() }
    }
}

/// Waits for a child; one that takes too long is killed.
fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let mut status = None;
    look::eventually_within(limit, || {
        status = child.try_wait().expect("cannot wait for a child");
        status.is_some()
    });
    if status.is_none() {
        child.kill().expect("cannot kill a child");
        child.wait().expect("cannot wait for a child");
    }
    status
}

fn text(mut file: File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("cannot read a temporary file");
    String::from_utf8_lossy(&bytes).into_owned()
}

impl Said {
    /// It ended with this status.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}\nstdout: {}\nstderr: {}", self.words, self.out, self.err);
        self
    }

    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// It succeeded; what it printed, without white space at its ends.
    #[track_caller]
    pub(crate) fn text(self) -> String {
        self.ok().out.trim().to_owned()
    }

    /// It failed, with whatever status.
    #[track_caller]
    pub(crate) fn fails(self) -> Self {
        assert!(!self.status.success(), "{} succeeded\nstdout: {}", self.words, self.out);
        self
    }

    /// Its standard error has these words in it.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.err.contains(words), "{} did not say {words:?}: {}", self.words, self.err);
        self
    }

    pub(crate) fn success(&self) -> bool {
        self.status.success()
    }
}

/// A command at a terminal.
pub(crate) struct Session {
    child: Child,
    master: Master,
    words: String,
}

impl Session {
    /// Types `text`.
    pub(crate) fn types(&self, text: &str) {
        self.master.write(text);
    }

    /// Waits until the terminal shows `text`.
    #[track_caller]
    pub(crate) fn shows(&mut self, text: &str) {
        self.master.expect(text);
    }

    /// Makes the terminal another size until it shows that size. The client listens to such changes some time after it
    /// shows what the container prints.
    #[track_caller]
    pub(crate) fn shows_size(&mut self, rows: u16, columns: u16) {
        let wanted = format!("{rows} {columns}");
        for more in [0, 1, 0, 1, 0] {
            sys::set_window_size(self.master.fd(), rows, columns + more).expect("cannot set the size of a terminal");
            if look::eventually_within(Duration::from_secs(2), || self.master.text().contains(&wanted)) {
                return;
            }
        }
        panic!("{}: the size did not arrive: {}", self.words, self.master.text());
    }

    /// Waits for the end with that status; all that the terminal showed.
    #[track_caller]
    pub(crate) fn exits(mut self, code: i32) -> String {
        // The terminal is read meanwhile: a full one would stop who writes to it.
        let mut status = None;
        look::eventually_within(LIMIT, || {
            self.master.text();
            status = self.child.try_wait().expect("cannot wait for a child");
            status.is_some()
        });
        let text = self.master.text();
        let status = status.unwrap_or_else(|| panic!("{}: took too long: {text}", self.words));
        assert_eq!(status.code(), Some(code), "{}: {text}", self.words);
        text
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.child.kill().expect("cannot kill a child");
            self.child.wait().expect("cannot wait for a child");
        }
    }
}

/// A daemon. It is ended when this is dropped.
pub(crate) struct Running {
    child: Child,
    log: String,
}

impl Running {
    /// The last lines of what it said.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end, and kills it if it does not.
    pub(crate) fn end(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.pid());
        if self.is_running() {
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("cannot end a daemon");
        }
        wait(&mut self.child, Duration::from_secs(30));
        conformance::reaper::release(self.pid());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
