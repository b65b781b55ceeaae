//! A containerd of the run's own: its config, state and sockets are in the run's directory, so that it can be killed
//! and started again while the shims that it started live on.
//!
//! Not here: what is asked of it (`ctr`), and what it says by itself (`events`).

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use conformance::image::{BUSYBOX, Image};
use conformance::look;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::ctr::ctr;
use super::events;

/// The namespace of all tests' containers.
pub(crate) const NAMESPACE: &str = "suite";

/// What all tests of a run share.
pub(crate) struct World {
    dir: TempDir,
    /// The shim, as containerd knows it: `io.containerd.NAME.vN`.
    pub(crate) shim: String,
    /// The runtime below the shim.
    pub(crate) runtime: PathBuf,
    daemon: Mutex<Option<Child>>,
}

static WORLD: OnceLock<World> = OnceLock::new();

/// What all tests of a run share.
pub(crate) fn world() -> &'static World {
    WORLD.get().expect("begin was called")
}

/// Ends the daemon when dropped.
pub(crate) struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        world().end();
        fs::remove_dir_all(world().base()).ok();
    }
}

/// Starts containerd, and gives it an image.
pub(crate) fn begin() -> Running {
    let dir = tempfile::Builder::new().prefix("ctd").tempdir().expect("no temporary directory");
    let shim = std::env::var("SHIM_RUNTIME").unwrap_or_else(|_| "io.containerd.proa.v2".to_owned());
    let world = WORLD.get_or_init(|| World { dir, shim, runtime: crate::runtime(), daemon: Mutex::new(None) });
    let base = world.base();
    for sub in ["bin", "root", "state"] {
        fs::create_dir(base.join(sub)).expect("cannot make the run's directory");
    }
    // containerd looks for shims on its PATH, and shims for their runtime.
    symlink(&world.runtime, base.join("bin/proa")).expect("cannot link the runtime");
    if !world.is_control() {
        let name = world.shim_binary_name();
        symlink(crate::shim(), base.join("bin").join(name)).expect("cannot link the shim");
    }
    world.configure();
    world.start();
    let tar = base.join("image.tar");
    Image::new(BUSYBOX).write(&tar);
    ctr(&["image", "import", tar.to_str().expect("UTF-8")]).ok();
    fs::remove_file(tar).ok();
    Running
}

impl World {
    /// The run's directory.
    pub(crate) fn base(&self) -> &Path {
        self.dir.path()
    }

    /// Whether containerd's own shim is what runs: what it is known not to do is not asked of it.
    pub(crate) fn is_control(&self) -> bool {
        self.shim == "io.containerd.runc.v2"
    }

    /// `io.containerd.NAME.vN` is `containerd-shim-NAME-vN`.
    pub(crate) fn shim_binary_name(&self) -> String {
        let mut parts = self.shim.rsplit('.');
        let (version, name) = (parts.next().expect("a version"), parts.next().expect("a name"));
        format!("containerd-shim-{name}-{version}")
    }

    /// The shim's binary.
    pub(crate) fn shim_binary(&self) -> PathBuf {
        if self.is_control() { PathBuf::from("/usr/bin/containerd-shim-runc-v2") } else { crate::shim() }
    }

    /// Where containerd is asked.
    pub(crate) fn address(&self) -> String {
        format!("{}/c.sock", self.base().display())
    }

    /// Where the shim of a container has its bundle.
    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.base().join("state/io.containerd.runtime.v2.task").join(NAMESPACE).join(id)
    }

    fn configure(&self) {
        let base = self.base().display();
        // Kubernetes is another engine of this suite.
        let config = format!(
            "version = 3\nroot = '{base}/root'\nstate = '{base}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.cri.v1.images', \
             'io.containerd.cri.v1.runtime', 'io.containerd.podsandbox.controller.v1.podsandbox', \
             'io.containerd.internal.v1.opt']\n\
             [grpc]\naddress = '{}'\n",
            self.address()
        );
        fs::write(self.base().join("config.toml"), config).expect("cannot write a config");
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Child>> {
        // A test that failed while it held the lock has changed nothing that the next one cannot use.
        self.daemon.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Starts containerd and waits until it serves.
    pub(crate) fn start(&self) {
        self.start_with_path(&self.base().join("bin"));
    }

    /// Starts containerd with a directory in front of its PATH.
    pub(crate) fn start_with_path(&self, first: &Path) {
        let log = File::options().create(true).append(true).open(self.base().join("containerd.log"));
        let log = log.expect("cannot open a log");
        let path = format!("{}:{}", first.display(), std::env::var("PATH").unwrap_or_default());
        let child = Command::new("containerd")
            .arg("--config")
            .arg(self.base().join("config.toml"))
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("cannot duplicate a descriptor"))
            .stderr(log)
            .spawn()
            .expect("cannot start containerd");
        *self.daemon() = Some(child);
        let serves =
            || ctr(&["version"]).limit(Duration::from_secs(5)).try_run().is_some_and(|output| output.code == 0);
        if !look::eventually_within(Duration::from_secs(20), serves) {
            panic!("containerd does not serve: {}", self.log());
        }
        events::listen();
    }

    /// The daemon's process.
    pub(crate) fn pid(&self) -> i32 {
        self.daemon().as_ref().map_or(0, |child| child.id() as i32)
    }

    /// Kills containerd as a crash does: its shims live on.
    pub(crate) fn kill(&self) {
        if let Some(mut child) = self.daemon().take() {
            child.kill().expect("cannot kill containerd");
            child.wait().expect("cannot wait for containerd");
        }
        events::stop();
    }

    /// Has containerd end by itself.
    pub(crate) fn end(&self) {
        if let Some(mut child) = self.daemon().take() {
            kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).ok();
            if !look::eventually_within(Duration::from_secs(10), || child.try_wait().is_ok_and(|ended| ended.is_some()))
            {
                child.kill().ok();
                child.wait().ok();
            }
        }
        events::stop();
    }

    /// What containerd has written so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.base().join("containerd.log")).unwrap_or_default()
    }
}
