//! A machine that is short of something: disks are full where the shim and the runtime write, and calls of the runtime are
//! killed for want of memory. Who asked is told, nothing is left, and all works again when there is enough.
//!
//! Not here: logs on a full disk (`logs`), a container's own limit of memory (`ordering`).

use std::fs;
use std::path::{Path, PathBuf};

use conformance::look;
use conformance::test::{Done, Skip};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::proto::Code;
use nix::mount::{MsFlags, mount, umount};

use super::bare::{self, Dialect, Shim, ask, bundle, command, story, wait_for};
use super::daemon::{NAMESPACE, world};
use super::fake::Fake;
use super::faults::on_fake;
use super::fixture::Test;

crate::cases![
    a_full_disk_below_the_bundle,
    a_full_disk_below_the_runtime_s_state,
    a_runtime_that_is_killed_in_create,
    a_runtime_that_is_killed_in_start,
    a_runtime_that_is_killed_in_exec,
    a_runtime_that_is_killed_in_delete,
    a_runtime_that_is_killed_in_delete_by_command,
];

/// A small disk, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).expect("cannot make a directory");
        mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), Some("size=1m")).expect("cannot mount");
        Self(at.to_owned())
    }

    /// Takes all that is left.
    fn fill(&self) {
        let written = fs::write(self.0.join("filler"), vec![0; 2 << 20]);
        assert_eq!(written.expect_err("it is full").raw_os_error(), Some(libc::ENOSPC));
    }

    fn free(&self) {
        fs::remove_file(self.0.join("filler")).expect("cannot remove");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount(&self.0).ok();
    }
}

fn is_full(text: &str) -> bool {
    text.to_lowercase().contains("no space left")
}

/// A bundle on a disk of its own, with its root elsewhere.
fn bundle_on_a_disk(t: &Test, id: &str) -> (Disk, conformance::bundle::Bundle) {
    let mut bundle = bundle(t, id);
    let root = t.dir.join("root");
    fs::rename(bundle.rootfs(), &root).expect("cannot move the root");
    bundle.set("root", serde_json::json!({ "path": root }));
    let disk = Disk::mount(&bundle.path);
    fs::create_dir(bundle.rootfs()).expect("cannot make a directory");
    (disk, bundle)
}

fn a_full_disk_below_the_bundle() -> Done {
    if world().is_control() {
        return Err(Skip("containerd's own shim keeps what it could not create".into()));
    }
    let t = Test::begin();
    let id = t.id();
    let (disk, bundle) = bundle_on_a_disk(&t, &id);
    bundle.write();
    let log = bare::open_log(&bundle);
    disk.fill();
    let input = bare::options("").write_to_bytes().expect("a message");
    let (status, told) = ask(command(&bundle, &id, "start"), &input);
    let told = String::from_utf8_lossy(&told).into_owned();
    assert_eq!(status, 1, "{told}");
    assert!(is_full(&told) && told.trim().lines().count() == 1, "{told}");
    look::eventually("no shim", || super::oracle::shims_of(&id).is_empty());
    disk.free();
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    disk.fill();
    let refused = task.create(&bundle.path).expect_err("it is full");
    assert!(is_full(&refused.message), "{refused:?}");
    assert_eq!(task.state("").expect_err("it is not there").code, Code::NOT_FOUND);
    disk.free();
    task.create(&bundle.path).expect("Create");
    disk.fill();
    // What runs is not touched by it.
    task.start("").expect("Start");
    let refused = task.exec("x", &["true"]).expect_err("it is full");
    assert!(is_full(&refused.message), "{refused:?}");
    assert_eq!(task.status(), "RUNNING");
    task.pause().expect("Pause");
    task.resume().expect("Resume");
    disk.free();
    task.exec("x", &["true"]).expect("Exec");
    task.start("x").expect("Start");
    assert_eq!(task.wait("x").expect("Wait"), 0);
    task.delete("x").expect("Delete");
    disk.fill();
    task.finish();
    shim.shutdown(&id);
    drop((log, disk));
    t.end()
}

fn a_full_disk_below_the_runtime_s_state() -> Done {
    if world().is_control() {
        return Err(Skip("containerd's own shim is sent no TOML".into()));
    }
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let root = t.dir.join("state");
    let disk = Disk::mount(&root);
    let options = bare::generic_options(&format!("Root = '{}'\n", root.display()));
    let shim = Shim::start_with(&bundle, &id, Dialect::Legacy, options);
    let task = shim.task(&id);
    disk.fill();
    let refused = task.create(&bundle.path).expect_err("it is full");
    assert!(is_full(&refused.message), "{refused:?}");
    assert!(!root.join(NAMESPACE).join(&id).exists(), "its state is left");
    disk.free();
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    disk.fill();
    task.exec("x", &["true"]).expect("Exec");
    // Whether the runtime has to write something for it or not.
    if task.start("x").is_ok() {
        assert_eq!(task.wait("x").expect("Wait"), 0);
    }
    task.delete("x").expect("Delete");
    assert_eq!(task.status(), "RUNNING");
    task.finish();
    shim.shutdown(&id);
    drop(disk);
    t.end()
}

#[track_caller]
fn is_told(text: &str, what: &str) {
    // containerd's own shim has the words of Go.
    let words = if world().is_control() { "signal: killed" } else { "was ended by signal 9" };
    assert!(text.contains(words) && (text.contains(what) || world().is_control()), "{text}");
}

fn a_runtime_that_is_killed_in_create() -> Done {
    if world().is_control() {
        return Err(Skip("containerd's own shim leaves what a killed runtime has made".into()));
    }
    let t = Test::begin();
    let id = t.id();
    let (fake, shim, dir) = on_fake(&t, &id);
    let task = shim.task(&id);
    let with_nothing: fn(&Fake) = |fake| fake.dies("create");
    for how in [with_nothing, |fake| fake.dies_half("create"), |fake| fake.dies_late("create")] {
        how(&fake);
        let refused = task.create(&dir).expect_err("the runtime is killed");
        is_told(&refused.message, "create");
        assert_eq!(task.state("").expect_err("it is not there").code, Code::NOT_FOUND);
        assert!(
            !look::cgroup_dirs().iter().any(|dir| dir.ends_with(format!("{NAMESPACE}/{id}"))),
            "its cgroup is left"
        );
        fake.well();
    }
    task.create(&dir).expect("Create");
    task.start("").expect("Start");
    task.finish();
    shim.shutdown(&id);
    t.end()
}

/// Nobody knows whether it runs: it is ended, and told of.
fn a_runtime_that_is_killed_in_start() -> Done {
    if world().is_control() {
        return Err(Skip("containerd's own shim leaves what a killed runtime has started".into()));
    }
    let t = Test::begin();
    let id = t.id();
    let (fake, shim, dir) = on_fake(&t, &id);
    let task = shim.task(&id);
    task.create(&dir).expect("Create");
    fake.dies_late("start");
    is_told(&task.start("").expect_err("the runtime is killed").message, "start");
    assert_eq!(task.wait("").expect("Wait"), 137);
    fake.well();
    task.delete("").expect("Delete");
    wait_for(&id, "delete");
    assert_eq!(story(&id), ["create", "exit init 137", "delete"]);
    shim.shutdown(&id);
    t.end()
}

fn a_runtime_that_is_killed_in_exec() -> Done {
    if world().is_control() {
        return Err(Skip("containerd's own shim leaves a process that a killed runtime has started".into()));
    }
    let t = Test::begin();
    let id = t.id();
    let (fake, shim, dir) = on_fake(&t, &id);
    let task = shim.task(&id);
    task.create(&dir).expect("Create");
    task.start("").expect("Start");
    let with_nothing: fn(&Fake) = |fake| fake.dies("exec");
    for how in [with_nothing, |fake| fake.dies_late("exec")] {
        how(&fake);
        task.exec("x", &["sleep", "1000"]).expect("Exec");
        is_told(&task.start("x").expect_err("the runtime is killed").message, "exec");
        task.delete("x").expect("Delete");
        look::eventually("no second process", || task.pids().expect("Pids").len() == 1);
        fake.well();
    }
    task.exec("x", &["true"]).expect("Exec");
    task.start("x").expect("Start");
    assert_eq!(task.wait("x").expect("Wait"), 0);
    task.delete("x").expect("Delete");
    task.finish();
    shim.shutdown(&id);
    t.end()
}

fn a_runtime_that_is_killed_in_delete() -> Done {
    if world().is_control() {
        return Err(Skip("containerd's own shim forgets the container that its runtime could not delete".into()));
    }
    let t = Test::begin();
    let id = t.id();
    let (fake, shim, dir) = on_fake(&t, &id);
    let task = shim.task(&id);
    let with_nothing: fn(&Fake) = |fake| fake.dies("delete");
    for how in [with_nothing, |fake| fake.dies_late("delete")] {
        task.create(&dir).expect("Create");
        task.start("").expect("Start");
        task.kill("", 9).expect("Kill");
        task.wait("").expect("Wait");
        how(&fake);
        is_told(&task.delete("").expect_err("the runtime is killed").message, "delete");
        fake.well();
        assert_eq!(task.delete("").expect("Delete").exit_status, 137);
    }
    shim.shutdown(&id);
    t.end()
}

fn a_runtime_that_is_killed_in_delete_by_command() -> Done {
    if world().is_control() {
        return Err(Skip("containerd's own shim takes no notice".into()));
    }
    let t = Test::begin();
    let id = t.id();
    let (fake, bundle) = super::deadlines::killed(&t, &id);
    fake.dies("delete");
    let (status, told) = ask(command(&bundle, &id, "delete"), &[]);
    assert_eq!(status, 1);
    is_told(&String::from_utf8_lossy(&told), "delete --force");
    fake.well();
    assert_eq!(ask(command(&bundle, &id, "delete"), &[]).0, 0);
    t.end()
}
