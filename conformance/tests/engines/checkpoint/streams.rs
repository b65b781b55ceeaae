//! Standard streams: a terminal, pipes; and a restore in the foreground.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::process::Stdio;
use std::sync::mpsc::{Receiver as Lines, channel};
use std::time::Duration;

use conformance::console::Receiver;
use conformance::look;
use conformance::test::{Done, Test};

use super::subject::{Subject, eventually};
use super::table::{Outcome, ok, refused, rows};

crate::cases! {
    a_terminal,
    pipes,
    the_foreground,
}

const ANSWER: &str = "while read line; do echo got $line; done; exit 3";

fn a_terminal() -> Done {
    rows(&[
        ("a terminal by --console-socket", &terminal),
        ("a terminal, and restore -d without --console-socket", &without_socket),
    ])
}

fn terminal(t: &Test<'_>) -> Outcome {
    let mut bundle = t.sh_bundle(ANSWER);
    bundle.process("terminal", serde_json::json!(true));
    let subject = Subject::new(t, bundle);
    let socket = Receiver::listen(&t.file("first"));
    let path = |socket: &Receiver| socket.path.to_str().expect("paths of tests are UTF-8").to_owned();
    subject.run_call().options(&["--console-socket", &path(&socket)]).output().ok();
    let mut master = socket.terminal();
    master.write("one\n");
    master.expect("got one");
    subject.checkpoint(&[]).ok();
    subject.is_gone();
    drop(master);
    let socket = Receiver::listen(&t.file("second"));
    subject.restored(&["--console-socket", &path(&socket)]);
    let mut master = socket.terminal();
    master.write("two\n");
    master.expect("got two");
    conformance::sys::set_window_size(master.fd(), 33, 77).expect("cannot set the size of a terminal");
    let pid = subject.pid();
    assert!(
        look::fds(pid)[&0].starts_with("/dev/pts/") || look::fds(pid)[&0] == "/dev/console",
        "{:?}",
        look::fds(pid)
    );
    subject.is_killed_and_deleted();
    ok()
}

fn without_socket(t: &Test<'_>) -> Outcome {
    let mut bundle = t.sh_bundle(ANSWER);
    bundle.process("terminal", serde_json::json!(true));
    let subject = Subject::new(t, bundle);
    let socket = Receiver::listen(&t.file("first"));
    let path = socket.path.to_str().expect("paths of tests are UTF-8");
    subject.run_call().options(&["--console-socket", path]).output().ok();
    let master = socket.terminal();
    subject.checkpoint(&[]).ok();
    drop(master);
    let output = subject.restore(&[]);
    if t.is_proa() {
        subject.is_gone();
    }
    refused(t, &output, &["console"])
}

/// The ends of the pipes of a container that are the test's.
struct Ends {
    input: PipeWriter,
    output: Lines<String>,
}

fn pair() -> ([Stdio; 3], Ends) {
    let (theirs, input) = pipe().expect("no pipe");
    let (output, written): (PipeReader, PipeWriter) = pipe().expect("no pipe");
    let error = written.try_clone().expect("cannot duplicate a descriptor");
    ([theirs.into(), written.into(), error.into()], Ends { input, output: lines(output) })
}

/// What comes by a pipe, read by a thread that ends with the pipe.
fn lines(mut from: PipeReader) -> Lines<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if send.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                break;
            }
        }
    });
    lines
}

#[track_caller]
fn answers(ends: &mut Ends, word: &str) {
    writeln!(ends.input, "{word}").expect("cannot write to the pipe");
    let said = ends.output.recv_timeout(Duration::from_secs(10)).expect("nothing comes by the pipe");
    assert_eq!(said.trim(), format!("got {word}"));
}

fn pipes() -> Done {
    rows(&[
        ("pipes: those of the restore", &|t| {
            let subject = Subject::new(t, t.sh_bundle(ANSWER));
            let (streams, mut ends) = pair();
            subject.run_call().streams(streams).output();
            answers(&mut ends, "one");
            subject.checkpoint(&[]).ok();
            subject.is_gone();
            let (streams, mut new) = pair();
            let output = subject.restore_call(&["-d"]).streams(streams).output();
            if !output.status.success() {
                let said: String = new.output.try_iter().collect();
                panic!("restore: {said}");
            }
            answers(&mut new, "two");
            subject.is_killed_and_deleted();
            ok()
        }),
        ("pipes: the end of the input ends it, in the foreground", &|t| {
            let subject = Subject::new(t, t.sh_bundle(ANSWER));
            let (streams, mut ends) = pair();
            subject.run_call().streams(streams).output();
            answers(&mut ends, "one");
            subject.checkpoint(&[]).ok();
            let (streams, mut new) = pair();
            let running = subject.restore_call(&[]).streams(streams).spawn();
            answers(&mut new, "two");
            drop(new.input);
            let output = running.wait(&t.runtime);
            assert_eq!(output.code(), 3);
            subject.is_gone();
            ok()
        }),
    ])
}

fn the_foreground() -> Done {
    rows(&[
        ("restore in the foreground: the program's status", &|t| {
            let subject = frozen(t);
            let running = subject.restore_call(&[]).spawn();
            eventually("it to run", || subject.state().is_some_and(|state| state["status"] == "running"));
            std::fs::write(subject.bundle.inside("/end"), "").expect("cannot write");
            running.wait(&t.runtime).exits(7);
            subject.is_gone();
            ok()
        }),
        ("restore in the foreground: a signal is passed on", &|t| {
            let subject = frozen(t);
            let running = subject.restore_call(&[]).spawn();
            eventually("it to run", || subject.state().is_some_and(|state| state["status"] == "running"));
            // Until the runtime waits for its end.
            std::thread::sleep(Duration::from_millis(300));
            running.kill(nix::sys::signal::Signal::SIGTERM);
            running.wait(&t.runtime).exits(9);
            subject.is_gone();
            ok()
        }),
    ])
}

/// A checkpoint of a program that ends with status 7 once /end is there, with 9 at SIGTERM.
fn frozen<'t>(t: &'t Test<'t>) -> Subject<'t> {
    let script = "trap 'exit 9' TERM; while [ ! -e /end ]; do sleep 0.2; done; exit 7";
    let subject = Subject::new(t, t.sh_bundle(script)).run();
    std::thread::sleep(Duration::from_millis(250));
    subject.checkpoint(&[]).ok();
    subject.is_gone();
    subject
}
