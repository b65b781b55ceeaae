//! Calls of `ctr`, containerd's own client. Each ends within a limit; one that does not fails the test.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use conformance::look;
use conformance::sys::{ChildSetup, prepare_child};

use super::daemon::{NAMESPACE, world};

/// A call to be made.
pub(crate) struct Call {
    command: Command,
    words: Vec<String>,
    limit: Duration,
}

/// `ctr WORDS...`
pub(crate) fn ctr<S: AsRef<str>>(words: &[S]) -> Call {
    program("ctr").words(words)
}

/// Any program, with the same limits.
pub(crate) fn program(name: &str) -> Call {
    let mut command = Command::new(name);
    command.env("CONTAINERD_ADDRESS", world().address()).env("CONTAINERD_NAMESPACE", NAMESPACE).stdin(Stdio::null());
    Call { command, words: vec![name.to_owned()], limit: Duration::from_secs(30) }
}

impl Call {
    pub(crate) fn words<S: AsRef<str>>(mut self, words: &[S]) -> Self {
        for word in words {
            self.command.arg(word.as_ref());
            self.words.push(word.as_ref().to_owned());
        }
        self
    }

    /// Another limit than thirty seconds, times `slowness` as that.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Makes the call and waits for its end; nothing if it did not end in time.
    pub(crate) fn try_run(self) -> Option<Output> {
        let limit = self.limit;
        self.spawn().wait_for(limit)
    }

    /// Makes the call and waits for its end.
    #[track_caller]
    pub(crate) fn run(self) -> Output {
        let limit = self.limit;
        self.spawn().end(limit)
    }

    /// Makes the call, which must succeed.
    #[track_caller]
    pub(crate) fn ok(self) -> Output {
        self.run().ok()
    }

    /// Begins the call. What it prints goes to files: a pipe would be handed on to what it leaves behind.
    pub(crate) fn spawn(mut self) -> Running {
        let stdout = tempfile::tempfile().expect("no temporary file");
        let stderr = tempfile::tempfile().expect("no temporary file");
        self.command.stdout(stdout.try_clone().expect("cannot duplicate a descriptor"));
        self.command.stderr(stderr.try_clone().expect("cannot duplicate a descriptor"));
        self.start(stdout, stderr)
    }

    /// Begins the call with a terminal.
    pub(crate) fn spawn_on(mut self, slave: OwnedFd) -> Running {
        let again = || slave.try_clone().expect("cannot duplicate a descriptor");
        self.command.stdin(again()).stdout(again()).stderr(again());
        prepare_child(&mut self.command, ChildSetup { terminal: true, ..ChildSetup::default() });
        self.start(tempfile::tempfile().expect("no temporary file"), tempfile::tempfile().expect("no temporary file"))
    }

    fn start(mut self, stdout: File, stderr: File) -> Running {
        let child = self.command.spawn().unwrap_or_else(|error| panic!("cannot start {:?}: {error}", self.words));
        Running { child, stdout, stderr, words: self.words }
    }
}

/// A call under way. It is killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: File,
    stderr: File,
    words: Vec<String>,
}

impl Running {
    /// The pipe to its standard input, where that was asked for; dropped, it is at its end.
    pub(crate) fn stdin(&mut self) -> std::process::ChildStdin {
        self.child.stdin.take().expect("stdin is a pipe")
    }

    /// What it has printed so far.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(&content(&mut self.stdout)).into_owned()
    }

    /// Waits until it has printed `text`.
    #[track_caller]
    pub(crate) fn prints(&mut self, text: &str) {
        look::eventually(&format!("{text:?} from {:?}", self.words), || self.text().contains(text));
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(self, limit: Duration) -> Output {
        let words = self.words.clone();
        self.wait_for(limit).unwrap_or_else(|| panic!("{words:?} does not end"))
    }

    fn wait_for(mut self, limit: Duration) -> Option<Output> {
        let end = Instant::now() + limit * look::slowness();
        let status = loop {
            match self.child.try_wait().expect("cannot wait for a child") {
                Some(status) => break status,
                None if Instant::now() > end => return None,
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        let (stdout, stderr) = (content(&mut self.stdout), content(&mut self.stderr));
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Some(Output { code: code_of(status), stdout, stderr, words: self.words.clone() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not there any more after a wait, which is no error.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn content(file: &mut File) -> Vec<u8> {
    let mut data = Vec::new();
    // The writer has the same offset: it is put back to the end by reading to it.
    file.seek(SeekFrom::Start(0)).expect("cannot seek");
    file.read_to_end(&mut data).expect("cannot read");
    data
}

/// What became of a call.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
    words: Vec<String>,
}

impl Output {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// It must have succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// It must have ended with this status.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{:?}\nstdout: {}\nstderr: {}", self.words, self.text(), self.stderr);
        self
    }

    /// It must have told this beside its output.
    #[track_caller]
    pub(crate) fn told(self, text: &str) -> Self {
        assert!(self.stderr.contains(text), "{:?} does not tell {text:?}: {}", self.words, self.stderr);
        self
    }

    /// It must have failed, with this word in its message.
    #[track_caller]
    pub(crate) fn fails(self, word: &str) -> Self {
        assert_ne!(self.code, 0, "{:?} succeeds: {}", self.words, self.text());
        let said = format!("{}{}", self.text(), self.stderr).to_lowercase();
        assert!(said.contains(&word.to_lowercase()), "{:?} does not say {word:?}: {said}", self.words);
        self
    }
}
