//! One test under way: a directory, the containers that it made, and at the end the search for what is left.

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use conformance::image::BUSYBOX;
use conformance::look;
use conformance::test::Done;

use super::ctr::{Call, Output, Running, ctr};
use super::daemon::world;
use super::events;
use super::oracle::{self, Snapshot};

static TESTS: AtomicU32 = AtomicU32::new(0);

/// One test under way. Ends with [`Test::end`].
pub(crate) struct Test {
    /// For whatever the test needs.
    pub(crate) dir: PathBuf,
    number: u32,
    names: Cell<u32>,
    ids: RefCell<Vec<String>>,
    before: Snapshot,
    over: Cell<bool>,
}

impl Test {
    pub(crate) fn begin() -> Self {
        let number = TESTS.fetch_add(1, Ordering::Relaxed);
        let dir = world().base().join(format!("t{number}"));
        fs::create_dir(&dir).expect("cannot make a test's directory");
        let before = oracle::snapshot();
        Self { dir, number, names: Cell::new(0), ids: RefCell::new(Vec::new()), before, over: Cell::new(false) }
    }

    /// An id that no other test has; what it names is deleted at the end.
    pub(crate) fn id(&self) -> String {
        let id = format!("t{}-{}", self.number, self.names.replace(self.names.get() + 1));
        self.ids.borrow_mut().push(id.clone());
        id
    }

    /// A path in the test's directory, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// A container to be made.
    pub(crate) fn container(&self) -> Plan<'_> {
        Plan { test: self, id: self.id(), options: Vec::new(), runtime: None }
    }

    /// A container that sleeps, for tests that want it to run.
    pub(crate) fn sleeper(&self) -> Container {
        self.container().option("--null-io").start(&["sleep", "1000"])
    }

    /// What is there beyond what there was at the beginning, and does not go away within `limit`.
    pub(crate) fn leaks(&self, limit: Duration) -> Vec<String> {
        self.before.leaks(limit)
    }

    /// Deletes what the test made, which must succeed, and looks for what is left.
    pub(crate) fn end(self) -> Done {
        self.end_within(Duration::from_secs(6))
    }

    /// As `end`, for a test after which things take longer to go away.
    pub(crate) fn end_within(self, limit: Duration) -> Done {
        for id in self.ids.borrow().iter() {
            if task_status(id).is_some() {
                ctr(&["task", "rm", "-f", id]).run();
                assert_eq!(task_status(id), None, "the task {id} cannot be deleted");
            }
        }
        let ids: Vec<String> = self.ids.borrow().iter().filter(|id| has_container(id)).cloned().collect();
        if !ids.is_empty() {
            ctr(&[&["c".to_owned(), "rm".to_owned()], &ids[..]].concat()).ok();
        }
        // Shims log to containerd.
        let log = world().log();
        let panic = log.lines().find(|line| line.contains("panicked at") || line.contains("panic: "));
        assert!(panic.is_none(), "{panic:?}");
        let leaks = self.before.leaks(limit);
        assert!(leaks.is_empty(), "left behind:\n  {}", leaks.join("\n  "));
        self.over.set(true);
        fs::remove_dir_all(&self.dir).ok();
        Ok(())
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        if self.over.get() {
            return;
        }
        // Failed or skipped: put all back for the next one, whatever it was. The daemon may be what is gone.
        if world().pid() == 0 {
            world().start();
        }
        let short = Duration::from_secs(12);
        for id in self.ids.borrow().iter() {
            ctr(&["task", "rm", "-f", id]).limit(short).try_run();
        }
        self.before.sweep();
        for id in self.ids.borrow().iter() {
            ctr(&["task", "rm", "-f", id]).limit(short).try_run();
            ctr(&["c", "rm", id]).limit(short).try_run();
        }
        self.before.sweep();
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// Which runtime the shim of a container is told to use, in the way in which this shim can be told.
pub(crate) fn runtime_options(dir: &Path, runtime: Option<&Path>, more: &str) -> Vec<String> {
    let world = world();
    let mut options = vec!["--runtime".to_owned(), world.shim.clone()];
    if world.is_control() {
        let binary = runtime.unwrap_or(&world.runtime);
        options.extend(["--runc-binary".to_owned(), binary.display().to_string()]);
    } else if runtime.is_some() || !more.is_empty() {
        // Any shim but runc's gets no options of ctr but the path of a file.
        let file = dir.join(format!("options-{}.toml", TESTS.fetch_add(1, Ordering::Relaxed)));
        let binary = runtime.map(|path| format!("BinaryName = '{}'\n", path.display())).unwrap_or_default();
        fs::write(&file, format!("{binary}{more}")).expect("cannot write options");
        options.extend(["--runtime-config-path".to_owned(), file.display().to_string()]);
    }
    options
}

/// A container to be made by `ctr`.
pub(crate) struct Plan<'t> {
    test: &'t Test,
    pub(crate) id: String,
    options: Vec<String>,
    runtime: Option<PathBuf>,
}

impl Plan<'_> {
    pub(crate) fn option(self, option: &str) -> Self {
        self.options(&[option])
    }

    pub(crate) fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// Another runtime below the shim.
    pub(crate) fn runtime(mut self, runtime: &Path) -> Self {
        self.runtime = Some(runtime.to_owned());
        self
    }

    pub(crate) fn bind(self, source: &Path, target: &str, options: &str) -> Self {
        self.options(&["--mount", &format!("type=bind,src={},dst={target},options={options}", source.display())])
    }

    fn call(&self, verb: &[&str], words: &[&str]) -> Call {
        // As who administers the machine would have it.
        let systemd = look::has_systemd();
        let more = if systemd && !world().is_control() { "SystemdCgroup = true\n" } else { "" };
        let mut runtime = runtime_options(&self.test.dir, self.runtime.as_deref(), more);
        if systemd {
            runtime.extend(["--cgroup".to_owned(), format!("system.slice:suite:{}", self.id)]);
            runtime.extend(world().is_control().then(|| "--runc-systemd-cgroup".to_owned()));
        }
        let call = ctr(verb).words(&runtime).words(&self.options);
        call.words(&[BUSYBOX, &self.id]).words(words)
    }

    /// `ctr run --rm`, to be made.
    pub(crate) fn rm(self, words: &[&str]) -> Call {
        self.call(&["run", "--rm"], words)
    }

    /// Runs `script` to its end and removes the container.
    #[track_caller]
    pub(crate) fn sh(self, script: &str) -> Output {
        self.rm(&["sh", "-c", script]).run()
    }

    /// `ctr run` in the foreground, under way.
    pub(crate) fn run(self, words: &[&str]) -> (Container, Running) {
        let call = self.call(&["run"], words).stdin(std::process::Stdio::piped());
        (Container { id: self.id }, call.spawn())
    }

    /// `ctr run -d`: returns when the program runs.
    #[track_caller]
    pub(crate) fn start(self, words: &[&str]) -> Container {
        self.call(&["run", "-d"], words).ok();
        Container { id: self.id }
    }

    /// `ctr run -d` of something that may not work.
    pub(crate) fn try_start(self, words: &[&str]) -> (Container, Output) {
        let output = self.call(&["run", "-d"], words).run();
        (Container { id: self.id }, output)
    }
}

/// Whether containerd knows of a container.
pub(crate) fn has_container(id: &str) -> bool {
    ctr(&["c", "ls", "-q"]).ok().text().lines().any(|line| line == id)
}

/// What containerd says of a task: `RUNNING`, `STOPPED`; nothing if there is none.
pub(crate) fn task_status(id: &str) -> Option<String> {
    let list = ctr(&["task", "ls"]).ok().text();
    let line = list
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.first() == Some(&id))?;
    Some((*line.last().expect("three words")).to_owned())
}

/// A container that there is.
pub(crate) struct Container {
    pub(crate) id: String,
}

impl Container {
    pub(crate) fn status(&self) -> Option<String> {
        task_status(&self.id)
    }

    /// Its first process.
    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        let list = ctr(&["task", "ls"]).ok().text();
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(&self.id));
        let line = line.unwrap_or_else(|| panic!("{} has no task: {list}", self.id));
        line.split_whitespace().nth(1).and_then(|pid| pid.parse().ok()).expect("a pid")
    }

    /// Its shim.
    #[track_caller]
    pub(crate) fn shim(&self) -> i32 {
        let shims = oracle::shims_of(&self.id);
        assert_eq!(shims.len(), 1, "{} has not one shim: {shims:?}", self.id);
        shims[0]
    }

    pub(crate) fn kill(&self, signal: &str) -> Output {
        ctr(&["task", "kill", "-s", signal, &self.id]).run()
    }

    /// Kills it and waits until containerd knows.
    #[track_caller]
    pub(crate) fn stop(&self) {
        self.kill("SIGKILL").ok();
        self.stopped();
    }

    /// Waits until containerd knows that it has ended; a `ctr run` in the foreground has then deleted the task.
    #[track_caller]
    pub(crate) fn stopped(&self) {
        look::eventually(&format!("the end of {}", self.id), || self.status().is_none_or(|status| status == "STOPPED"));
    }

    /// Deletes the task; `ctr` warns of an exit code that is not 0.
    pub(crate) fn delete(&self) -> Output {
        ctr(&["task", "rm", &self.id]).run()
    }

    /// Starts a program in it, in the foreground.
    pub(crate) fn exec(&self, name: &str, words: &[&str]) -> Call {
        ctr(&["task", "exec", "--exec-id", name, &self.id]).words(words)
    }

    /// Runs a script in it to its end.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> Output {
        static EXECS: AtomicU32 = AtomicU32::new(0);
        let name = format!("x{}", EXECS.fetch_add(1, Ordering::Relaxed));
        self.exec(&name, &["sh", "-c", script]).run()
    }

    /// Starts a program in it that nobody waits for.
    pub(crate) fn exec_detached(&self, name: &str, words: &[&str]) -> Output {
        // `ctr` never removes the FIFOs of an exec that it did not wait for.
        let fifos = world().base().join("fifos").display().to_string();
        ctr(&["task", "exec", "-d", "--fifo-dir", &fifos, "--exec-id", name, &self.id]).words(words).run()
    }

    /// Everything that containerd told of it.
    pub(crate) fn story(&self) -> Vec<String> {
        events::story(&self.id)
    }
}
