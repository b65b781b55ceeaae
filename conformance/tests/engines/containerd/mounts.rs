//! Mounts: a container's root file system is nobody else's, and volumes propagate as they were asked to.

use std::fs;
use std::path::{Path, PathBuf};

use conformance::look;
use conformance::test::Done;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::daemon::world;
use super::fixture::Test;

crate::cases![
    nothing_of_the_root_file_system_is_left,
    nothing_is_left_when_the_start_fails,
    a_mount_of_the_host_s_reaches_a_slave_volume,
    a_mount_of_the_container_s_reaches_the_host_by_a_shared_volume,
    a_private_volume_stays_as_it_was,
    a_later_container_of_the_pod_sees_later_mounts,
    a_mount_below_the_bundle_is_no_obstacle,
];

fn nothing_of_the_root_file_system_is_left() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    c.sh("echo written >/file").ok();
    let rootfs = world().bundle(&c.id).join("rootfs");
    c.stop();
    c.delete().ok();
    assert!(!look::is_mounted(std::process::id() as i32, &rootfs.display().to_string()));
    assert!(!rootfs.exists(), "{}", rootfs.display());
    t.end()
}

fn nothing_is_left_when_the_start_fails() -> Done {
    let t = Test::begin();
    let (c, output) = t.container().try_start(&["/no/such/program"]);
    output.fails("/no/such/program");
    let prefix = world().bundle(&c.id);
    let left = look::mounts(std::process::id() as i32).into_iter().find(|m| m.mount_point.starts_with(&prefix));
    assert!(left.is_none(), "{left:?}");
    t.end()
}

/// A directory that is a shared mount, as volumes on most machines are; it is unmounted when dropped.
struct Volume(PathBuf);

impl Volume {
    fn new(t: &Test, name: &str) -> Self {
        let dir = t.dir.join(name);
        fs::create_dir_all(dir.join("sub")).expect("cannot make a directory");
        mount(Some(&dir), &dir, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("cannot bind");
        mount(None::<&str>, &dir, None::<&str>, MsFlags::MS_SHARED, None::<&str>).expect("cannot share");
        Self(dir)
    }

    fn sub(&self) -> PathBuf {
        self.0.join("sub")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        umount2(&self.sub(), MntFlags::MNT_DETACH).ok();
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
    }
}

/// Mounts a file system with one file in it.
fn mount_marked(dir: &Path) {
    mount(Some("none"), dir, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("cannot mount");
    fs::write(dir.join("mark"), "").expect("cannot write");
}

fn a_mount_of_the_host_s_reaches_a_slave_volume() -> Done {
    let t = Test::begin();
    let volume = Volume::new(&t, "volume");
    let plan = t.container().options(&["--null-io", "--privileged", "--rootfs-propagation", "rslave"]);
    let c = plan.bind(&volume.0, "/volume", "rbind:rslave").start(&["sleep", "1000"]);
    mount_marked(&volume.sub());
    assert_eq!(c.sh("ls /volume/sub").ok().text(), "mark\n");
    umount2(&volume.sub(), MntFlags::empty()).expect("the container holds it");
    assert_eq!(c.sh("ls /volume/sub").ok().text(), "");
    // The other way nothing goes.
    c.sh("mount -t tmpfs none /volume/sub").ok();
    assert!(!look::is_mounted(std::process::id() as i32, &volume.sub().display().to_string()));
    c.stop();
    c.delete().ok();
    drop(volume);
    t.end()
}

fn a_mount_of_the_container_s_reaches_the_host_by_a_shared_volume() -> Done {
    let t = Test::begin();
    let volume = Volume::new(&t, "volume");
    let plan = t.container().options(&["--null-io", "--privileged", "--rootfs-propagation", "rshared"]);
    let c = plan.bind(&volume.0, "/volume", "rbind:rshared").start(&["sleep", "1000"]);
    c.sh("mount -t tmpfs none /volume/sub && touch /volume/sub/mark").ok();
    assert!(volume.sub().join("mark").exists(), "the host does not see it");
    c.sh("umount /volume/sub").ok();
    assert!(!volume.sub().join("mark").exists());
    mount_marked(&volume.sub());
    assert_eq!(c.sh("ls /volume/sub").ok().text(), "mark\n");
    c.stop();
    c.delete().ok();
    // The end of the container is no end of the host's mount.
    assert!(volume.sub().join("mark").exists());
    drop(volume);
    t.end()
}

fn a_private_volume_stays_as_it_was() -> Done {
    let t = Test::begin();
    let volume = Volume::new(&t, "volume");
    let plan = t.container().options(&["--null-io", "--privileged"]);
    let c = plan.bind(&volume.0, "/volume", "rbind:rprivate").start(&["sleep", "1000"]);
    mount_marked(&volume.sub());
    assert_eq!(c.sh("ls /volume/sub").ok().text(), "");
    umount2(&volume.sub(), MntFlags::empty()).expect("the container holds it");
    c.sh("mount -t tmpfs none /volume/sub").ok();
    assert!(!look::is_mounted(std::process::id() as i32, &volume.sub().display().to_string()));
    c.stop();
    c.delete().ok();
    drop(volume);
    t.end()
}

fn a_later_container_of_the_pod_sees_later_mounts() -> Done {
    let t = Test::begin();
    let first = t.sleeper();
    // Made after the shim: one that keeps mounts of its own must still hear of the host's.
    let volume = Volume::new(&t, "later");
    mount_marked(&volume.sub());
    let of = format!("io.kubernetes.cri.sandbox-id={}", first.id);
    let plan = t.container().options(&["--null-io", "--annotation", &of]);
    let second = plan.bind(&volume.sub(), "/volume", "rbind:ro").start(&["sleep", "1000"]);
    assert_eq!(second.sh("ls /volume").ok().text(), "mark\n");
    second.stop();
    second.delete().ok();
    // And the host's unmount is not held up by a copy that the shim keeps.
    umount2(&volume.sub(), MntFlags::empty()).expect("somebody holds it");
    drop(volume);
    t.end()
}

fn a_mount_below_the_bundle_is_no_obstacle() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    // Something of the host's on the container's root file system, where that can be seen at all.
    let rootfs = world().bundle(&c.id).join("rootfs");
    let dir = rootfs.join("tmp");
    if dir.is_dir() {
        mount_marked(&dir);
    }
    c.stop();
    c.delete().ok();
    t.end()
}
