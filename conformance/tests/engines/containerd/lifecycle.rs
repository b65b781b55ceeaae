//! A container's life as a user of `ctr` sees it: run, signals, pause, what it uses, deletion.

use std::time::Duration;

use conformance::look;
use conformance::test::{Done, Skip};
use containerd_shim_protos::ttrpc::proto::Code;
use serde_json::Value;

use super::bare::{Shim, bundle};
use super::ctr::ctr;
use super::events;
use super::fixture::Test;

crate::cases![
    a_program_prints_and_its_exit_code_is_passed_on,
    a_signal_is_128_and_its_number,
    a_signal_that_is_handled_does_not_end_it,
    a_program_that_is_not_there_fails_and_leaves_nothing,
    a_bad_config_fails_and_leaves_nothing,
    the_same_id_again,
    a_running_task_is_not_deleted,
    a_stopped_task_keeps_its_exit_code,
    kill_all_reaches_every_process,
    kill_of_what_has_ended_says_so,
    pause_and_resume,
    a_paused_container_is_killed_and_deleted,
    a_limit_is_set,
    metrics_are_those_of_the_cgroup,
    processes_are_listed,
    hostname_user_and_environment,
    a_namespace_is_joined,
];

fn a_program_prints_and_its_exit_code_is_passed_on() -> Done {
    let t = Test::begin();
    for code in [0, 1, 42, 255] {
        let output = t.container().sh(&format!("echo out; echo err >&2; exit {code}")).exits(code);
        assert_eq!(output.text(), "out\n");
        assert!(output.stderr.starts_with("err\n"), "{}", output.stderr);
    }
    t.end()
}

fn a_signal_is_128_and_its_number() -> Done {
    let t = Test::begin();
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("USR1", 138)] {
        // As the first process of its pid namespace it only dies of what it does not ignore: hence the second one.
        let c = t.container().option("--null-io").start(&["sh", "-c", &format!("sh -c 'kill -{signal} $$'; exit $?")]);
        assert_eq!(events::wait(&c.id, "exit init").status(), code);
    }
    let c = t.sleeper();
    c.kill("SIGKILL").ok();
    assert_eq!(events::wait(&c.id, "exit init").status(), 137);
    t.end()
}

fn a_signal_that_is_handled_does_not_end_it() -> Done {
    let t = Test::begin();
    let script = "trap 'echo got it' USR1; echo ready; while :; do sleep 0.05; done";
    let (c, mut run) = t.container().run(&["sh", "-c", script]);
    run.prints("ready");
    c.kill("SIGUSR1").ok();
    run.prints("got it");
    assert_eq!(c.status().as_deref(), Some("RUNNING"));
    c.stop();
    run.end(Duration::from_secs(5)).exits(137);
    t.end()
}

fn a_program_that_is_not_there_fails_and_leaves_nothing() -> Done {
    let t = Test::begin();
    t.container().rm(&["/no/such/program"]).run().fails("/no/such/program");
    t.end()
}

fn a_bad_config_fails_and_leaves_nothing() -> Done {
    let t = Test::begin();
    // The source of the mount is not there.
    let c = t.container().bind(&t.dir.join("missing"), "/mnt", "rbind:rw");
    c.rm(&["true"]).run().fails("missing");
    t.end()
}

fn the_same_id_again() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    for _ in 0..3 {
        c.stop();
        c.delete().ok().told("exit code 137");
        ctr(&["task", "start", "-d", "--null-io", &c.id]).ok();
        assert_eq!(c.status().as_deref(), Some("RUNNING"));
    }
    assert_eq!(c.story().iter().filter(|event| *event == "start").count(), 4, "{:?}", c.story());
    t.end()
}

fn a_running_task_is_not_deleted() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    c.delete().fails("running");
    assert_eq!(c.status().as_deref(), Some("RUNNING"));
    t.end()
}

fn a_stopped_task_keeps_its_exit_code() -> Done {
    let t = Test::begin();
    let c = t.container().option("--null-io").start(&["sh", "-c", "exit 7"]);
    c.stopped();
    c.delete().ok().told("exit code 7");
    t.end()
}

fn kill_all_reaches_every_process() -> Done {
    let t = Test::begin();
    // Without a pid namespace of its own the kernel does not end the others with the first one. Another signal than
    // SIGKILL goes to the first process alone with runc since 1.2: not asked for here.
    let plan = t.container().options(&["--null-io", "--with-ns", "pid:/proc/1/ns/pid"]);
    let c = plan.start(&["sh", "-c", "sleep 1000 & sleep 1000 & wait"]);
    let pids = || -> Vec<i32> {
        let list = ctr(&["task", "ps", &c.id]).run().text();
        list.lines().skip(1).filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
    };
    look::eventually("three processes", || pids().len() == 3);
    let all = pids();
    ctr(&["task", "kill", "--all", "-s", "SIGKILL", &c.id]).ok();
    c.stopped();
    look::eventually("the end of all", || !all.iter().any(|pid| look::is_alive(*pid)));
    t.end()
}

fn kill_of_what_has_ended_says_so() -> Done {
    let t = Test::begin();
    let c = t.container().option("--null-io").start(&["true"]);
    c.stopped();
    c.kill("SIGTERM").fails("");
    // What clients look at is the code.
    let id = t.id();
    let mut bundle = bundle(&t, &id);
    bundle.args(&["true"]);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    task.wait("").expect("Wait");
    assert_eq!(task.kill("", 15).expect_err("it has ended").code, Code::NOT_FOUND);
    task.delete("").expect("Delete");
    shim.shutdown(&id);
    t.end()
}

fn pause_and_resume() -> Done {
    let t = Test::begin();
    let script = "while :; do date +%N; sleep 0.02; done";
    let (c, mut run) = t.container().run(&["sh", "-c", script]);
    run.prints("\n");
    ctr(&["task", "pause", &c.id]).ok();
    assert_eq!(c.status().as_deref(), Some("PAUSED"));
    std::thread::sleep(Duration::from_millis(100));
    let printed = run.text().len();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(run.text().len(), printed, "it runs on");
    ctr(&["task", "resume", &c.id]).ok();
    assert_eq!(c.status().as_deref(), Some("RUNNING"));
    look::eventually("it to go on", || run.text().len() > printed);
    let story = c.story();
    assert!(events::place(&story, "paused") < events::place(&story, "resumed"));
    // The client has FIFOs to remove.
    c.stop();
    run.end(Duration::from_secs(10)).exits(137);
    t.end()
}

fn a_paused_container_is_killed_and_deleted() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    ctr(&["task", "pause", &c.id]).ok();
    // A frozen process does not die before it is thawed.
    c.kill("SIGKILL").ok();
    assert_eq!(events::wait(&c.id, "exit init").status(), 137);
    c.delete().ok();
    t.end()
}

fn a_limit_is_set() -> Done {
    let t = Test::begin();
    let c = t.container().options(&["--null-io", "--memory-limit", "67108864"]).start(&["sleep", "1000"]);
    let memory = look::controller(c.pid(), "memory").ok_or_else(|| Skip("no memory controller".into()))?;
    let file = if memory.unified { "memory.max" } else { "memory.limit_in_bytes" };
    assert_eq!(memory.read(file), "67108864");
    t.end()
}

fn metrics_are_those_of_the_cgroup() -> Done {
    let t = Test::begin();
    let script = "dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>/dev/null; sleep 1000 & wait";
    let c = t.container().options(&["--null-io", "--memory-limit", "67108864"]).start(&["sh", "-c", script]);
    let metrics = || -> Value {
        let text = ctr(&["task", "metrics", "--format", "json", &c.id]).ok().text();
        serde_json::from_str(&text).expect("JSON")
    };
    let memory = look::controller(c.pid(), "memory").ok_or_else(|| Skip("no memory controller".into()))?;
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    look::eventually("20 MB in use", || {
        let told = metrics()["memory"]["usage"].clone();
        number(if memory.unified { &told } else { &told["usage"] }) > 20 << 20
    });
    let told = metrics();
    assert_eq!(number(&told["pids"]["current"]), 2, "{told}");
    if memory.unified {
        assert_eq!(number(&told["memory"]["usage_limit"]), 67108864, "{told}");
        assert!(number(&told["cpu"]["usage_usec"]) > 0, "{told}");
    } else {
        assert_eq!(number(&told["memory"]["usage"]["limit"]), 67108864, "{told}");
        let cpu = look::controller(c.pid(), "cpuacct").expect("version 1 has it");
        let shown = number(&told["cpu"]["usage"]["total"]);
        let now: u64 = cpu.read("cpuacct.usage").parse().expect("a number");
        assert!(shown > 0 && shown <= now, "{shown} of {now}");
        assert!(number(&told["memory"]["total_rss"]) > 0, "{told}");
    }
    t.end()
}

fn processes_are_listed() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    c.exec_detached("second", &["sleep", "1000"]).ok();
    let list = ctr(&["task", "ps", &c.id]).ok().text();
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(list.contains(&c.pid().to_string()), "{list}");
    let exec = events::wait(&c.id, "exec-started second").body["pid"].as_u64().expect("a pid");
    let line = list.lines().find(|line| line.starts_with(&exec.to_string())).expect("the exec's process");
    // The process of an exec is told with the exec's id.
    assert!(line.contains("second"), "{list}");
    t.end()
}

fn hostname_user_and_environment() -> Done {
    let t = Test::begin();
    let c = t.container().options(&["--hostname", "box", "--user", "1000:1000", "--env", "A=b c", "--cwd", "/tmp"]);
    let output = c.sh("hostname; id -u; echo $A; pwd").ok();
    assert_eq!(output.text(), "box\n1000\nb c\n/tmp\n");
    t.end()
}

fn a_namespace_is_joined() -> Done {
    let t = Test::begin();
    let first = t.sleeper();
    let path = format!("network:/proc/{}/ns/net", first.pid());
    let second = t.container().options(&["--null-io", "--with-ns", &path]).start(&["sleep", "1000"]);
    assert_eq!(look::namespace(first.pid(), "net"), look::namespace(second.pid(), "net"));
    assert_ne!(look::namespace(first.pid(), "ipc"), look::namespace(second.pid(), "ipc"));
    t.end()
}
