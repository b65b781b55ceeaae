//! A runtime that does not end: each call of it has a deadline, whoever makes it, and what waits for it is told.

use std::process::Command;
use std::time::Duration;

use conformance::bundle::Bundle;
use conformance::look;
use conformance::test::{Done, Skip};
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::proto::Code;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bare::{self, Dialect, Shim, ask, bundle, command};
use super::daemon::world;
use super::fake::Fake;
use super::fixture::Test;

crate::cases![
    a_call_of_a_shim_has_a_deadline,
    a_delete_by_command_has_a_deadline,
    a_call_for_information_has_a_deadline,
    a_delete_by_command_that_is_killed_takes_its_runtime_along,
];

/// In seconds.
const DEADLINE: (&str, &str) = ("PROA_SHIM_RUNTIME_TIMEOUT", "1");

fn ours() -> Result<(), Skip> {
    if world().is_control() { Err(Skip("containerd's own shim waits for its runtime for ever".into())) } else { Ok(()) }
}

fn options(fake: &Fake) -> containerd_shim_protos::protobuf::well_known_types::any::Any {
    bare::options(&format!("BinaryName = '{}'\n", fake.program.display()))
}

#[track_caller]
fn is_told(text: &str, what: &str) {
    assert!(text.contains(what) && text.contains("has not ended in 1 s"), "{text}");
    assert_eq!(text.trim().lines().count(), 1, "{text}");
}

fn a_call_of_a_shim_has_a_deadline() -> Done {
    ours()?;
    let t = Test::begin();
    let id = t.id();
    let (fake, bundle) = (Fake::new(&t), bundle(&t, &id));
    let mut start = command(&bundle, &id, "start");
    start.env(DEADLINE.0, DEADLINE.1);
    let shim = Shim::start_by(start, &bundle, &id, Dialect::Legacy, options(&fake));
    let task = shim.task(&id);
    fake.hangs("create");
    let refused = task.create(&bundle.path).expect_err("the runtime hangs");
    assert_eq!(refused.code, Code::DEADLINE_EXCEEDED, "{refused:?}");
    is_told(&refused.message, "create");
    fake.well();
    task.create(&bundle.path).expect("Create");
    fake.hangs("start");
    is_told(&task.start("").expect_err("the runtime hangs").message, "start");
    fake.hangs("delete");
    is_told(&task.delete("").expect_err("the runtime hangs").message, "delete");
    fake.well();
    task.delete("").expect("Delete");
    shim.shutdown(&id);
    t.end()
}

/// The bundle of a shim that was killed with a container in it, and the runtime that it had below it.
pub(crate) fn killed(t: &Test, id: &str) -> (Fake, Bundle) {
    let (fake, bundle) = (Fake::new(t), bundle(t, id));
    let shim = Shim::start_on(&bundle, id, &fake.program);
    shim.task(id).create(&bundle.path).expect("Create");
    shim.task(id).start("").expect("Start");
    let pid = shim.pid(id);
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("cannot kill the shim");
    look::eventually("the end of the shim", || !look::is_alive(pid));
    (fake, bundle)
}

fn a_delete_by_command_has_a_deadline() -> Done {
    ours()?;
    let t = Test::begin();
    let id = t.id();
    let (fake, bundle) = killed(&t, &id);
    let delete = || {
        let mut delete = command(&bundle, &id, "delete");
        delete.env(DEADLINE.0, DEADLINE.1);
        delete
    };
    fake.hangs("delete");
    for _ in 0..2 {
        let (status, answer) = ask(delete(), &[]);
        assert_eq!(status, 1);
        is_told(&String::from_utf8_lossy(&answer), &format!("delete --force {id}"));
    }
    fake.well();
    let output = delete().output().expect("cannot start the shim");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let deleted = api::DeleteResponse::parse_from_bytes(&output.stdout).expect("a DeleteResponse");
    assert_eq!(deleted.exit_status, 137);
    t.end()
}

fn a_call_for_information_has_a_deadline() -> Done {
    ours()?;
    let t = Test::begin();
    let fake = Fake::new(&t);
    let info = || {
        let mut command = Command::new(world().shim_binary());
        command.arg("-info").env(DEADLINE.0, DEADLINE.1);
        ask(command, &options(&fake).write_to_bytes().expect("a message"))
    };
    fake.hangs("features");
    let (status, answer) = info();
    assert_eq!(status, 1);
    is_told(&String::from_utf8_lossy(&answer), "features");
    fake.well();
    assert_eq!(info().0, 0);
    t.end()
}

/// containerd has a deadline of its own for the command, a shorter one.
fn a_delete_by_command_that_is_killed_takes_its_runtime_along() -> Done {
    ours()?;
    let t = Test::begin();
    let id = t.id();
    let (fake, bundle) = killed(&t, &id);
    fake.hangs("delete");
    let mut deleting = command(&bundle, &id, "delete").spawn().expect("cannot start the shim");
    look::eventually("the call", || fake.calls().iter().any(|call| call.starts_with("delete ")));
    std::thread::sleep(Duration::from_millis(100));
    deleting.kill().expect("cannot kill");
    deleting.wait().expect("cannot wait");
    fake.well();
    assert_eq!(ask(command(&bundle, &id, "delete"), &[]).0, 0);
    // Nothing hangs on: `end` looks for processes.
    t.end()
}
