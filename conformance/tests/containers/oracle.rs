//! The leak oracle itself: it sees what it is there to see. Each test makes a
//! leak of one kind, looks, and takes it back.

use std::fs;
use std::process::{Command, Stdio};

use conformance::look;
use conformance::reaper;
use conformance::test::{Done, Test};
use nix::mount::{MsFlags, mount, umount};

crate::cases! {
    "" => sees_a_process,
    "" => sees_an_orphan,
    "" => sees_a_mount,
    "" => sees_a_cgroup,
    "" => sees_a_state_directory,
    "" => sees_a_descriptor,
}

#[track_caller]
fn sees(t: &Test<'_>, kind: &str) {
    let leaks = t.leaks();
    assert!(leaks.iter().any(|leak| leak.starts_with(kind)), "not seen: {leaks:?}");
}

fn sees_a_process(t: &Test<'_>) -> Done {
    let mut child = Command::new("sleep").arg("100").spawn().expect("cannot run sleep");
    reaper::keep(child.id() as i32);
    sees(t, "process ");
    child.kill().expect("cannot kill");
    child.wait().expect("cannot wait");
    reaper::release(child.id() as i32);
    Ok(())
}

fn sees_an_orphan(t: &Test<'_>) -> Done {
    let script = "setsid sh -c 'sleep 100 & echo $!' & wait";
    let output = Command::new("sh")
        .args(["-c", script])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = output.expect("cannot run sh");
    reaper::keep(child.id() as i32);
    child.wait().expect("cannot wait");
    reaper::release(child.id() as i32);
    sees(t, "process ");
    for pid in look::descendants(std::process::id() as i32) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL)
            .expect("cannot kill");
    }
    drop(child);
    Ok(())
}

fn sees_a_mount(t: &Test<'_>) -> Done {
    let dir = t.make_dir("dir");
    mount(Some("leak"), &dir, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("cannot mount");
    sees(t, "mount ");
    umount(&dir).expect("cannot unmount");
    Ok(())
}

fn sees_a_cgroup(t: &Test<'_>) -> Done {
    let above = if look::cgroups() == look::Cgroups::Unified { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let dir = format!("{above}/{}-leak", t.tag());
    fs::create_dir(&dir).expect("cannot make a cgroup");
    if !t.is(conformance::runtime::Kind::Crun) {
        sees(t, "cgroup ");
    }
    fs::remove_dir(&dir).expect("cannot remove a cgroup");
    Ok(())
}

fn sees_a_state_directory(t: &Test<'_>) -> Done {
    let dir = t.runtime.root.join("leak");
    fs::create_dir_all(&dir).expect("cannot make a directory");
    sees(t, "state ");
    fs::remove_dir(&dir).expect("cannot remove a directory");
    Ok(())
}

fn sees_a_descriptor(t: &Test<'_>) -> Done {
    let file = fs::File::open("/dev/zero").expect("cannot open");
    sees(t, "descriptor ");
    drop(file);
    Ok(())
}
