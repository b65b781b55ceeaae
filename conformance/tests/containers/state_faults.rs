//! What goes wrong behind the runtime's back: it is killed at any moment, pids
//! are used again, the machine was rebooted, files are broken, two do the same
//! at once.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use conformance::bundle::Bundle;
use conformance::look;
use conformance::reaper;
use conformance::runtime::Kind;
use conformance::sys;
use conformance::test::{Done, Test};
use nix::sys::signal::Signal;
use serde_json::json;

crate::cases! {
    "" => create_killed_at_any_moment,
    "" => run_detached_killed_at_any_moment,
    "" => start_killed_at_any_moment,
    "" => delete_killed_at_any_moment,
    "" => run_killed_leaves_what_delete_removes,
    "" => init_killed_before_start,
    "" => init_is_a_zombie,
    "" => reused_pid_is_not_the_container,
    "" => reboot_ends_every_container,
    "" => broken_state_file,
    "" => empty_state_directory_of_a_container,
    "" => two_creations_of_one_id,
    "R-31" => two_starts_at_once,
    "" => two_deletes_at_once,
    "" => start_and_delete_at_once,
    "" => bundle_is_gone,
    "" => state_directory_cannot_be_made,
    "" => root_is_private,
    "" => caller_is_killed_with_its_group,
}

/// A creation takes some milliseconds: these fall all over it.
fn moments() -> impl Iterator<Item = Duration> {
    (0..24).map(|step| Duration::from_micros(step * 350))
}

/// Kills the call after `delay`; whether it was still running then.
fn kill_after(t: &Test<'_>, running: conformance::runtime::Running, delay: Duration) -> bool {
    std::thread::sleep(delay);
    running.kill(Signal::SIGKILL);
    running.wait(&t.runtime).code() == 128 + 9
}

/// Removes a container whatever has become of it, and looks for leftovers.
#[track_caller]
fn remove(t: &Test<'_>, id: &str) {
    t.call(&["delete", id]).options(&["--force"]).output().ok();
    let listed = t.call(&["list", "-q"]).output();
    assert!(!listed.stdout().lines().any(|line| line == id), "{id} is still listed");
    t.assert_nothing_left();
}

fn create_killed_at_any_moment(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "keeps no record before the container is made")?;
    t.peer_differs(Kind::Crun, "keeps no record before the container is made")?;
    let bundle = t.sleeping_bundle();
    let mut killed = 0;
    for moment in moments() {
        let id = t.id();
        let running = t.create_call(&bundle, &id).spawn();
        killed += u32::from(kill_after(t, running, moment));
        remove(t, &id);
        fs::remove_file(t.pid_file(&id)).ok();
    }
    assert!(killed >= 3, "only {killed} creations were under way when they were killed");
    Ok(())
}

fn run_detached_killed_at_any_moment(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "keeps no record before the container is made")?;
    t.peer_differs(Kind::Crun, "keeps no record before the container is made")?;
    let bundle = t.sleeping_bundle();
    for moment in moments().step_by(2) {
        let id = t.id();
        let running = t.run_call(&bundle, &id).options(&["--detach"]).spawn();
        kill_after(t, running, moment);
        remove(t, &id);
    }
    Ok(())
}

fn start_killed_at_any_moment(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    for step in 0..8 {
        let c = t.create(&bundle);
        let running = c.call("start").spawn();
        kill_after(t, running, Duration::from_micros(step * 200));
        let status = c.status();
        assert!(["created", "running", "stopped"].contains(&status.as_str()), "{status}");
        // The order may have been on its way when its giver was killed.
        if status == "created" && t.is_proa() {
            c.call("start").output();
            c.assert_status("running");
        }
        remove(t, &c.id);
    }
    Ok(())
}

fn delete_killed_at_any_moment(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    for step in 0..12 {
        let c = t.start(&bundle);
        let running = c.call("delete").options(&["--force"]).spawn();
        kill_after(t, running, Duration::from_micros(step * 200));
        remove(t, &c.id);
    }
    Ok(())
}

fn run_killed_leaves_what_delete_removes(t: &Test<'_>) -> Done {
    let id = t.id();
    let running = t.run_call(&t.sh_bundle("echo ready; exec sleep 1000"), &id).spawn();
    look::eventually("the program to run", || running.stdout().contains("ready"));
    running.kill(Signal::SIGKILL);
    running.wait(&t.runtime).exits(128 + 9);
    let state = t.call(&["state", &id]).output().ok().json();
    assert_eq!(state["status"], "running", "the container lives without its caller");
    remove(t, &id);
    Ok(())
}

fn init_killed_before_start(t: &Test<'_>) -> Done {
    let c = t.create(&t.sleeping_bundle());
    c.murder();
    c.assert_status("stopped");
    c.call("start").output().fails();
    c.delete();
    t.assert_nothing_left();
    Ok(())
}

fn init_is_a_zombie(t: &Test<'_>) -> Done {
    // Its parent, the engine, has not waited for it yet.
    let c = t.sleeper();
    reaper::keep(c.pid);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(c.pid), Signal::SIGKILL).expect("cannot kill");
    look::eventually("init to end", || look::stat(c.pid).is_some_and(|stat| stat.state == 'Z'));
    c.assert_status("stopped");
    c.call("kill").arg("TERM").output().fails();
    c.exec(&["true"]).output().fails();
    c.delete();
    reaper::release(c.pid);
    t.assert_nothing_left();
    Ok(())
}

/// Starts a process of this number, or gives up after many tries.
fn process_with_pid(pid: i32) -> Option<Child> {
    for _ in 0..200 {
        fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).ok()?;
        let mut command = Command::new("/bin/sleep");
        command.arg("500").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().ok()?;
        reaper::keep(child.id() as i32);
        if child.id() as i32 == pid {
            return Some(child);
        }
        end(&mut child);
    }
    None
}

fn end(child: &mut Child) {
    child.kill().expect("cannot kill");
    child.wait().expect("cannot wait");
    reaper::release(child.id() as i32);
}

fn reused_pid_is_not_the_container(t: &Test<'_>) -> Done {
    let (running, created) = (t.sleeper(), t.create(&t.sleeping_bundle()));
    // Start times are counted in ticks of 10 ms: within one a process cannot be told from the one before it.
    std::thread::sleep(Duration::from_millis(25));
    for c in [&running, &created] {
        c.murder();
        let innocent = process_with_pid(c.pid);
        t.needs(innocent.is_some(), "pids that can be asked for (ns_last_pid)")?;
        let mut innocent = innocent.expect("just looked");
        c.assert_status("stopped");
        c.call("kill").arg("KILL").output().fails();
        c.call("start").output().fails();
        c.exec(&["true"]).output().fails();
        let list = t.call(&["list", "--format", "json"]).output().ok().json();
        let item = list.as_array().and_then(|all| all.iter().find(|item| item["id"] == c.id.as_str())).cloned();
        assert_eq!(item.map(|item| item["status"].clone()), Some(json!("stopped")));
        t.call(&["delete", &c.id]).options(&["--force"]).output().ok();
        assert!(look::is_alive(innocent.id() as i32), "another process was killed");
        end(&mut innocent);
    }
    t.assert_nothing_left();
    Ok(())
}

fn reboot_ends_every_container(t: &Test<'_>) -> Done {
    // A machine that was rebooted has another boot id, and its processes have
    // nothing to do with those of before, even of the same pid and start time.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("no boot id");
    let boot = boot.trim();
    let c = t.sleeper();
    let mut changed = 0;
    for entry in fs::read_dir(t.runtime.root.join(&c.id)).expect("no state directory").filter_map(Result::ok) {
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        for form in [boot.to_owned(), boot.replace('-', "")] {
            if text.contains(&form) {
                let other: String = form
                    .chars()
                    .map(|c| {
                        if c == '0' {
                            '1'
                        } else if c.is_ascii_hexdigit() {
                            '0'
                        } else {
                            c
                        }
                    })
                    .collect();
                fs::write(entry.path(), text.replace(&form, &other)).expect("cannot write");
                changed += 1;
            }
        }
    }
    t.needs(changed > 0 || t.is_proa(), "a runtime that records the boot id")?;
    assert!(changed > 0, "no boot id in the state");
    c.assert_status("stopped");
    c.call("kill").arg("KILL").output().fails();
    assert!(look::is_alive(c.pid), "a process of this boot was killed for one of another");
    t.call(&["delete", &c.id]).options(&["--force"]).output().ok();
    let survived = look::is_alive(c.pid);
    assert!(survived || !t.runtime.root.join(&c.id).exists());
    if survived {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(c.pid), Signal::SIGKILL).expect("cannot kill");
        c.wait();
        // Of another boot there would be none.
        for dir in look::cgroup_dirs().iter().filter(|dir| dir.ends_with(&c.id)) {
            fs::remove_dir(dir).expect("cannot remove a cgroup");
        }
    }
    Ok(())
}

/// Overwrites what a runtime keeps of a container, under whatever name.
fn spoil(dir: &Path, content: &str) {
    for entry in fs::read_dir(dir).expect("no state directory").filter_map(Result::ok) {
        let name = entry.file_name();
        if entry.file_type().is_ok_and(|kind| kind.is_file()) && name != "config.json" {
            fs::write(entry.path(), content).expect("cannot write");
        }
    }
}

fn broken_state_file(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "cannot delete it any more")?;
    for content in ["", "{", "{\"id\": 5}", "\0\0\0\0"] {
        let (other, c) = (t.create(&t.sleeping_bundle()), t.create(&t.sleeping_bundle()));
        spoil(&t.runtime.root.join(&c.id), content);
        c.call("state").output().fails();
        c.call("start").output().fails();
        let listed = t.call(&["list", "-q"]).output().stdout();
        assert!(listed.lines().any(|line| line == other.id), "the others are listed: {listed}");
        c.call("delete").options(&["--force"]).output().ok();
        assert!(!t.runtime.root.join(&c.id).exists());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(c.pid), Signal::SIGKILL).ok();
        look::eventually("init to end", || {
            reaper::collect();
            !look::is_alive(c.pid)
        });
        other.delete();
    }
    Ok(())
}

fn empty_state_directory_of_a_container(t: &Test<'_>) -> Done {
    let id = t.id();
    fs::create_dir_all(t.runtime.root.join(&id)).expect("cannot make a directory");
    t.call(&["list"]).output().ok();
    t.call(&["start", &id]).output().fails();
    let output = t.create_call(&t.sleeping_bundle(), &id).output();
    if output.status.success() {
        t.container(id, output).delete();
    } else {
        t.call(&["delete", &id]).options(&["--force"]).output().ok();
    }
    Ok(())
}

/// Makes the calls at the same time; how many succeeded.
fn at_once(t: &Test<'_>, calls: Vec<conformance::runtime::Call<'_>>) -> usize {
    let running: Vec<_> = calls.into_iter().map(conformance::runtime::Call::spawn).collect();
    running.into_iter().map(|running| running.wait(&t.runtime)).filter(|output| output.status.success()).count()
}

fn two_creations_of_one_id(t: &Test<'_>) -> Done {
    let bundles: Vec<Bundle> = (0..4).map(|_| t.sleeping_bundle()).collect();
    for _ in 0..4 {
        let id = t.id();
        let calls = bundles.iter().map(|bundle| t.create_call(bundle, &id)).collect();
        assert_eq!(at_once(t, calls), 1, "creations that succeeded");
        let state = t.call(&["state", &id]).output().ok().json();
        assert_eq!(state["status"], "created");
        remove(t, &id);
    }
    Ok(())
}

fn two_starts_at_once(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "one may wait for ever")?;
    let bundle = t.sleeping_bundle();
    for _ in 0..4 {
        let c = t.create(&bundle);
        let calls = (0..3).map(|_| c.call("start")).collect();
        let succeeded = at_once(t, calls);
        assert_eq!(succeeded, 1, "starts that succeeded");
        c.assert_status("running");
        remove(t, &c.id);
    }
    Ok(())
}

fn two_deletes_at_once(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    for _ in 0..4 {
        let c = t.start(&bundle);
        let calls = (0..3).map(|_| c.call("delete").options(&["--force"])).collect();
        assert!(at_once(t, calls) >= 1, "none succeeded");
        t.assert_nothing_left();
    }
    Ok(())
}

fn start_and_delete_at_once(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    for step in 0..8 {
        let c = t.create(&bundle);
        let start = c.call("start").spawn();
        std::thread::sleep(Duration::from_micros(step * 150));
        let delete = c.call("delete").options(&["--force"]).spawn();
        start.wait(&t.runtime);
        delete.wait(&t.runtime);
        remove(t, &c.id);
    }
    Ok(())
}

fn bundle_is_gone(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    let c = t.create(&bundle);
    fs::rename(&bundle.path, t.file("elsewhere")).expect("cannot rename");
    c.start();
    if !t.is(Kind::Runc) {
        assert_eq!(c.sh("echo fine"), "fine\n");
    }
    c.assert_status("running");
    c.call("delete").options(&["--force"]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn state_directory_cannot_be_made(t: &Test<'_>) -> Done {
    let file = t.make_file("file", "x");
    let bundle = t.bundle();
    bundle.write();
    let root = file.join("root");
    let call = t.call(&["--root", root.to_str().expect("UTF-8"), "create", "--bundle"]).default_root();
    let output = call.arg(&bundle.path).arg(t.id()).output().fails();
    t.assert_clean_failure(&output);
    t.proa_says(&output, root.to_str().expect("UTF-8"));
    Ok(())
}

fn root_is_private(t: &Test<'_>) -> Done {
    use std::os::unix::fs::PermissionsExt;
    let id = t.id();
    let output = t.create_call(&t.sleeping_bundle(), &id).umask(0).output().ok();
    let c = t.container(id, output);
    let mode = |path: &Path| fs::metadata(path).expect("not there").permissions().mode();
    assert_eq!(mode(&t.runtime.root.join(&c.id)) & 0o022, 0, "others may write there");
    if t.is_proa() {
        assert_eq!(mode(&t.runtime.root) & 0o077, 0);
    }
    Ok(())
}

fn caller_is_killed_with_its_group(t: &Test<'_>) -> Done {
    // An engine may end, and its whole session with it: the container stays.
    let id = t.id();
    let bundle = t.sleeping_bundle();
    let wrapper = ["setsid", "--wait"];
    let output = t.create_call(&bundle, &id).wrapper(&wrapper).output().ok();
    let c = t.container(id, output);
    let pidfd = sys::pidfd_open(c.pid).expect("no pidfd");
    assert!(!look::exits_within(&pidfd, Duration::from_millis(30)), "init ended with its creator");
    c.start();
    c.assert_status("running");
    Ok(())
}
