//! The daemon: started, told of the runtime, restarted below containers that go on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conformance::image::{BUSYBOX, Image};
use conformance::look;
use conformance::test::{Done, Skip};

use crate::cli::{ok, sh, sleeper};
use crate::command::{Call, Running};

crate::cases! {
    info_names_the_runtime,
    a_runtime_that_is_not_there,
    containers_survive_the_daemon,
    containers_survive_a_killed_daemon,
    users_of_the_containers_are_remapped,
    without_live_restore_they_end_with_it,
    checkpoint_and_restore,
}

static DAEMON: Mutex<Option<Running>> = Mutex::new(None);

fn daemon() -> MutexGuard<'static, Option<Running>> {
    DAEMON.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends the daemon when it is dropped.
pub(super) struct End;

impl Drop for End {
    fn drop(&mut self) {
        daemon().take();
    }
}

/// Starts the daemon and waits until it answers.
pub(super) fn start(options: &[&str]) {
    let mut running = Call::new("dockerd", options).start("/var/log/dockerd");
    let answers = look::eventually_within(Duration::from_secs(60), || {
        Call::new("docker", &["version"]).run().success() || !running.is_running()
    });
    assert!(answers && running.is_running(), "dockerd does not answer: {}", running.log());
    *daemon() = Some(running);
}

fn stop() {
    daemon().take();
}

fn info_names_the_runtime() -> Done {
    let info = ok(&["info", "--format", "{{.DefaultRuntime}} {{json .Runtimes}}"]);
    assert!(info.starts_with("proa ") && info.contains("\"proa\":"), "{info}");
    let info = ok(&["info"]);
    assert!(info.contains("Default Runtime: proa"), "{info}");
    let container = sleeper("");
    assert_eq!(container.inspect("/HostConfig/Runtime"), "proa");
    Ok(())
}

/// Two containers while the daemon is away: one that goes on, one that ends.
fn restarted(end: impl FnOnce()) -> Done {
    stop();
    start(&["--live-restore"]);
    let container = sleeper("--name survivor -p 127.0.0.1:8083:80");
    let pid = container.pid();
    end();
    assert!(look::is_alive(pid), "the container ended with the daemon");
    start(&["--live-restore"]);
    assert_eq!((container.status().as_str(), container.pid()), ("running", pid));
    assert_eq!(container.sh("echo fine"), "fine");
    container.ok("pause");
    container.ok("unpause");
    container.ok("stop");
    assert_eq!(container.wait(), "0");
    // One that ends while nobody watches.
    let container = crate::cli::start("", &["sh", "-c", "sleep 1; exit 7"]);
    let pid = container.pid();
    stop();
    look::eventually("its end", || !look::is_alive(pid));
    start(&["--live-restore"]);
    // With which status it does not know, with any runtime.
    look::eventually("the daemon to see it", || container.status() == "exited");
    container.ok("start");
    assert_eq!(container.wait(), "7");
    stop();
    start(&[]);
    Ok(())
}

fn containers_survive_the_daemon() -> Done {
    restarted(stop)
}

fn containers_survive_a_killed_daemon() -> Done {
    restarted(|| {
        let mut running = daemon().take().expect("it runs");
        let pid = nix::unistd::Pid::from_raw(running.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("it runs");
        look::eventually("the end of the daemon", || !running.is_running());
        // Its containerd is killed with it, and is nobody's child but ours.
        look::eventually("the end of its containerd", || {
            conformance::reaper::collect();
            look::descendants(std::process::id() as i32)
                .into_iter()
                .all(|pid| look::stat(pid).is_none_or(|stat| stat.comm != "containerd"))
        });
    })
}

/// Every container then has a user namespace, in a file system with an id map.
fn users_of_the_containers_are_remapped() -> Done {
    stop();
    start(&["--userns-remap", "user"]);
    crate::cli::load(&Image::new(BUSYBOX));
    let container = sleeper("--memory 64m -v remapped:/data");
    let script =
        "awk '{ print $1, $2, $3 }' /proc/self/uid_map; id -u; stat -c %u /bin/busybox; touch /data/x && echo fine";
    assert_eq!(container.sh(script), "0 100000 65536\n0\n0\nfine");
    assert_eq!(look::status(container.pid()).ruid, 100_000);
    assert_eq!(container.call("exec -u guest", &["id", "-u"]).run().text(), "1000");
    assert_eq!(sh("--privileged --userns host", "awk '{ print $2 }' /proc/self/uid_map"), "0");
    container.ok("rm -f");
    ok(&["volume", "rm", "remapped"]);
    stop();
    start(&[]);
    Ok(())
}

fn without_live_restore_they_end_with_it() -> Done {
    stop();
    start(&[]);
    let container = sleeper("--restart always");
    let pid = container.pid();
    stop();
    assert!(!look::is_alive(pid));
    start(&[]);
    look::eventually("the container to be started again", || container.status() == "running");
    assert_ne!(container.pid(), pid);
    Ok(())
}

fn a_runtime_that_is_not_there() -> Done {
    let said = crate::cli::run("--runtime nosuch", &["true"]).fails();
    assert!(said.err.contains("nosuch"), "{}", said.err);
    assert_eq!(sh("--runtime proa", "echo fine"), "fine");
    Ok(())
}

/// An experiment of Docker's, which restores only what needs no network of its own: to others it wants to give that of
/// process 0, with any runtime.
fn checkpoint_and_restore() -> Done {
    stop();
    start(&["--experimental"]);
    let script = "n=0; while :; do n=$((n+1)); echo $n >/n; sleep 0.2; done";
    let container = crate::cli::start("--network host", &["sh", "-c", script]);
    let count = || container.call("exec", &["cat", "/n"]).run().out.trim().parse::<u32>().unwrap_or(0);
    look::eventually("it to count", || count() > 2);
    ok(&["checkpoint", "create", "--leave-running", &container.id, "first"]);
    let before = count();
    look::eventually("it to go on", || count() > before);
    let last = count();
    ok(&["checkpoint", "create", &container.id, "second"]);
    let others = std::fs::read_to_string(super::SETTINGS).is_ok_and(|text| !text.contains("io.containerd.runc.v2"));
    if others && !look::eventually_within(Duration::from_secs(3), || container.status() == "exited") {
        container.ok("rm -f");
        stop();
        start(&[]);
        return Err(Skip("Docker tells no other shim than io.containerd.runc.v2 to end what it has saved".to_owned()));
    }
    look::eventually("its end", || container.status() == "exited");
    assert_eq!(ok(&["checkpoint", "ls", &container.id]).lines().count(), 3);
    ok(&["start", "--checkpoint", "second", &container.id]);
    look::eventually("it to count on", || count() > last);
    assert!(look::is_alive(container.pid()));
    container.ok("rm -f");
    stop();
    start(&[]);
    Ok(())
}
