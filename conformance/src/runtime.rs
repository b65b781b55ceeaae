//! Drives the runtime under test: one value per command line, each with a time
//! limit and with its standard streams in files.
//!
//! Files and not pipes, as a container inherits the streams of `create`: whoever
//! reads such a pipe to its end waits for the container to exit.

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sched::CloneFlags;
use serde_json::Value;

use crate::look;
use crate::reaper;
use crate::sys::{self, ChildSetup};

/// How long one call of the runtime may take.
pub const TIME_LIMIT: Duration = Duration::from_secs(30);

/// Which runtime is driven, told by the name of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// proa.
    Proa,
    /// runc.
    Runc,
    /// crun.
    Crun,
    /// Any other: it gets every test that is not for proa alone.
    Other,
}

/// A runtime with a state directory (`--root`) of its own.
#[derive(Debug)]
pub struct Runtime {
    /// Its binary.
    pub program: PathBuf,
    /// Which one it is.
    pub kind: Kind,
    /// Its `--root`.
    pub root: PathBuf,
    scratch: PathBuf,
    /// Whether all calls are made with `--systemd-cgroup`: CGROUP_MANAGER=systemd.
    pub systemd: bool,
    calls: Cell<u32>,
    transcript: RefCell<Vec<Record>>,
}

/// One call, for the report of a failed test.
#[derive(Debug)]
struct Record {
    command: String,
    status: String,
    out: PathBuf,
    err: PathBuf,
}

/// The runtime that `RUNTIME` names, or else the workspace's release build.
pub fn program() -> PathBuf {
    let path = std::env::var_os("RUNTIME")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/proa"), PathBuf::from);
    fs::canonicalize(&path).unwrap_or_else(|error| panic!("no runtime at {}: {error}", path.display()))
}

impl Runtime {
    /// A runtime whose state is below `scratch`/root and whose output goes to files in `scratch`.
    pub fn new(program: PathBuf, scratch: &Path) -> Self {
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let kind = match name {
            name if name.contains("proa") => Kind::Proa,
            name if name.contains("runc") => Kind::Runc,
            name if name.contains("crun") => Kind::Crun,
            _ => Kind::Other,
        };
        Self {
            program,
            kind,
            root: scratch.join("root"),
            scratch: scratch.to_owned(),
            systemd: std::env::var_os("CGROUP_MANAGER").is_some_and(|manager| manager == "systemd"),
            calls: Cell::new(0),
            transcript: RefCell::new(Vec::new()),
        }
    }

    /// A call with these arguments after the global options.
    pub fn call<I, S>(&self, args: I) -> Call<'_>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut global = vec!["--root".into(), self.root.clone().into()];
        if self.systemd {
            global.push("--systemd-cgroup".into());
        }
        Call {
            runtime: self,
            wrapper: Vec::new(),
            global,
            options: Vec::new(),
            args: args.into_iter().map(|arg| arg.as_ref().to_owned()).collect(),
            env: Vec::new(),
            cwd: None,
            stdin: None,
            streams: None,
            terminal: None,
            setup: ChildSetup::default(),
        }
    }

    /// What has been called so far, with output, for the report of a failure.
    pub fn transcript(&self) -> String {
        let mut text = String::new();
        for record in self.transcript.borrow().iter() {
            text += &format!("$ {}\n  -> {}\n", record.command, record.status);
            for (name, path) in [("stdout", &record.out), ("stderr", &record.err)] {
                let content = read_lossy(path);
                if !content.is_empty() {
                    let shown: String = content.chars().take(400).collect();
                    text += &format!("  {name}: {}\n", shown.trim_end().replace('\n', "\n          "));
                }
            }
        }
        text
    }
}

/// One call of the runtime, about to be made.
#[derive(Debug)]
pub struct Call<'r> {
    runtime: &'r Runtime,
    wrapper: Vec<OsString>,
    global: Vec<OsString>,
    options: Vec<OsString>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<PathBuf>,
    stdin: Option<File>,
    streams: Option<[Stdio; 3]>,
    terminal: Option<OwnedFd>,
    setup: ChildSetup,
}

impl Call<'_> {
    /// Puts a global option before the command.
    pub fn global(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.global.push(arg.as_ref().to_owned());
        self
    }

    /// Leaves out `--root`.
    pub fn default_root(mut self) -> Self {
        self.global.clear();
        self
    }

    /// Runs the runtime by another program (`deny EPERM clone3 --`).
    pub fn wrapper<S: AsRef<OsStr>>(mut self, wrapper: &[S]) -> Self {
        self.wrapper = wrapper.iter().map(|arg| arg.as_ref().to_owned()).collect();
        self
    }

    /// Adds options right after the command: not every runtime takes them after the id.
    pub fn options<S: AsRef<OsStr>>(mut self, options: &[S]) -> Self {
        self.options.extend(options.iter().map(|option| option.as_ref().to_owned()));
        self
    }

    /// Appends an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Appends arguments.
    pub fn args<S: AsRef<OsStr>>(mut self, args: &[S]) -> Self {
        self.args.extend(args.iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets a variable of the environment, which otherwise is the usual PATH alone.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory.
    pub fn cwd(mut self, dir: &Path) -> Self {
        self.cwd = Some(dir.to_owned());
        self
    }

    /// Gives it standard input; otherwise that is /dev/null.
    pub fn stdin(mut self, file: File) -> Self {
        self.stdin = Some(file);
        self
    }

    /// Gives it these as standard input, output and error, instead of files that its [`Output`] could read.
    pub fn streams(mut self, streams: [Stdio; 3]) -> Self {
        self.streams = Some(streams);
        self
    }

    /// Makes a terminal its standard streams and its controlling terminal.
    pub fn terminal(mut self, slave: OwnedFd) -> Self {
        self.terminal = Some(slave);
        self
    }

    /// Leaves it a descriptor open under this number.
    pub fn fd(mut self, fd: impl Into<OwnedFd>, number: RawFd) -> Self {
        self.setup.fds.push((fd.into(), number));
        self
    }

    /// Has it run in the namespace at `path`.
    pub fn join(mut self, path: &Path) -> Self {
        let file = File::open(path).unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display()));
        self.setup.joins.push(file.into());
        self
    }

    /// Has it run in new namespaces.
    pub fn unshare(mut self, flags: CloneFlags) -> Self {
        self.setup.unshare = Some(flags);
        self
    }

    /// Limits its open files, soft and hard.
    pub fn open_files(mut self, limit: u64) -> Self {
        self.setup.open_files = Some(limit);
        self
    }

    /// Sets its file mode mask.
    pub fn umask(mut self, mask: u32) -> Self {
        self.setup.umask = Some(mask);
        self
    }

    /// Starts it and does not wait.
    pub fn spawn(self) -> Running {
        let runtime = self.runtime;
        let number = runtime.calls.get();
        runtime.calls.set(number + 1);
        let out = runtime.scratch.join(format!("{number}.out"));
        let err = runtime.scratch.join(format!("{number}.err"));
        let line: Vec<OsString> = self
            .wrapper
            .iter()
            .chain([&runtime.program.clone().into_os_string()])
            .chain(&self.global)
            .chain(self.args.iter().take(1))
            .chain(&self.options)
            .chain(self.args.iter().skip(1))
            .cloned()
            .collect();
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).env_clear();
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").envs(self.env);
        command.current_dir(self.cwd.as_deref().unwrap_or(&runtime.scratch));
        let mut setup = self.setup;
        if let Some(slave) = self.terminal {
            setup.terminal = true;
            let clone = || Stdio::from(slave.try_clone().expect("cannot duplicate a terminal"));
            command.stdin(clone()).stdout(clone()).stderr(clone());
        } else if let Some([input, output, error]) = self.streams {
            command.stdin(input).stdout(output).stderr(error);
        } else {
            command.stdin(self.stdin.map_or_else(Stdio::null, Stdio::from));
            command.stdout(create(&out)).stderr(create(&err));
        }
        sys::prepare_child(&mut command, setup);
        let shown: Vec<_> = line.iter().map(|arg| arg.to_string_lossy()).collect();
        let shown = shown.join(" ");
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
        log::debug!("{} {shown}", child.id());
        reaper::keep(child.id() as i32);
        let record =
            Record { command: shown.clone(), status: "not waited for".into(), out: out.clone(), err: err.clone() };
        let index = runtime.transcript.borrow().len();
        runtime.transcript.borrow_mut().push(record);
        Running { child, command: shown, out, err, index }
    }

    /// Runs it to its end.
    pub fn output(self) -> Output {
        let runtime = self.runtime;
        self.spawn().wait(runtime)
    }
}

fn create(path: &Path) -> File {
    File::create(path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()))
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// A call under way.
#[derive(Debug)]
pub struct Running {
    child: Child,
    command: String,
    out: PathBuf,
    err: PathBuf,
    index: usize,
}

impl Running {
    /// The runtime's own pid.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.out)
    }

    /// Sends the runtime a signal.
    pub fn kill(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid()), signal).expect("cannot signal the runtime");
    }

    /// Waits for its end; kills it and fails the test after [`TIME_LIMIT`].
    pub fn wait(mut self, runtime: &Runtime) -> Output {
        let pidfd = sys::pidfd_open(self.pid()).expect("cannot open a pidfd");
        let end = Instant::now() + TIME_LIMIT;
        let mut in_time = false;
        while !in_time && Instant::now() < end {
            in_time = look::exits_within(&pidfd, Duration::from_millis(20));
            reaper::collect();
        }
        if !in_time {
            self.child.kill().expect("cannot kill the runtime");
        }
        let status = self.child.wait().expect("cannot wait for the runtime");
        reaper::release(self.pid());
        runtime.transcript.borrow_mut()[self.index].status = status.to_string();
        assert!(in_time, "still running after {TIME_LIMIT:?}: {}", self.command);
        Output { command: self.command, status, out: self.out, err: self.err }
    }
}

/// How a call ended, and where its output is.
#[derive(Debug)]
pub struct Output {
    /// The command line.
    pub command: String,
    /// Its exit status.
    pub status: ExitStatus,
    out: PathBuf,
    err: PathBuf,
}

impl Output {
    /// The exit code; 128+N where signal N ended it, as shells count.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(127))
    }

    /// What is in the file of its standard output now.
    pub fn stdout(&self) -> String {
        read_lossy(&self.out)
    }

    /// What is in the file of its standard error now.
    pub fn stderr(&self) -> String {
        read_lossy(&self.err)
    }

    /// The file of its standard output.
    pub fn stdout_path(&self) -> &Path {
        &self.out
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        let text = self.stdout();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: not JSON ({error}): {text}", self.command))
    }

    /// Fails the test unless the call succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{} failed: {}: {}", self.command, self.status, self.stderr().trim_end());
        self
    }

    /// Fails the test unless the call ended with this code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "exit code of {}: {}", self.command, self.stderr().trim_end());
        self
    }

    /// Fails the test unless the call failed by itself and not by a signal.
    #[track_caller]
    pub fn fails(self) -> Self {
        assert!(!self.status.success(), "{} succeeded: {}{}", self.command, self.stdout(), self.stderr());
        assert!(self.status.code().is_some(), "{} was killed: {}", self.command, self.status);
        self
    }

    /// Fails the test unless standard error has this text, in any case.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        let said = self.stderr();
        assert!(
            said.to_lowercase().contains(&text.to_lowercase()),
            "{} does not say {text:?} but {said:?}",
            self.command
        );
        self
    }
}
