//! The order of events: create, start, exit and delete once each; what runs in a container ends before it.
//!
//! Looked at where the events leave the shim, and for some through containerd too.

use std::time::Duration;

use conformance::look;
use conformance::test::{Done, Skip};
use serde_json::json;

use super::bare::{Shim, bundle, story, wait_for};
use super::ctr::ctr;
use super::daemon::world;
use super::events::{self, place};
use super::fixture::Test;

crate::cases![
    events_of_a_life_come_once_and_in_order,
    start_comes_before_the_exit_of_what_ends_at_once,
    events_of_an_exec_come_in_order,
    execs_that_end_at_once_come_in_order,
    execs_end_before_the_init_that_is_killed,
    execs_end_before_the_init_that_is_killed_without_a_pid_namespace,
    execs_that_are_just_starting_when_the_init_is_killed,
    an_exec_that_failed_to_start_does_not_hold_back_the_exit,
    out_of_memory_comes_before_the_exit,
    out_of_memory_comes_again_for_the_same_id,
];

fn events_of_a_life_come_once_and_in_order() -> Done {
    let t = Test::begin();
    let c = t.container().option("--null-io").start(&["sh", "-c", "exit 5"]);
    events::wait(&c.id, "exit init");
    c.delete().ok();
    if world().is_control() {
        // It may end before its last event is sent.
        assert_eq!(c.story()[..3], ["create", "start", "exit init 5"]);
        return t.end();
    }
    events::wait(&c.id, "delete");
    assert_eq!(c.story(), ["create", "start", "exit init 5", "delete"]);
    t.end()
}

fn start_comes_before_the_exit_of_what_ends_at_once() -> Done {
    let t = Test::begin();
    let id = t.id();
    let mut bundle = bundle(&t, &id);
    bundle.args(&["true"]);
    let shim = Shim::start(&bundle, &id);
    for turn in 1..=20 {
        let task = shim.task(&id);
        task.create(&bundle.path).expect("Create");
        task.start("").expect("Start");
        assert_eq!(task.wait("").expect("Wait"), 0);
        task.delete("").expect("Delete");
        // On version 1 containerd's own shim takes the end of a cgroup for a lack of memory.
        let story =
            || -> Vec<String> { story(&id).into_iter().filter(|e| e != "oom" || !world().is_control()).collect() };
        look::eventually("the events", || story().len() >= 4 * turn);
        assert_eq!(story()[4 * (turn - 1)..], ["create", "start", "exit init 0", "delete"], "turn {turn}");
    }
    shim.shutdown(&id);
    t.end()
}

fn events_of_an_exec_come_in_order() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    c.exec("one", &["sh", "-c", "exit 3"]).run().exits(3);
    events::wait(&c.id, "exit one");
    assert_eq!(c.story(), ["create", "start", "exec-added one", "exec-started one", "exit one 3"]);
    t.end()
}

fn execs_that_end_at_once_come_in_order() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let task = shim.task(&id);
            scope.spawn(move || {
                for turn in 0..10 {
                    let name = format!("e{thread}x{turn}");
                    task.exec(&name, &["true"]).expect("Exec");
                    task.start(&name).expect("Start");
                    assert_eq!(task.wait(&name).expect("Wait"), 0);
                    task.delete(&name).expect("Delete");
                }
            });
        }
    });
    task.finish();
    wait_for(&id, "delete");
    let story = story(&id);
    for thread in 0..4 {
        for turn in 0..10 {
            let name = format!("e{thread}x{turn}");
            let (added, started) =
                (place(&story, &format!("exec-added {name}")), place(&story, &format!("exec-started {name}")));
            assert!(added < started && started < place(&story, &format!("exit {name}")), "{name}: {story:?}");
        }
    }
    shim.shutdown(&id);
    t.end()
}

/// Twenty execs that run when the init is killed; each has one exit, and the init's is the last.
fn twenty(t: &Test, pid_namespace: bool) {
    let id = t.id();
    let mut bundle = bundle(t, &id);
    if !pid_namespace {
        bundle.without_namespace("pid");
    }
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    std::thread::scope(|scope| {
        for name in 0..20 {
            let task = shim.task(&id);
            scope.spawn(move || {
                let name = format!("n{name}-");
                task.exec(&name, &["sleep", "1000"]).expect("Exec");
                task.start(&name).expect("Start");
                assert_eq!(task.wait(&name).expect("Wait"), 137, "{name}");
            });
        }
        look::eventually("twenty execs", || story(&id).iter().filter(|e| e.starts_with("exec-started")).count() == 20);
        task.kill("", 9).expect("Kill");
        assert_eq!(task.wait("").expect("Wait"), 137);
    });
    wait_for(&id, "exit init");
    let story = story(&id);
    let last = place(&story, "exit init");
    for name in 0..20 {
        assert!(place(&story, &format!("exit n{name}-")) < last, "{story:?}");
    }
    for name in 0..20 {
        task.delete(&format!("n{name}-")).expect("Delete");
    }
    task.delete("").expect("Delete");
    shim.shutdown(&id);
}

fn execs_end_before_the_init_that_is_killed() -> Done {
    let t = Test::begin();
    twenty(&t, true);
    t.end()
}

fn execs_end_before_the_init_that_is_killed_without_a_pid_namespace() -> Done {
    let t = Test::begin();
    twenty(&t, false);
    t.end()
}

fn execs_that_are_just_starting_when_the_init_is_killed() -> Done {
    let t = Test::begin();
    for turn in 0..4 {
        let id = t.id();
        let bundle = bundle(&t, &id);
        let shim = Shim::start(&bundle, &id);
        let task = shim.task(&id);
        task.create(&bundle.path).expect("Create");
        task.start("").expect("Start");
        let started: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..10)
                .map(|name| {
                    let task = shim.task(&id);
                    scope.spawn(move || {
                        let name = format!("n{name}-");
                        let started = task.exec(&name, &["sleep", "1000"]).and_then(|()| task.start(&name)).is_ok();
                        started.then_some(name)
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_millis(15 + 25 * turn));
            task.kill("", 9).expect("Kill");
            threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(task.wait("").expect("Wait"), 137);
        for name in &started {
            task.wait(name).expect("Wait");
        }
        wait_for(&id, "exit init");
        look::eventually("all exits", || story(&id).iter().filter(|e| e.starts_with("exit")).count() > started.len());
        let story = story(&id);
        let last = place(&story, "exit init");
        assert!(story[last + 1..].iter().all(|event| !event.starts_with("exit")), "{story:?}");
        for name in &started {
            assert!(place(&story, &format!("exit {name}")) < last, "{story:?}");
        }
        task.delete("").expect("Delete");
        shim.shutdown(&id);
    }
    t.end()
}

fn an_exec_that_failed_to_start_does_not_hold_back_the_exit() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    for name in ["one", "two", "three"] {
        task.exec(name, &["/no/such/program"]).expect("Exec");
        task.start(name).expect_err("there is no such program");
        task.delete(name).expect("Delete");
    }
    task.kill("", 9).expect("Kill");
    assert_eq!(task.wait("").expect("Wait"), 137);
    task.delete("").expect("Delete");
    wait_for(&id, "delete");
    place(&story(&id), "exit init");
    shim.shutdown(&id);
    t.end()
}

/// Fills more memory than there is.
const GREEDY: &str = "tail /dev/zero";

fn out_of_memory_comes_before_the_exit() -> Done {
    let t = Test::begin();
    for _ in 0..5 {
        let c = t.container().options(&["--null-io", "--memory-limit", "16777216"]).start(&["sh", "-c", GREEDY]);
        let exit = events::wait(&c.id, "exit init");
        assert_ne!(exit.status(), 0);
        let story = c.story();
        let oom = story.iter().position(|event| event == "oom").unwrap_or(usize::MAX);
        // containerd's own shim watches in a thread of its own, and may be late or miss it.
        assert!(oom < place(&story, "exit init") || world().is_control(), "{story:?}");
        c.delete().ok();
    }
    t.end()
}

fn out_of_memory_comes_again_for_the_same_id() -> Done {
    let t = Test::begin();
    let id = t.id();
    let mut bundle = bundle(&t, &id);
    bundle.sh(&format!("{GREEDY}; sleep 1000"));
    bundle.linux("resources", json!({"memory": {"limit": 16 << 20}}));
    let shim = Shim::start(&bundle, &id);
    for turn in 1..=3 {
        let task = shim.task(&id);
        let pid = task.create(&bundle.path).expect("Create");
        look::controller(pid, "memory").ok_or_else(|| Skip("no memory controller".into()))?;
        task.start("").expect("Start");
        // It is told while the container runs on: not the init was killed.
        let came = || story(&id).iter().filter(|event| *event == "oom").count() >= turn;
        assert!(look::eventually_within(Duration::from_secs(10), came), "turn {turn}: {:?}", story(&id));
        assert_eq!(task.status(), "RUNNING");
        task.finish();
    }
    shim.shutdown(&id);
    // Nothing comes after that.
    assert!(ctr(&["version"]).run().code == 0);
    assert_eq!(story(&id).last().map(String::as_str), Some("delete"));
    t.end()
}
