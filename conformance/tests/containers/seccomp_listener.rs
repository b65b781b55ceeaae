//! `linux.seccomp.listenerPath`: who is told of system calls with SCMP_ACT_NOTIFY, and what.

use std::fs;

use conformance::console::Receiver;
use conformance::runtime::Kind;
use conformance::sys;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

use crate::seccomp::{GETPRIORITY, bundle, calls, open};

crate::cases! {
    "L-81,L-82,L-85,L-86,L-87" => listener,
    "L-81" => listener_of_exec,
    "L-83" => listener_that_is_not_there,
    "L-84" => listener_refused,
}

/// Notifies of getpriority.
fn notifying(path: &std::path::Path) -> Value {
    let mut filter = open(json!([{"names": ["getpriority"], "action": "SCMP_ACT_NOTIFY"}]));
    filter["listenerPath"] = json!(path);
    filter["listenerMetadata"] = json!("some \"words\"");
    filter
}

/// What came: the state, and the call answered with 123.
#[track_caller]
fn answer(received: (String, Vec<std::os::fd::OwnedFd>)) -> (Value, i32) {
    let (text, fds) = received;
    let state: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(fds.len(), 1, "descriptors with the state");
    let pid = sys::answer_notification(&fds[0], 123).expect("no notification");
    (state, pid as i32)
}

fn listener(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "tells of the listener at start")?;
    let mut bundle = bundle(t)?;
    let receiver = Receiver::listen(&t.file("agent"));
    for (round, no_new_privileges) in [true, false].into_iter().enumerate() {
        bundle.process("noNewPrivileges", json!(no_new_privileges));
        bundle.linux("seccomp", notifying(&receiver.path)).set("annotations", json!({"a": "b"}));
        bundle.args(&["/bin/call", GETPRIORITY]);
        let c = t.create(&bundle);
        let received = receiver.receive();
        assert!(!receiver.has_connection(), "one connection, one message");
        c.start();
        let (state, pid) = answer(received);
        assert_eq!(pid, c.pid);
        assert_eq!(c.wait(), 0, "round {round}");
        assert_eq!(c.stdout(), "123\n");
        assert_eq!(state["pid"], c.pid);
        assert_eq!(state["metadata"], "some \"words\"");
        assert!(state["ociVersion"].is_string());
        let inner = &state["state"];
        assert_eq!(inner["id"], c.id.as_str());
        assert_eq!(inner["status"], "creating");
        assert_eq!(inner["pid"], c.pid);
        assert_eq!(inner["annotations"]["a"], "b");
        assert!(inner["bundle"].is_string() && inner["ociVersion"].is_string());
        c.delete();
    }
    Ok(())
}

fn listener_of_exec(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "says pid 0")?;
    let mut bundle = bundle(t)?;
    let receiver = Receiver::listen(&t.file("agent"));
    bundle.linux("seccomp", notifying(&receiver.path)).args(&["/bin/sleep", "1000"]);
    let c = t.start(&bundle);
    drop(receiver.receive());
    let pid_file = t.file("exec.pid");
    let options = ["--detach", "--pid-file", pid_file.to_str().expect("UTF-8")];
    let output = c.exec_with(&options, &["/bin/call", GETPRIORITY]).output().ok();
    let (state, pid) = answer(receiver.receive());
    assert_eq!(fs::read_to_string(&pid_file).expect("no pid file"), pid.to_string());
    assert_eq!(state["pid"], pid);
    assert_eq!(state["state"]["status"], "running");
    assert_eq!(state["state"]["pid"], c.pid);
    assert_eq!(conformance::container::wait_for(pid), 0);
    assert_eq!(output.stdout(), "123\n");
    Ok(())
}

fn listener_that_is_not_there(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "connects even if nobody has to be told")?;
    let mut bundle = bundle(t)?;
    bundle.linux("seccomp", notifying(&t.file("nobody")));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.seccomp.listenerPath");
    // Nobody has to be told of anything.
    let mut filter = open(json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}]));
    filter["listenerPath"] = json!(t.file("nobody"));
    assert_eq!(calls(t, &mut bundle, &filter, &[GETPRIORITY]), ["-77"]);
    Ok(())
}

fn listener_refused(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "lets the container wait for ever")?;
    let mut bundle = bundle(t)?;
    let path = t.file("agent");
    let mut without = notifying(&path);
    without.as_object_mut().expect("an object").remove("listenerPath");
    without.as_object_mut().expect("an object").remove("listenerMetadata");
    let mut default = notifying(&path);
    default["defaultAction"] = json!("SCMP_ACT_NOTIFY");
    let mut write = notifying(&path);
    write["syscalls"][0]["names"] = json!(["getpid", "write"]);
    for (filter, property) in [
        (without, "linux.seccomp.listenerPath"),
        (default, "linux.seccomp.defaultAction"),
        (write, "linux.seccomp.syscalls[0].names[1]"),
    ] {
        bundle.linux("seccomp", filter);
        let output = t.refuses(&bundle);
        t.proa_says(&output, property);
    }
    Ok(())
}
