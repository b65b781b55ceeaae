//! Further programs in a container that runs.

use std::time::Duration;

use conformance::look;
use conformance::test::Done;

use super::ctr::ctr;
use super::events;
use super::fixture::Test;

crate::cases![
    an_exec_prints_and_its_exit_code_is_passed_on,
    an_exec_is_in_the_container,
    a_signal_to_an_exec_reaches_it_alone,
    an_exec_of_what_is_not_there_fails_and_the_container_goes_on,
    an_exec_id_is_taken_once,
    an_exec_in_a_stopped_container_fails,
    an_exec_that_runs_on_ends_with_the_container,
    a_hundred_execs_at_eight_a_time,
];

fn an_exec_prints_and_its_exit_code_is_passed_on() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    for code in [0, 3, 255] {
        let output = c.sh(&format!("echo out; echo err >&2; exit {code}")).exits(code);
        assert_eq!(output.text(), "out\n");
        assert!(output.stderr.starts_with("err\n"), "{}", output.stderr);
    }
    c.sh("kill -9 $$").exits(137);
    assert_eq!(c.status().as_deref(), Some("RUNNING"));
    t.end()
}

fn an_exec_is_in_the_container() -> Done {
    let t = Test::begin();
    let c = t.container().options(&["--null-io", "--hostname", "box"]).start(&["sleep", "1000"]);
    let output = c.exec("where", &["sh", "-c", "hostname; pwd; cat /proc/1/comm; readlink /proc/self/ns/net"]).ok();
    let net = std::fs::read_link(format!("/proc/{}/ns/net", c.pid())).expect("a link");
    assert_eq!(output.text(), format!("box\n/\nsleep\n{}\n", net.display()));
    let asked =
        ctr(&["task", "exec", "--exec-id", "as", "--cwd", "/tmp", "--user", "1000", &c.id, "sh", "-c", "id -u; pwd"]);
    assert_eq!(asked.ok().text(), "1000\n/tmp\n");
    t.end()
}

fn a_signal_to_an_exec_reaches_it_alone() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    c.exec_detached("one", &["sleep", "1000"]).ok();
    c.exec_detached("two", &["sleep", "1000"]).ok();
    ctr(&["task", "kill", "-s", "SIGTERM", "--exec-id", "one", &c.id]).ok();
    assert_eq!(events::wait(&c.id, "exit one").status(), 143);
    assert_eq!(c.status().as_deref(), Some("RUNNING"));
    assert!(!c.story().iter().any(|event| event.starts_with("exit two")));
    // `ctr` ends with the status of what it deleted.
    ctr(&["task", "rm", "--exec-id", "one", &c.id]).run().exits(143);
    ctr(&["task", "kill", "-s", "SIGKILL", "--exec-id", "two", &c.id]).ok();
    assert_eq!(events::wait(&c.id, "exit two").status(), 137);
    t.end()
}

fn an_exec_of_what_is_not_there_fails_and_the_container_goes_on() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    c.exec("bad", &["/no/such/program"]).run().fails("/no/such/program");
    // What failed is no obstacle to the next one of that name.
    c.exec("good", &["true"]).ok();
    assert_eq!(c.status().as_deref(), Some("RUNNING"));
    c.stop();
    let story = c.story();
    // The count of running execs must not keep the exit of the container back.
    events::place(&story, "exit init");
    t.end()
}

fn an_exec_id_is_taken_once() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    c.exec_detached("name", &["sleep", "1000"]).ok();
    c.exec_detached("name", &["sleep", "1000"]).fails("exists");
    ctr(&["task", "kill", "-s", "SIGKILL", "--exec-id", "name", &c.id]).ok();
    events::wait(&c.id, "exit name");
    ctr(&["task", "rm", "--exec-id", "name", &c.id]).run().exits(137);
    c.exec_detached("name", &["true"]).ok();
    t.end()
}

fn an_exec_in_a_stopped_container_fails() -> Done {
    let t = Test::begin();
    let c = t.container().option("--null-io").start(&["true"]);
    c.stopped();
    assert_ne!(c.exec("late", &["true"]).run().code, 0);
    t.end()
}

fn an_exec_that_runs_on_ends_with_the_container() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    let run = c.exec("on", &["sleep", "1000"]).spawn();
    events::wait(&c.id, "exec-started on");
    c.stop();
    run.end(Duration::from_secs(10)).exits(137);
    let story = c.story();
    assert!(events::place(&story, "exit on") < events::place(&story, "exit init"), "{story:?}");
    t.end()
}

fn a_hundred_execs_at_eight_a_time() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let c = &c;
            scope.spawn(move || {
                for turn in 0..13 {
                    let (name, code) = (format!("e{thread}-{turn}"), (thread * 13 + turn) % 200);
                    c.exec(&name, &["sh", "-c", &format!("echo {name}; exit {code}")]).run().exits(code);
                }
            });
        }
    });
    look::eventually("one process", || ctr(&["task", "ps", &c.id]).ok().text().lines().count() == 2);
    let exits = c.story().iter().filter(|event| event.starts_with("exit ")).count();
    assert_eq!(exits, 8 * 13);
    t.end()
}
