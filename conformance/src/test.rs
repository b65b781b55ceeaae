//! One test under way: a directory, a runtime with a state directory of its own
//! in it, the containers made so far, and at the end the search for leaks.

use std::cell::{Cell, RefCell};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::bundle::{Bundle, Template};
use crate::container::Container;
use crate::leaks::{self, Scope, Snapshot};
use crate::runtime::{Call, Kind, Output, Runtime};
use crate::{reaper, sys};

/// Why a test was not carried out.
#[derive(Debug)]
pub struct Skip(pub String);

/// What a test function returns: nothing, or that it cannot say anything here.
pub type Done = Result<(), Skip>;

/// What all tests of one run of the suite share.
#[derive(Debug)]
pub struct Suite {
    base: TempDir,
    template: Template,
    program: PathBuf,
    scope: Scope,
    tests: AtomicU32,
}

impl Suite {
    /// Makes the run's directory below the system's temporary one.
    pub fn new(program: PathBuf) -> Self {
        let tag = format!("cf{}", std::process::id());
        let base = tempfile::Builder::new().prefix(&format!("{tag}-")).tempdir().expect("no temporary directory");
        // Users of user namespaces have to reach their root file system.
        fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).expect("cannot chmod");
        let template = Template::prepare(base.path());
        let scope = Scope { base: base.path().to_owned(), tag };
        Self { base, template, program, scope, tests: AtomicU32::new(0) }
    }

    /// Begins a test.
    pub fn begin(&self) -> Test<'_> {
        reaper::forget_all();
        let number = self.tests.fetch_add(1, Ordering::Relaxed);
        let dir = self.base.path().join(number.to_string());
        fs::create_dir(&dir).expect("cannot make a test's directory");
        Test {
            runtime: Runtime::new(self.program.clone(), &dir),
            before: self.scope.snapshot(),
            dir,
            suite: self,
            number,
            names: Cell::new(0),
            ids: RefCell::new(Vec::new()),
        }
    }

    /// Ends what is left of a test, whatever it was, and says what could not be ended.
    pub fn clean_up(&self) -> Vec<String> {
        let left = leaks::sweep(self.base.path(), &self.scope.tag);
        if left.is_empty() {
            for entry in fs::read_dir(self.base.path()).into_iter().flatten().filter_map(Result::ok) {
                if entry.path().is_dir()
                    && let Err(error) = fs::remove_dir_all(entry.path())
                {
                    return vec![format!("cannot remove {}: {error}", entry.path().display())];
                }
            }
        }
        left
    }
}

/// Makes this process the parent of its tests' orphans, and gives it a mount
/// namespace whose mounts are shared within it, as they are on most machines:
/// what a runtime mounts by mistake is seen here and does no harm to the host.
pub fn set_apart(want: &str) {
    sys::become_subreaper().expect("cannot become a subreaper");
    unshare(CloneFlags::CLONE_NEWNS).unwrap_or_else(|errno| panic!("cannot make a mount namespace, {want}: {errno}"));
    for flags in [MsFlags::MS_PRIVATE, MsFlags::MS_SHARED] {
        mount(None::<&str>, "/", None::<&str>, flags | MsFlags::MS_REC, None::<&str>).expect("cannot set propagation");
    }
}

/// One test under way.
#[derive(Debug)]
pub struct Test<'s> {
    /// The runtime under test.
    pub runtime: Runtime,
    /// A directory for whatever the test needs.
    pub dir: PathBuf,
    suite: &'s Suite,
    before: Snapshot,
    number: u32,
    names: Cell<u32>,
    ids: RefCell<Vec<String>>,
}

impl Test<'_> {
    fn next(&self) -> u32 {
        self.names.replace(self.names.get() + 1)
    }

    /// A container id that no other test has; what it names is deleted at the end.
    pub fn id(&self) -> String {
        let id = format!("{}-{}-{}", self.suite.scope.tag, self.number, self.next());
        self.ids.borrow_mut().push(id.clone());
        id
    }

    /// The word that the ids of the run's containers begin with; a cgroup whose
    /// path has it is removed at the end.
    pub fn tag(&self) -> &str {
        &self.suite.scope.tag
    }

    /// A new bundle: busybox, the default config, the program `/bin/true`.
    pub fn bundle(&self) -> Bundle {
        Bundle::new(self.dir.join(format!("bundle{}", self.next())), &self.suite.template)
    }

    /// A new bundle whose program runs until it is killed.
    pub fn sleeping_bundle(&self) -> Bundle {
        let mut bundle = self.bundle();
        bundle.args(&["/bin/sleep", "1000"]);
        bundle
    }

    /// A new bundle whose program is `script`.
    pub fn sh_bundle(&self, script: &str) -> Bundle {
        let mut bundle = self.bundle();
        bundle.sh(script);
        bundle
    }

    /// A path in the test's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes a directory in the test's directory.
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let dir = self.file(name);
        fs::create_dir_all(&dir).expect("cannot make a directory");
        dir
    }

    /// Writes a file in the test's directory.
    pub fn make_file(&self, name: &str, content: &str) -> PathBuf {
        let file = self.file(name);
        fs::write(&file, content).expect("cannot write a file");
        file
    }

    /// A call of the runtime.
    pub fn call(&self, args: &[&str]) -> Call<'_> {
        self.runtime.call(args)
    }

    /// `create`, not yet made, with a pid file at [`Test::pid_file`].
    pub fn create_call(&self, bundle: &Bundle, id: &str) -> Call<'_> {
        bundle.write();
        self.call(&["create", id]).options(&[
            "--bundle".as_ref(),
            bundle.path.as_os_str(),
            "--pid-file".as_ref(),
            self.pid_file(id).as_os_str(),
        ])
    }

    /// `run` in the foreground, not yet made.
    pub fn run_call(&self, bundle: &Bundle, id: &str) -> Call<'_> {
        bundle.write();
        self.call(&["run", id]).options(&["--bundle".as_ref(), bundle.path.as_os_str()])
    }

    /// Where [`Test::create_call`] has the pid written.
    pub fn pid_file(&self, id: &str) -> PathBuf {
        self.file(&format!("{id}.pid"))
    }

    /// A container that has been created and not started.
    #[track_caller]
    pub fn create(&self, bundle: &Bundle) -> Container<'_> {
        let id = self.id();
        let output = self.create_call(bundle, &id).output().ok();
        self.container(id, output)
    }

    /// A container whose `create` has been made by the test itself, with the pid file.
    #[track_caller]
    pub fn container(&self, id: String, output: Output) -> Container<'_> {
        let text = fs::read_to_string(self.pid_file(&id)).expect("create wrote no pid file");
        let pid = text.parse().unwrap_or_else(|_| panic!("the pid file holds {text:?}"));
        Container::new(self, id, pid, output)
    }

    /// A container that has been created and started.
    #[track_caller]
    pub fn start(&self, bundle: &Bundle) -> Container<'_> {
        let container = self.create(bundle);
        container.start();
        container
    }

    /// A container whose program runs until it is killed.
    #[track_caller]
    pub fn sleeper(&self) -> Container<'_> {
        self.start(&self.sleeping_bundle())
    }

    /// Runs a container in the foreground to its end.
    pub fn run(&self, bundle: &Bundle) -> Output {
        self.run_call(bundle, &self.id()).output()
    }

    /// Runs a container in the foreground, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn prints(&self, bundle: &Bundle) -> String {
        self.run(bundle).ok().stdout()
    }

    /// Runs `script` in the container of `bundle` and returns what it printed.
    #[track_caller]
    pub fn sh(&self, bundle: &mut Bundle, script: &str) -> String {
        bundle.sh(script);
        self.prints(bundle)
    }

    /// `create` must fail, and must leave all as if it had never been tried.
    #[track_caller]
    pub fn refuses(&self, bundle: &Bundle) -> Output {
        let id = self.id();
        let output = self.create_call(bundle, &id).output().fails();
        assert!(!self.pid_file(&id).exists(), "a pid file was written by a create that failed");
        self.assert_clean_failure(&output);
        output
    }

    /// `run` must fail by an error of the runtime, and must leave nothing.
    #[track_caller]
    pub fn refuses_run(&self, bundle: &Bundle) -> Output {
        let output = self.run_call(bundle, &self.id()).output().fails();
        self.assert_clean_failure(&output);
        output
    }

    /// A failed call has said something, proa just one line, and has left nothing.
    #[track_caller]
    pub fn assert_clean_failure(&self, output: &Output) {
        let said = output.stderr();
        assert!(!said.trim().is_empty(), "failed without a word: {}", output.command);
        if self.is_proa() {
            let lines = said.trim_end().lines().count();
            assert_eq!(lines, 1, "an error is one line: {said}");
        }
        self.assert_nothing_left();
    }

    /// Nothing is there now that was not there when the test began.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let leaks = self.leaks();
        assert!(leaks.is_empty(), "left behind:\n  {}", leaks.join("\n  "));
    }

    /// What is there now beyond what there was when the test began.
    pub fn leaks(&self) -> Vec<String> {
        let mut leaks = self.suite.scope.leaks(&self.before, &self.runtime.root);
        if self.is(Kind::Crun) {
            // It leaves the cgroup of many a creation that fails, which is known and would
            // hide all else that its failures show.
            leaks.retain(|leak| !leak.starts_with("cgroup "));
        }
        leaks
    }

    /// Deletes the containers that are left, as a user would, and says what remains then.
    pub fn finish(&self) -> Vec<String> {
        for id in self.ids.borrow().iter() {
            if self.runtime.root.join(id).exists() {
                let output = self.call(&["delete", "--force", id]).output();
                if !output.status.success() {
                    return vec![format!("delete --force {id} failed: {}", output.stderr().trim_end())];
                }
            }
        }
        self.leaks()
    }

    /// Whether this runtime is under test.
    pub fn is(&self, kind: Kind) -> bool {
        self.runtime.kind == kind
    }

    /// Skips the test on a runtime that is known to do it otherwise than the specification or
    /// runc; with `CONFORMANCE_RUN_ALL` in the environment it is run all the same, to see
    /// whether the difference is still there.
    pub fn peer_differs(&self, kind: Kind, reason: &str) -> Done {
        if self.is(kind) && std::env::var_os("CONFORMANCE_RUN_ALL").is_none() {
            Err(Skip(format!("{}: {reason}", self.runtime_name())))
        } else {
            Ok(())
        }
    }

    /// Skips the test on any runtime but proa.
    pub fn proa_only(&self, reason: &str) -> Done {
        if self.runtime.kind == Kind::Proa { Ok(()) } else { Err(Skip(format!("proa's own: {reason}"))) }
    }

    /// Skips the test under the systemd driver.
    pub fn not_by_systemd(&self, reason: &str) -> Done {
        if self.runtime.systemd { Err(Skip(format!("with systemd: {reason}"))) } else { Ok(()) }
    }

    /// Skips the test where the machine lacks something.
    pub fn needs(&self, there: bool, what: &str) -> Done {
        if there { Ok(()) } else { Err(Skip(format!("not on this machine: {what}"))) }
    }

    /// Whether proa is under test.
    pub fn is_proa(&self) -> bool {
        self.runtime.kind == Kind::Proa
    }

    /// Fails the test unless the message has one of these phrases, in any case.
    /// The phrases are runc's, which engines look for: proa and runc are held to
    /// them, others only to failing.
    #[track_caller]
    pub fn phrase(&self, output: &Output, texts: &[&str]) {
        let said = output.stderr().to_lowercase();
        let found = texts.iter().any(|text| said.contains(&text.to_lowercase()));
        let bound = matches!(self.runtime.kind, Kind::Proa | Kind::Runc);
        assert!(found || !bound, "{} says none of {texts:?} but {said:?}", output.command);
    }

    /// Fails the test if proa is under test and its message lacks `text`.
    #[track_caller]
    pub fn proa_says(&self, output: &Output, text: &str) {
        let said = output.stderr();
        assert!(!self.is_proa() || said.contains(text), "the message does not name {text:?}: {said}");
    }

    fn runtime_name(&self) -> String {
        self.runtime.program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The path of a program of this crate, such as `deny`.
    pub fn helper(&self, name: &str) -> PathBuf {
        let me = std::env::current_exe().expect("no own path");
        let dir = me.ancestors().find(|dir| dir.join(name).is_file());
        dir.map(|dir| dir.join(name)).unwrap_or_else(|| panic!("{name} is not built: cargo build -p conformance"))
    }

    /// Puts the static program made of `conformance/probe/NAME.c` into the bundle as `/bin/NAME`. It is made once for
    /// all tests of a run.
    ///
    /// # Errors
    /// The machine has no C compiler, or no static C library.
    pub fn probe(&self, bundle: &Bundle, name: &str) -> Done {
        let program = self.base().join(name);
        if !program.exists() {
            let source = format!("{}/probe/{name}.c", env!("CARGO_MANIFEST_DIR"));
            let arguments = ["-O2", "-static", "-pthread", "-o"];
            let made = Command::new("cc").args(arguments).arg(&program).arg(source).status();
            self.needs(made.is_ok_and(|status| status.success()), "a C compiler and a static C library")?;
        }
        fs::hard_link(&program, bundle.inside(&format!("/bin/{name}"))).expect("cannot link a probe");
        Ok(())
    }

    /// The run's directory, with the run's copy of busybox.
    pub fn base(&self) -> &Path {
        self.suite.base.path()
    }
}
