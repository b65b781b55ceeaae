//! Attacks by the image's own files: links where the runtime mounts, makes or masks something, before it looks and while
//! it does.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use conformance::bundle::Bundle;
use conformance::console::Receiver;
use conformance::look;
use conformance::test::{Done, Test};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;

use crate::{Canary, safe};

crate::attacks! {
    "CVE-2019-19921 CVE-2023-27561 CVE-2025-54867" => proc_and_sys_are_links,
    "CVE-2019-16884" => proc_is_covered,
    "CVE-2021-30465" => target_is_swapped,
    "CVE-2024-45310" => target_that_is_missing_is_swapped,
    "CVE-2026-41579 CVE-2026-47766" => dev_is_a_link,
    "CVE-2025-52565 CVE-2026-88264" => console_is_a_link,
    "CVE-2025-31133 CVE-2025-62161 CVE-2026-88265" => null_device_is_a_link,
    "CVE-2025-31133" => null_device_is_swapped,
    "CVE-2026-115521" => own_proc_in_the_image,
    "" => cgroup_mount_point_is_a_link,
    "" => volumes_propagate_nothing,
}

/// Exchanges a directory with a link to the canary until it is dropped.
struct Swap {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Swap {
    fn new(real: &Path, link: &Path) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, real, link) = (stop.clone(), real.to_owned(), link.to_owned());
        let thread = std::thread::spawn(move || {
            let mut rounds = 0;
            while !flag.load(Ordering::Relaxed) {
                let exchanged = renameat2(AT_FDCWD, &real, AT_FDCWD, &link, RenameFlags::RENAME_EXCHANGE);
                assert!(exchanged.is_ok() || rounds > 0, "cannot exchange: {exchanged:?}");
                rounds += 1;
            }
            rounds
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let rounds = self.thread.take().map_or(0, |thread| thread.join().unwrap_or(0));
        if !std::thread::panicking() {
            assert!(rounds > 0, "nothing was exchanged");
        }
        log::info!("{rounds} exchanges");
    }
}

/// How many containers race.
fn rounds() -> usize {
    std::env::var("ATTACK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

fn without_mount(bundle: &mut Bundle, below: &str) {
    let mounts = bundle.config["mounts"].as_array_mut().expect("no mounts");
    mounts.retain(|mount| !mount["destination"].as_str().is_some_and(|path| path.starts_with(below)));
}

fn proc_and_sys_are_links(t: &Test<'_>, _: &Canary) -> Done {
    for (name, target) in
        [("proc", "/bad"), ("proc", "bad"), ("sys", "/bad"), ("sys", "bad/missing"), ("proc", "/bad/x")]
    {
        let mut bundle = t.sh_bundle("ls -A /bad /bad/x 2>/dev/null; :");
        fs::remove_dir(bundle.inside(name)).expect("cannot remove");
        fs::create_dir_all(bundle.inside("/bad/x")).expect("cannot make a directory");
        symlink(target, bundle.inside(name)).expect("cannot link");
        if name == "sys" {
            without_mount(&mut bundle, "/sys/");
        }
        let output = t.run(&bundle);
        let reached = output.stdout().lines().any(|line| ["self", "kernel", "sys"].contains(&line));
        safe(!reached, || format!("{name} -> {target}: the file system is where the image says"));
    }
    Ok(())
}

fn proc_is_covered(t: &Test<'_>, _: &Canary) -> Done {
    let dir = t.make_dir("dir");
    for destination in ["/proc/self/attr", "/proc/sys", "/proc/sys/kernel", "/proc/1", "/proc"] {
        let mut bundle = t.bundle();
        bundle.bind(&dir, destination, &["bind"]);
        safe(!t.run(&bundle).status.success(), || format!("a volume covers {destination}"));
    }
    Ok(())
}

/// A volume in which `real` is exchanged with a link to the canary.
fn swapped(t: &Test<'_>, canary: &Canary, bundle: &mut Bundle) -> (PathBuf, Swap) {
    let volume = t.make_dir("volume");
    fs::create_dir_all(volume.join("real/below")).expect("cannot make a directory");
    symlink(&canary.dir, volume.join("link")).expect("cannot link");
    bundle.bind(&volume, "/v", &["rbind"]);
    let swap = Swap::new(&volume.join("real"), &volume.join("link"));
    (volume, swap)
}

fn target_is_swapped(t: &Test<'_>, canary: &Canary) -> Done {
    let mut bundle = t.sh_bundle("cat /proc/self/mountinfo");
    let source = t.make_dir("source");
    let (_volume, swap) = swapped(t, canary, &mut bundle);
    bundle.bind(&source, "/v/real/below", &["bind"]);
    let mut made = 0;
    for _ in 0..rounds() {
        let output = t.run(&bundle);
        let host = fs::read_to_string("/proc/self/mountinfo").expect("no mounts");
        safe(!host.contains("/canary"), || "something is mounted on the canary".to_owned());
        if output.status.success() {
            // Wherever the link has led, it is inside.
            let there = output.stdout().lines().any(|line| line.contains("/source "));
            safe(there, || "a mount is not in the container".to_owned());
            made += 1;
        }
    }
    drop(swap);
    assert!(made > 0, "no container was made");
    Ok(())
}

fn target_that_is_missing_is_swapped(t: &Test<'_>, canary: &Canary) -> Done {
    let mut bundle = t.bundle();
    let (volume, swap) = swapped(t, canary, &mut bundle);
    let (dir, file) = (t.make_dir("source"), t.make_file("file", "x"));
    bundle.bind(&dir, "/v/real/made/dir", &["bind"]).bind(&file, "/v/real/made-file", &["bind"]);
    for _ in 0..rounds() {
        t.run(&bundle);
        for place in ["real", "link"] {
            fs::remove_dir_all(volume.join(place).join("made")).ok();
        }
        let made = ["made", "made-file"].iter().find(|name| canary.dir.join(name).exists());
        safe(made.is_none(), || format!("{made:?} was made on the host"));
    }
    drop(swap);
    Ok(())
}

fn dev_is_a_link(t: &Test<'_>, canary: &Canary) -> Done {
    let up = format!("../../../../../../../../../..{}", canary.text());
    for (target, mounted) in [(canary.text(), false), (up.clone(), false), (canary.text(), true), (up, true)] {
        let mut bundle = t.bundle();
        fs::remove_dir(bundle.inside("/dev")).expect("cannot remove");
        symlink(target, bundle.inside("/dev")).expect("cannot link");
        // As far as the link leads inside, there is a directory.
        fs::create_dir_all(bundle.inside(&canary.text())).expect("cannot make a directory");
        if !mounted {
            without_mount(&mut bundle, "/dev");
        }
        bundle.linux("devices", json!([{"path": "/dev/own", "type": "c", "major": 1, "minor": 3}]));
        // The canary tells.
        t.run(&bundle);
    }
    Ok(())
}

fn console_is_a_link(t: &Test<'_>, canary: &Canary) -> Done {
    for target in [canary.dir.join("new"), canary.dir.join("secret"), "/proc/sysrq-trigger".into()] {
        let mut bundle = t.sh_bundle("cat /proc/self/mountinfo >/list; exec sleep 1000");
        bundle.process("terminal", json!(true));
        without_mount(&mut bundle, "/dev");
        symlink(&target, bundle.inside("/dev/console")).expect("cannot link");
        let receiver = Receiver::listen(&t.file("s"));
        let id = t.id();
        let options = ["--console-socket".as_ref(), receiver.path.as_os_str()];
        let output = t.create_call(&bundle, &id).options(&options).output();
        fs::remove_file(&receiver.path).expect("cannot remove a socket");
        if !output.status.success() {
            continue;
        }
        let c = t.container(id, output);
        let mounts = look::proc_text(c.pid, "mountinfo");
        let wrong = mounts
            .lines()
            .find(|line| line.contains("devpts") && !line.contains("/dev/console ") && !line.contains(" /dev/pts "));
        safe(wrong.is_none(), || format!("the terminal is mounted where the link leads: {wrong:?}"));
        let there = fs::symlink_metadata(look::root_of(c.pid, "/dev/console")).is_ok_and(|meta| !meta.is_symlink());
        safe(there, || "the link is still /dev/console".to_owned());
        c.call("delete").options(&["--force"]).output().ok();
    }
    Ok(())
}

/// What a masked file of the container is, told by stat.
fn masks(bundle: &mut Bundle) {
    bundle.linux("maskedPaths", json!(["/proc/kcore", "/proc/keys", "/proc/timer_list"]));
    bundle
        .sh("for f in kcore keys timer_list; do [ -e /proc/$f ] && stat -L -c '%F %t:%T %n' /proc/$f; done; echo done");
}

#[track_caller]
fn assert_masked(text: &str) {
    for line in text.lines().filter(|line| *line != "done") {
        safe(line.starts_with("character special file 1:3 "), || format!("masked by something else: {line}"));
    }
}

fn null_device_is_a_link(t: &Test<'_>, canary: &Canary) -> Done {
    for target in ["/proc/sys/kernel/core_pattern".to_owned(), canary.dir.join("secret").display().to_string()] {
        let mut bundle = t.bundle();
        masks(&mut bundle);
        without_mount(&mut bundle, "/dev");
        symlink(&target, bundle.inside("/dev/null")).expect("cannot link");
        assert_masked(&t.run(&bundle).stdout());
    }
    // One that is there, and is no device.
    let mut bundle = t.bundle();
    masks(&mut bundle);
    without_mount(&mut bundle, "/dev");
    bundle.bind(&canary.dir.join("secret"), "/dev/null", &["bind"]);
    let text = t.run(&bundle).stdout();
    assert_masked(&text);
    Ok(())
}

fn null_device_is_swapped(t: &Test<'_>, _: &Canary) -> Done {
    let volume = t.make_dir("dev");
    fs::create_dir(volume.join("pts")).expect("cannot make a directory");
    nix::sys::stat::mknod(
        &volume.join("null"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::from_bits_truncate(0o666),
        nix::sys::stat::makedev(1, 3),
    )
    .expect("cannot make a device");
    symlink("/proc/sys/kernel/core_pattern", volume.join("link")).expect("cannot link");
    let mut bundle = t.bundle();
    masks(&mut bundle);
    without_mount(&mut bundle, "/dev");
    bundle.bind(&volume, "/dev", &["rbind"]);
    let swap = Swap::new(&volume.join("null"), &volume.join("link"));
    for _ in 0..rounds() {
        assert_masked(&t.run(&bundle).stdout());
    }
    drop(swap);
    Ok(())
}

/// A runtime that goes by /proc/self/fd goes by what the image has there.
fn own_proc_in_the_image(t: &Test<'_>, _: &Canary) -> Done {
    let mut bundle = t.bundle();
    without_mount(&mut bundle, "/proc");
    bundle.remove("/linux/maskedPaths").remove("/linux/readonlyPaths");
    fs::create_dir_all(bundle.inside("/proc/self/fd")).expect("cannot make a directory");
    fs::create_dir_all(bundle.inside("/decoy")).expect("cannot make a directory");
    for fd in 0..64 {
        symlink("/decoy", bundle.inside(&format!("/proc/self/fd/{fd}"))).expect("cannot link");
    }
    symlink("self", bundle.inside("/proc/thread-self")).expect("cannot link");
    bundle.bind(&t.make_dir("volume"), "/volume", &["bind", "ro"]);
    bundle.mount("/tmpfs", "tmpfs", "tmpfs", &["ro"]);
    bundle.config["root"]["readonly"] = json!(true);
    bundle.sh("for dir in / /volume /tmpfs /decoy; do touch $dir/made 2>/dev/null && echo $dir; done; :");
    let text = t.run(&bundle).stdout();
    safe(text.is_empty(), || format!("writable: {}", text.replace('\n', " ")));
    Ok(())
}

fn cgroup_mount_point_is_a_link(t: &Test<'_>, canary: &Canary) -> Done {
    for target in [canary.text(), "/proc".to_owned(), "/proc/sys".to_owned()] {
        let mut bundle = t.sh_bundle("[ -e /proc/sys/kernel ] || echo covered");
        without_mount(&mut bundle, "/sys");
        fs::create_dir_all(bundle.inside("/sys/fs")).expect("cannot make a directory");
        symlink(target, bundle.inside("/sys/fs/cgroup")).expect("cannot link");
        bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
        safe(t.run(&bundle).stdout().is_empty(), || "/proc is covered".to_owned());
    }
    Ok(())
}

/// What the container mounts stays its own, whatever propagation it asks for.
fn volumes_propagate_nothing(t: &Test<'_>, _: &Canary) -> Done {
    for (root, options) in [("rprivate", "rprivate"), ("rslave", "rslave"), ("private", "slave")] {
        let volume = t.make_dir("volume");
        let mut bundle = t.bundle();
        bundle.linux("rootfsPropagation", json!(root)).capabilities(&["CAP_SYS_ADMIN"]);
        bundle.bind(&volume, "/v", &["rbind", options]).mount("/v/made", "tmpfs", "tmpfs", &[]);
        bundle.sh("mkdir -p /v/later && mount -t tmpfs none /v/later; grep -c ' /v/' /proc/mounts");
        t.run(&bundle);
        let host = fs::read_to_string("/proc/self/mountinfo").expect("no mounts");
        safe(!host.contains("/volume/"), || format!("{root}, {options}: mounts of the container are on the host"));
    }
    Ok(())
}
