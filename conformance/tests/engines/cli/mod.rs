//! What the clients of Docker and Podman have in common: their words, and the tests of all that both can do.
//!
//! Not here: how an engine is set up, and what it alone can do.

mod exec;
mod files;
mod life;
mod limits;
mod network;
mod privileges;
mod run;
mod terminal;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use conformance::image::{BUSYBOX, Image};
use conformance::leaks::{Scope, Snapshot};
use conformance::look;
use serde_json::Value;

use crate::Case;
use crate::command::{Call, Said};

/// The tests that both pass.
pub(crate) const TOPICS: &[&[Case]] = &[
    run::CASES,
    terminal::CASES,
    exec::CASES,
    life::CASES,
    watch::CASES,
    limits::CASES,
    privileges::CASES,
    files::CASES,
    network::CASES,
];

/// The engine under test.
pub(crate) struct Engine {
    /// Its client.
    pub(crate) program: &'static str,
    /// Removes every container.
    pub(crate) clear: fn(),
    /// Where the runtime may keep what it knows of containers.
    pub(crate) states: &'static [&'static str],
}

static ENGINE: OnceLock<Engine> = OnceLock::new();
static BEFORE: Mutex<Option<Snapshot>> = Mutex::new(None);

/// Makes `engine` the one under test, which must run: loads the image, and remembers what the machine looks like. What
/// an engine makes once and keeps (its bridge, its cgroup) is made before.
pub(crate) fn begin(engine: Engine) {
    assert!(ENGINE.set(engine).is_ok(), "one engine in a process");
    load(&Image::new(BUSYBOX));
    sh("-p 8099:80", "true");
    sh("--network host", "true");
    clear();
    *before() = Some(scope().snapshot());
    assert!(crate::AFTER.set(left).is_ok(), "begun twice");
}

/// Everything: the root has no other users.
fn scope() -> Scope {
    Scope { base: "/no/directory".into(), tag: "/no tag/".to_owned() }
}

fn before() -> MutexGuard<'static, Option<Snapshot>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn engine() -> &'static Engine {
    ENGINE.get().expect("an engine that has begun")
}

fn clear() {
    (engine().clear)();
}

/// Removes what a test has left as a user would, and says what is there now beyond what there was at the beginning.
fn left() -> Vec<String> {
    clear();
    let mut before = before();
    let mut left = Vec::new();
    // Engines tidy up after the client has got its answer.
    look::eventually_within(Duration::from_secs(3), || {
        left = scope().leaks(before.as_ref().expect("begun"), Path::new("/no/directory"));
        left.extend(states().map(|path| format!("state {}", path.display())));
        left.retain(|thing| !is_the_engines(thing));
        left.is_empty()
    });
    if !left.is_empty() {
        // It is told once.
        *before = Some(scope().snapshot());
        states().for_each(|path| drop(std::fs::remove_dir_all(path)));
    }
    left
}

/// A daemon that a test has restarted; the cgroup that all containers are below, which goes with the last of them.
fn is_the_engines(thing: &str) -> bool {
    ["/docker", "/libpod_parent"].iter().any(|name| thing.ends_with(name))
        || [" (dockerd) ", " (containerd) "].iter().any(|name| thing.contains(name))
}

/// What the runtime knows of.
fn states() -> impl Iterator<Item = PathBuf> {
    let entries = engine().states.iter().flat_map(|dir| std::fs::read_dir(dir).into_iter().flatten().flatten());
    // crun keeps such for all containers.
    entries.map(|entry| entry.path()).filter(|path| !path.to_string_lossy().contains("/."))
}

/// Whether this engine is under test.
pub(crate) fn is_podman() -> bool {
    engine().program == "podman"
}

/// A command of the client.
pub(crate) fn call(words: &[&str]) -> Call {
    Call::new(engine().program, words).env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1").env("DOCKER_BUILDKIT", "0")
}

/// A command of the client that succeeds; what it printed.
#[track_caller]
pub(crate) fn ok(words: &[&str]) -> String {
    call(words).run().text()
}

/// Gives the engine an image.
pub(crate) fn load(image: &Image) {
    let file = tempfile::NamedTempFile::new().expect("no temporary file");
    image.write(file.path());
    call(&["load", "-i", file.path().to_str().expect("a path in UTF-8")]).run().ok();
}

/// `run`, with options that have no spaces in them.
pub(crate) fn run_call(options: &str, program: &[&str]) -> Call {
    let mut words = vec!["run"];
    words.extend(options.split_whitespace());
    words.push(BUSYBOX);
    words.extend(program);
    call(&words)
}

/// Runs a container to its end.
#[track_caller]
pub(crate) fn run(options: &str, program: &[&str]) -> Said {
    run_call(&format!("--rm {options}"), program).run()
}

/// Runs a script in a container of its own; what it printed.
#[track_caller]
pub(crate) fn sh(options: &str, script: &str) -> String {
    run(options, &["sh", "-c", script]).text()
}

/// Starts a container that runs on its own.
#[track_caller]
pub(crate) fn start(options: &str, program: &[&str]) -> Container {
    let out = run_call(&format!("-d {options}"), program).run().text();
    // Warnings may stand before it.
    Container { id: out.lines().last().expect("an id").to_owned() }
}

/// What runs until it is stopped, and then at once.
pub(crate) const SLEEP: [&str; 3] = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];

/// Starts a container that runs until it is stopped.
#[track_caller]
pub(crate) fn sleeper(options: &str) -> Container {
    start(options, &SLEEP)
}

/// A container that the engine knows.
pub(crate) struct Container {
    pub(crate) id: String,
}

impl Container {
    /// Its first process.
    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        let pid = self.inspect("/State/Pid").as_i64().expect("a number");
        assert!(pid > 0, "{} does not run", self.id);
        pid as i32
    }

    /// A value of what `inspect` says, by a JSON pointer.
    #[track_caller]
    pub(crate) fn inspect(&self, pointer: &str) -> Value {
        let text = ok(&["inspect", &self.id]);
        let all: Value = serde_json::from_str(&text).expect("inspect prints JSON");
        all[0].pointer(pointer).unwrap_or_else(|| panic!("no {pointer} in {text}")).clone()
    }

    #[track_caller]
    pub(crate) fn status(&self) -> String {
        self.inspect("/State/Status").as_str().expect("a text").to_owned()
    }

    /// A command of the client about it: `VERB [OPTIONS] ID [MORE]`.
    pub(crate) fn call(&self, verb: &str, more: &[&str]) -> Call {
        let mut words: Vec<&str> = verb.split_whitespace().collect();
        words.push(&self.id);
        words.extend(more);
        call(&words)
    }

    /// That, which succeeds; what it printed.
    #[track_caller]
    pub(crate) fn ok(&self, verb: &str) -> String {
        self.call(verb, &[]).run().text()
    }

    /// `exec` of a script that succeeds; what it printed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        self.call("exec", &["sh", "-c", script]).run().text()
    }

    /// Waits for its end; its status.
    #[track_caller]
    pub(crate) fn wait(&self) -> String {
        self.ok("wait")
    }
}
