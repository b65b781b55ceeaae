//! The calls of the task service, made by hand: what they answer, and with which codes they refuse.

use std::time::Duration;

use conformance::look;
use conformance::test::{Done, Skip};
use containerd_shim_protos::api;
use containerd_shim_protos::ttrpc::proto::Code;
use serde_json::json;

use super::bare::{self, Answer, Shim, V2, V3, bundle, story};
use super::daemon::world;
use super::fixture::Test;
use super::oracle;

crate::cases![
    both_versions_of_the_task_service_are_served,
    a_task_lives_through_all_its_states,
    a_task_that_was_never_started_is_deleted,
    what_is_not_there_is_not_found,
    a_method_that_is_not_there_is_unimplemented,
    a_second_create_of_the_same_id_is_refused,
    all_who_wait_are_told,
    update_changes_the_limits,
    connect_tells_of_the_processes,
    shutdown_is_refused_while_there_is_a_task,
];

fn both_versions_of_the_task_service_are_served() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let request = api::StateRequest { id: "none".to_owned(), ..Default::default() };
    // containerd's own shim of this version has left containerd 1 behind.
    let services: &[&str] = if world().is_control() { &[V3] } else { &[V2, V3] };
    for service in services {
        let answer: Answer<api::StateResponse> = shim.call_on(service, "State", &request, Duration::from_secs(2));
        assert_eq!(answer.expect_err("there is no such task").code, Code::NOT_FOUND, "{service}");
    }
    shim.shutdown(&id);
    t.end()
}

fn a_task_lives_through_all_its_states() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    let pid = task.create(&bundle.path).expect("Create");
    assert_eq!(task.status(), "CREATED");
    assert_eq!(task.state("").expect("State").pid as i32, pid);
    assert_eq!(task.start("").expect("Start"), pid);
    assert_eq!(task.status(), "RUNNING");
    assert_eq!(task.pids().expect("Pids"), [pid]);
    task.pause().expect("Pause");
    assert_eq!(task.status(), "PAUSED");
    task.resume().expect("Resume");
    assert_eq!(task.status(), "RUNNING");
    let refused = task.delete("").expect_err("it runs");
    // containerd's own shim has no code for it.
    assert!(refused.code == Code::FAILED_PRECONDITION || world().is_control(), "{refused:?}");
    task.kill("", 15).expect("Kill");
    // sleep is the first process of its namespace: SIGTERM does nothing to it.
    assert_eq!(task.status(), "RUNNING");
    task.kill("", 9).expect("Kill");
    assert_eq!(task.wait("").expect("Wait"), 137);
    assert_eq!(task.status(), "STOPPED");
    let state = task.state("").expect("State");
    assert_eq!((state.exit_status, state.exited_at.seconds > 0), (137, true));
    // Late, and still answered.
    assert_eq!(task.wait("").expect("Wait"), 137);
    let deleted = task.delete("").expect("Delete");
    assert_eq!((deleted.pid as i32, deleted.exit_status), (pid, 137));
    assert_eq!(task.state("").expect_err("deleted").code, Code::NOT_FOUND);
    bare::wait_for(&id, "delete");
    assert_eq!(story(&id), ["create", "start", "paused", "resumed", "exit init 137", "delete"]);
    shim.shutdown(&id);
    t.end()
}

fn a_task_that_was_never_started_is_deleted() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    let pid = task.create(&bundle.path).expect("Create");
    task.delete("").expect("Delete");
    look::eventually("the end of the init", || !look::is_alive(pid));
    assert_eq!(task.state("").expect_err("deleted").code, Code::NOT_FOUND);
    shim.shutdown(&id);
    t.end()
}

fn what_is_not_there_is_not_found() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let none = shim.task("none");
    let answers = [
        ("Start", none.start("").err()),
        ("Delete", none.delete("").err()),
        ("Kill", none.kill("", 9).err()),
        ("Wait", none.wait("").err()),
        ("Pids", none.pids().err()),
        ("Pause", none.pause().err()),
        ("Resume", none.resume().err()),
        ("Exec", none.exec("x", &["true"]).err()),
        ("ResizePty", none.resize("", 1, 1).err()),
        ("CloseIO", none.close_stdin("").err()),
        ("Update", none.update(&json!({})).err()),
    ];
    for (method, refused) in answers {
        assert_eq!(refused.unwrap_or_else(|| panic!("{method} succeeds")).code, Code::NOT_FOUND, "{method}");
    }
    let task = shim.task(&id);
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    for (method, refused) in [
        ("Start", task.start("x").err()),
        ("Delete", task.delete("x").err()),
        ("Kill", task.kill("x", 9).err()),
        ("Wait", task.wait("x").err()),
        ("State", task.state("x").err()),
    ] {
        assert_eq!(refused.unwrap_or_else(|| panic!("{method} succeeds")).code, Code::NOT_FOUND, "{method} of an exec");
    }
    task.finish();
    shim.shutdown(&id);
    t.end()
}

fn a_method_that_is_not_there_is_unimplemented() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let ask = |service: &str, method: &str| {
        let answer: Answer<api::Empty> = shim.call_on(service, method, &api::Empty::new(), Duration::from_secs(2));
        answer.expect_err("it is not there")
    };
    let refused = ask(V3, "NoSuchMethod");
    assert!([Code::UNIMPLEMENTED, Code::NOT_FOUND].contains(&refused.code), "{refused:?}");
    // Of a whole service that is not there Rust's library says something of its own.
    let refused = ask("containerd.task.v9.Task", "State");
    assert!([Code::UNIMPLEMENTED, Code::NOT_FOUND, Code::INVALID_ARGUMENT].contains(&refused.code), "{refused:?}");
    shim.shutdown(&id);
    t.end()
}

fn a_second_create_of_the_same_id_is_refused() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    let pid = task.create(&bundle.path).expect("Create");
    task.create(&bundle.path).expect_err("it is there already");
    // The first one is none the worse for it.
    assert!(look::is_alive(pid));
    task.start("").expect("Start");
    assert_eq!(task.status(), "RUNNING");
    task.finish();
    shim.shutdown(&id);
    t.end()
}

fn all_who_wait_are_told() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    std::thread::scope(|scope| {
        let waits: Vec<_> = (0..20).map(|_| scope.spawn(|| shim.task(&id).wait(""))).collect();
        std::thread::sleep(Duration::from_millis(100));
        // None of them keeps others from being answered.
        assert_eq!(task.status(), "RUNNING");
        task.kill("", 9).expect("Kill");
        for wait in waits {
            assert_eq!(wait.join().expect("no panic").expect("Wait"), 137);
        }
    });
    task.delete("").expect("Delete");
    shim.shutdown(&id);
    t.end()
}

fn update_changes_the_limits() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    let pid = task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    let memory = look::controller(pid, "memory").ok_or_else(|| Skip("no memory controller".into()))?;
    task.update(&json!({"memory": {"limit": 50 << 20}})).expect("Update");
    assert_eq!(
        memory.read(if memory.unified { "memory.max" } else { "memory.limit_in_bytes" }),
        (50 << 20).to_string()
    );
    task.finish();
    shim.shutdown(&id);
    t.end()
}

fn connect_tells_of_the_processes() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let pid = shim.task(&id).create(&bundle.path).expect("Create");
    let answer: api::ConnectResponse =
        shim.call("Connect", &api::ConnectRequest { id: id.clone(), ..Default::default() }).expect("Connect");
    assert_eq!(answer.task_pid as i32, pid);
    assert_eq!(oracle::shims_of(&id), [answer.shim_pid as i32]);
    shim.task(&id).delete("").expect("Delete");
    shim.shutdown(&id);
    t.end()
}

fn shutdown_is_refused_while_there_is_a_task() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    for now in [false, true] {
        shim.ask_shutdown(&id, now).ok();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(task.status(), "RUNNING", "now: {now}");
    }
    task.finish();
    shim.shutdown(&id);
    t.end()
}
