//! Crashes: containerd is killed and comes back, a shim is killed, a machine's administrator ends a shim.

use std::time::Duration;

use conformance::look;
use conformance::test::Done;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bare::{self, Shim, bundle, story, wait_for};
use super::ctr::ctr;
use super::daemon::world;
use super::events;
use super::fixture::{Container, Test};
use super::oracle;

crate::cases![
    containers_run_on_without_containerd,
    an_exit_while_containerd_is_down_is_known_after,
    an_exec_s_exit_while_containerd_is_down_is_known_after,
    a_pod_is_known_after_a_restart,
    a_stopped_task_is_deleted_after_a_restart,
    a_killed_shim_is_told_and_cleaned_up,
    a_killed_shim_of_a_pod_takes_all_with_it,
    sigterm_of_a_shim_in_use_leaves_nothing_half,
    output_goes_on_without_containerd,
    events_are_kept_for_a_containerd_that_is_away,
];

fn restart(meanwhile: impl FnOnce()) {
    world().kill();
    meanwhile();
    world().start();
}

fn end_of(pid: i32) {
    look::eventually("the end of a process", || !look::is_alive(pid));
}

fn signal(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("cannot signal");
}

fn containers_run_on_without_containerd() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    let (pid, shim) = (c.pid(), c.shim());
    restart(|| assert!(look::is_alive(pid) && look::is_alive(shim)));
    assert_eq!((c.status().as_deref(), c.pid(), c.shim()), (Some("RUNNING"), pid, shim));
    c.sh("exit 6").exits(6);
    ctr(&["task", "pause", &c.id]).ok();
    ctr(&["task", "resume", &c.id]).ok();
    c.stop();
    // Events reach the new containerd.
    assert_eq!(events::wait(&c.id, "exit init").status(), 137);
    c.delete().ok();
    if !world().is_control() {
        // containerd's own shim may end before its last event is sent.
        events::wait(&c.id, "delete");
    }
    t.end()
}

/// After a restart containerd 2 deletes by itself what has no process any more; before, it was there, stopped.
fn stopped_or_deleted(c: &Container, code: u32) {
    match c.status().as_deref() {
        Some("STOPPED") => _ = c.delete().ok().told(&format!("exit code {code}")),
        Some(other) => panic!("it has ended, and containerd says {other}"),
        None => {}
    }
    // In both cases it can be started again.
    look::eventually("no bundle", || !world().bundle(&c.id).exists());
    ctr(&["task", "start", "-d", "--null-io", &c.id]).ok();
    events::wait(&c.id, "start");
}

fn an_exit_while_containerd_is_down_is_known_after() -> Done {
    let t = Test::begin();
    let c = t.container().option("--null-io").start(&["sh", "-c", "while [ ! -e /end ]; do sleep 0.02; done; exit 19"]);
    let pid = c.pid();
    restart(|| {
        std::fs::write(look::root_of(pid, "/end"), "").expect("cannot write");
        end_of(pid);
        std::thread::sleep(Duration::from_millis(300));
    });
    stopped_or_deleted(&c, 19);
    t.end()
}

fn an_exec_s_exit_while_containerd_is_down_is_known_after() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    c.exec_detached("x", &["sh", "-c", "sleep 0.6; exit 21"]).ok();
    let pid = events::wait(&c.id, "exec-started x").body["pid"].as_i64().expect("a pid") as i32;
    restart(|| end_of(pid));
    assert_eq!(c.status().as_deref(), Some("RUNNING"));
    ctr(&["task", "rm", "--exec-id", "x", &c.id]).run().exits(21);
    t.end()
}

fn a_pod_is_known_after_a_restart() -> Done {
    let t = Test::begin();
    let first = t.sleeper();
    let of = format!("io.kubernetes.cri.sandbox-id={}", first.id);
    let member = || t.container().options(&["--null-io", "--annotation", &of]).start(&["sleep", "1000"]);
    let second = member();
    let shim = first.shim();
    restart(|| {});
    assert_eq!(first.status().as_deref(), Some("RUNNING"));
    assert_eq!(second.status().as_deref(), Some("RUNNING"));
    let third = member();
    assert_eq!(look::stat(third.pid()).expect("its init").ppid, shim);
    t.end()
}

fn a_stopped_task_is_deleted_after_a_restart() -> Done {
    let t = Test::begin();
    let c = t.container().option("--null-io").start(&["sh", "-c", "exit 23"]);
    c.stopped();
    restart(|| {});
    stopped_or_deleted(&c, 23);
    t.end()
}

/// A known fault of containerd's own shim, which is not to hide others.
fn control_leaves_its_socket(before: &[String]) {
    if world().is_control() {
        for socket in oracle::sockets().iter().filter(|socket| !before.contains(socket)) {
            std::fs::remove_file(socket).expect("cannot remove");
        }
    }
}

fn a_killed_shim_is_told_and_cleaned_up() -> Done {
    let t = Test::begin();
    let before = oracle::sockets();
    let c = t.sleeper();
    let pid = c.pid();
    c.exec_detached("x", &["sleep", "1000"]).ok();
    signal(c.shim(), Signal::SIGKILL);
    // containerd runs the shim's `delete`.
    assert_eq!(events::wait(&c.id, "exit init").status(), 137);
    events::wait(&c.id, "delete");
    end_of(pid);
    look::eventually("no task", || c.status().is_none());
    control_leaves_its_socket(&before);
    // The container can be started again.
    ctr(&["task", "start", "-d", "--null-io", &c.id]).ok();
    c.sh("exit 2").exits(2);
    t.end()
}

fn a_killed_shim_of_a_pod_takes_all_with_it() -> Done {
    let t = Test::begin();
    let before = oracle::sockets();
    let first = t.sleeper();
    let of = format!("io.kubernetes.cri.sandbox-id={}", first.id);
    let second = t.container().options(&["--null-io", "--annotation", &of]).start(&["sleep", "1000"]);
    let pids = [first.pid(), second.pid()];
    signal(first.shim(), Signal::SIGKILL);
    for c in [&first, &second] {
        assert_eq!(events::wait(&c.id, "exit init").status(), 137);
        look::eventually("no task", || c.status().is_none());
    }
    pids.into_iter().for_each(end_of);
    control_leaves_its_socket(&before);
    t.end()
}

fn sigterm_of_a_shim_in_use_leaves_nothing_half() -> Done {
    let t = Test::begin();
    let before = oracle::sockets();
    let c = t.sleeper();
    let (pid, shim) = (c.pid(), c.shim());
    signal(shim, Signal::SIGTERM);
    std::thread::sleep(Duration::from_secs(2));
    // Either it stays because it is needed, or all of it goes.
    if look::is_alive(shim) {
        assert_eq!(c.status().as_deref(), Some("RUNNING"));
        c.sh("exit 2").exits(2);
    } else {
        look::eventually("no task", || c.status().is_none());
        end_of(pid);
        control_leaves_its_socket(&before);
    }
    t.end()
}

fn output_goes_on_without_containerd() -> Done {
    let t = Test::begin();
    let log = t.path("log");
    let script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.02; done";
    let c = t.container().options(&["--log-uri", &format!("file://{log}")]).start(&["sh", "-c", script]);
    let lines = || std::fs::read_to_string(&log).unwrap_or_default().lines().count();
    look::eventually("lines", || lines() > 5);
    restart(|| {
        let before = lines();
        look::eventually("more lines", || lines() > before + 5);
    });
    c.stop();
    // No line is missing.
    let text = std::fs::read_to_string(&log).expect("the log");
    for (at, line) in text.lines().enumerate() {
        assert_eq!(line, format!("line {}", at + 1));
    }
    t.end()
}

fn events_are_kept_for_a_containerd_that_is_away() -> Done {
    let t = Test::begin();
    let id = t.id();
    let mut bundle = bundle(&t, &id);
    bundle.sh("sleep 0.2; exit 25");
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    wait_for(&id, "start");
    bare::stop_listening();
    // Nobody hears of the exit, and nobody is held up by that.
    assert_eq!(task.wait("").expect("Wait"), 25);
    std::thread::sleep(Duration::from_millis(500));
    bare::listen();
    wait_for(&id, "exit init 25");
    task.delete("").expect("Delete");
    wait_for(&id, "delete");
    assert_eq!(story(&id), ["create", "start", "exit init 25", "delete"]);
    shim.shutdown(&id);
    t.end()
}
