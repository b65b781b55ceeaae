//! Connections of TCP go on after a restore, if that is asked for.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use conformance::look;
use conformance::test::{Done, Test};

use super::subject::Subject;
use super::table::{Outcome, ok, refused, rows};

crate::cases! {
    a_connection,
}

static PORT: AtomicU16 = AtomicU16::new(7100);

fn a_connection() -> Done {
    rows(&[
        ("--tcp-established", &goes_on),
        ("--tcp-established --leave-running", &left_running),
        ("an established connection without the flag", &without_the_flag),
        ("a listening socket alone", &listening),
    ])
}

/// A server in this network namespace that says what it is told, and a connection to it.
fn server<'t>(t: &'t Test<'t>) -> (Subject<'t>, u16) {
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    let mut bundle = t.bundle();
    bundle.namespace("network", Some(format!("/proc/{}/ns/net", std::process::id()).as_ref()));
    bundle.args(&["/bin/busybox", "nc", "-ll", "-p", &port.to_string(), "-e", "/bin/cat"]);
    (Subject::new(t, bundle).run(), port)
}

#[track_caller]
fn connect(port: u16) -> TcpStream {
    let mut stream = None;
    look::eventually("the server to listen", || {
        stream = TcpStream::connect(("127.0.0.1", port)).ok();
        stream.is_some()
    });
    let stream = stream.expect("just connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("cannot set a time limit");
    stream
}

#[track_caller]
fn echoes(mut stream: &TcpStream, word: &str) {
    stream.write_all(word.as_bytes()).expect("cannot write to the connection");
    let mut heard = vec![0; word.len()];
    stream.read_exact(&mut heard).expect("nothing comes back by the connection");
    assert_eq!(String::from_utf8_lossy(&heard), word);
}

fn goes_on(t: &Test<'_>) -> Outcome {
    let (subject, port) = server(t);
    let client = connect(port);
    echoes(&client, "before");
    subject.checkpoint(&["--tcp-established"]).ok();
    subject.is_gone();
    subject.restored(&["--tcp-established"]);
    echoes(&client, "after");
    echoes(&connect(port), "another");
    drop(client);
    subject.is_killed_and_deleted();
    ok()
}

fn left_running(t: &Test<'_>) -> Outcome {
    let (subject, port) = server(t);
    let client = connect(port);
    echoes(&client, "before");
    subject.checkpoint(&["--tcp-established", "--leave-running"]).ok();
    echoes(&client, "after");
    subject.is_killed_and_deleted();
    ok()
}

fn without_the_flag(t: &Test<'_>) -> Outcome {
    let (subject, port) = server(t);
    let client = connect(port);
    echoes(&client, "before");
    let output = subject.checkpoint(&[]).fails();
    assert_eq!(subject.status(), "running");
    echoes(&client, "after");
    echoes(&connect(port), "another");
    refused(t, &output, &["tcp-established"])
}

fn listening(t: &Test<'_>) -> Outcome {
    let (subject, port) = server(t);
    drop(connect(port));
    // The child that served it, and its connection, have gone.
    look::eventually("the connection to end", || !look::descendants(subject.pid()).into_iter().any(look::is_alive));
    subject.goes_and_comes(&[]);
    echoes(&connect(port), "after");
    ok()
}
