//! A container that is checkpointed and restored, and what is seen of it from outside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use conformance::bundle::Bundle;
use conformance::runtime::{Call, Output};
use conformance::test::Test;
use conformance::{look, reaper};
use serde_json::Value;

/// A shell that counts into the file /count of its root for ever, by a process of its own for each number.
pub(crate) const COUNT: &str = "n=0; while :; do n=$((n+1)); echo $n >/count; sleep 0.2; done";
/// What `make test-checkpoint` makes of probe/kept.c: in the root of settings/engines there is no compiler.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/probes/kept");

/// A container with its bundle, and directories for its images and for CRIU's logs.
pub(crate) struct Subject<'t> {
    pub(crate) t: &'t Test<'t>,
    pub(crate) id: String,
    pub(crate) bundle: Bundle,
    pub(crate) images: PathBuf,
    pub(crate) work: PathBuf,
}

impl<'t> Subject<'t> {
    pub(crate) fn new(t: &'t Test<'t>, bundle: Bundle) -> Self {
        let id = t.id();
        let images = t.file(&format!("{id}-images"));
        let work = t.file(&format!("{id}-work"));
        Self { t, id, bundle, images, work }
    }

    /// One that runs `kept` with these words; not yet started.
    pub(crate) fn kept(t: &'t Test<'t>, words: &[&str]) -> Self {
        let mut bundle = t.bundle();
        fs::copy(KEPT, bundle.inside("/bin/kept")).unwrap_or_else(|error| panic!("{KEPT}: {error}"));
        bundle.args(&[&["/bin/kept"], words].concat());
        Self::new(t, bundle)
    }

    /// One that counts, not yet started.
    pub(crate) fn counter(t: &'t Test<'t>) -> Self {
        Self::kept(t, &["count"])
    }

    /// One that counts, and has begun to.
    #[track_caller]
    pub(crate) fn counting(t: &'t Test<'t>) -> Self {
        let subject = Self::counter(t).run();
        subject.counts_on(3);
        subject
    }

    fn log(&self) -> PathBuf {
        self.t.file(&format!("{}.log", self.id))
    }

    /// `run -d`, with its streams on /dev/null: CRIU cannot dump a file of the host.
    #[track_caller]
    pub(crate) fn run(self) -> Self {
        let output = self.run_call().streams([Stdio::null(), Stdio::null(), Stdio::null()]).output();
        let said = || fs::read_to_string(self.log()).unwrap_or_default();
        assert!(output.status.success(), "{} failed: {}", output.command, said());
        self
    }

    /// `run -d`, not yet made.
    pub(crate) fn run_call(&self) -> Call<'t> {
        self.bundle.write();
        let log = self.log();
        let call = self.t.call(&["run", &self.id]).global("--log").global(log);
        call.options(&["-d".as_ref(), "--bundle".as_ref(), self.bundle.path.as_os_str()])
    }

    /// `checkpoint` with its images and logs in their directories, not yet made.
    pub(crate) fn checkpoint_call(&self, options: &[&str]) -> Call<'t> {
        fs::create_dir_all(&self.work).expect("cannot make a directory");
        let call = self.t.call(&["checkpoint", &self.id]);
        call.options(&["--image-path".as_ref(), self.images.as_os_str(), "--work-path".as_ref(), self.work.as_os_str()])
            .options(options)
    }

    pub(crate) fn checkpoint(&self, options: &[&str]) -> Output {
        self.checkpoint_call(options).output()
    }

    /// `restore` from there, not yet made. config.json is written first.
    pub(crate) fn restore_call(&self, options: &[&str]) -> Call<'t> {
        fs::create_dir_all(&self.work).expect("cannot make a directory");
        self.bundle.write();
        let call = self.t.call(&["restore", &self.id]);
        call.options(&["--image-path".as_ref(), self.images.as_os_str(), "--work-path".as_ref(), self.work.as_os_str()])
            .options(&["--bundle".as_ref(), self.bundle.path.as_os_str()])
            .options(options)
    }

    /// `restore -d`.
    pub(crate) fn restore(&self, options: &[&str]) -> Output {
        self.restore_call(&[&["-d"], options].concat()).output()
    }

    /// `restore -d`, which has to work.
    #[track_caller]
    pub(crate) fn restored(&self, options: &[&str]) -> i32 {
        self.restore(options).ok();
        self.pid()
    }

    /// Checkpoint, the container's end, and `restore -d`.
    #[track_caller]
    pub(crate) fn goes_and_comes(&self, options: &[&str]) -> i32 {
        self.checkpoint(options).ok();
        self.is_gone();
        self.restored(options)
    }

    /// A command of the runtime on this container.
    pub(crate) fn call(&self, command: &str) -> Call<'t> {
        self.t.call(&[command, &self.id])
    }

    pub(crate) fn state(&self) -> Option<Value> {
        let output = self.call("state").output();
        output.status.success().then(|| output.json())
    }

    #[track_caller]
    pub(crate) fn status(&self) -> String {
        let state = self.state().unwrap_or_else(|| panic!("{} is not there", self.id));
        state["status"].as_str().unwrap_or_default().to_owned()
    }

    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        let state = self.state().unwrap_or_else(|| panic!("{} is not there", self.id));
        state["pid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("a pid")
    }

    /// Runs a script in it, which must succeed; what it printed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        self.t.call(&["exec", &self.id, "/bin/sh", "-c", script]).output().ok().stdout().trim().to_owned()
    }

    /// What a file of its root holds.
    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.bundle.inside(path)).unwrap_or_default().trim().to_owned()
    }

    /// How far it has counted.
    #[track_caller]
    pub(crate) fn count(&self) -> u64 {
        let mut count = None;
        look::eventually("a number in /count", || {
            count = self.read("/count").parse().ok();
            count.is_some()
        });
        count.unwrap_or_default()
    }

    /// It counts some more, upwards from where it is.
    #[track_caller]
    pub(crate) fn counts_on(&self, by: u64) -> u64 {
        let mut last = self.read("/count").parse().unwrap_or(0);
        let goal = last + by;
        look::eventually("it to count on", || {
            let now = self.read("/count").parse().unwrap_or(last);
            assert!(now >= last, "it counts backwards: {last}, {now}");
            last = now;
            now >= goal
        });
        last
    }

    /// Nothing is there of it: the runtime does not know it, and it has no state, no cgroup.
    #[track_caller]
    pub(crate) fn is_gone(&self) {
        assert!(self.state().is_none(), "the runtime still knows it");
        let dir = self.t.runtime.root.join(&self.id);
        assert!(!dir.exists(), "there still is {}", dir.display());
        eventually("the cgroups to go", || cgroups(&self.id).is_empty());
    }

    /// It ends, by force.
    #[track_caller]
    pub(crate) fn delete(&self) {
        self.t.call(&["delete", "--force", &self.id]).output().ok();
        self.is_gone();
    }

    /// Ends by a signal, and is deleted as what has ended.
    #[track_caller]
    pub(crate) fn is_killed_and_deleted(&self) {
        self.t.call(&["kill", &self.id, "KILL"]).output().ok();
        eventually("it to have stopped", || self.status() == "stopped");
        self.call("delete").output().ok();
        self.is_gone();
    }
}

/// The cgroups that carry this id.
pub(crate) fn cgroups(id: &str) -> Vec<PathBuf> {
    let named = |dir: &PathBuf| dir.file_name().is_some_and(|name| name.to_string_lossy().contains(id));
    look::cgroup_dirs().into_iter().filter(named).collect()
}

/// Waits, and reaps what ends meanwhile.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let done = look::eventually_within(Duration::from_secs(10), || {
        reaper::collect();
        condition()
    });
    assert!(done, "waited in vain for: {what}");
}

/// The lines of /proc/PID/status that say what a process may do.
pub(crate) fn privileges(pid: i32) -> String {
    let text = look::proc_text(pid, "status");
    let names = ["Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp:"];
    let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join("\n")
}

/// The sizes of all files of a directory together, without following links.
pub(crate) fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| entry.path().symlink_metadata().ok());
    sizes.filter(fs::Metadata::is_file).map(|meta| meta.len()).sum()
}
