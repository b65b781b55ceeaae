//! Standard input and output through FIFOs: nothing is lost, nobody who reads slowly or not at all stops more than
//! itself.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio as Pipe;
use std::time::{Duration, Instant};

use conformance::look;
use conformance::test::{Done, Skip};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::bare::{Shim, bundle};
use super::ctr::ctr;
use super::daemon::world;
use super::events;
use super::fixture::Test;
use super::task::Stdio;

crate::cases![
    stdin_is_passed_on_and_its_end_too,
    stdin_of_an_exec_is_passed_on_and_its_end_too,
    a_hundred_megabytes_on_both_outputs_arrive,
    a_slow_reader_gets_all,
    attach_reads_on,
    a_reader_that_goes_away_and_comes_back,
    a_reader_that_never_comes_stops_nobody,
    the_last_words_of_an_exec_arrive,
    output_that_a_grandchild_holds_does_not_hold_up_the_exit,
    close_io_ends_standard_input,
    without_stdio_there_is_dev_null_or_nothing,
];

fn file_of(text: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("no temporary file");
    file.write_all(text).and_then(|()| file.rewind()).expect("cannot write");
    file
}

fn stdin_is_passed_on_and_its_end_too() -> Done {
    let t = Test::begin();
    let text = "one line\n".repeat(20_000);
    let output = t.container().rm(&["sh", "-c", "cat; echo end"]).stdin(file_of(text.as_bytes())).ok();
    assert!(output.text() == text + "end\n", "{} bytes", output.stdout.len());
    t.end()
}

fn stdin_of_an_exec_is_passed_on_and_its_end_too() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    let text = "one line\n".repeat(20_000);
    let output = c.exec("in", &["sh", "-c", "cat; echo end"]).stdin(file_of(text.as_bytes())).ok();
    assert!(output.text() == text + "end\n", "{} bytes", output.stdout.len());
    t.end()
}

/// Whether it is `yes WORD`'s output, cut off at `size`.
fn is_yes(data: &[u8], word: &str, size: usize) -> bool {
    let line = format!("{word}\n").into_bytes();
    data.len() == size && data.chunks(line.len()).all(|chunk| *chunk == line[..chunk.len()])
}

fn a_hundred_megabytes_on_both_outputs_arrive() -> Done {
    let t = Test::begin();
    let (out, err) = (100 << 20, 10 << 20);
    // `ctr` may stop reading at the end of the container: it has to see all before.
    let script = format!("yes 0123456789abcde | head -c {out} & yes fedcba | head -c {err} >&2; wait; sleep 0.5");
    let output = t.container().rm(&["sh", "-c", &script]).limit(Duration::from_secs(60)).ok();
    assert!(is_yes(&output.stdout, "0123456789abcde", out), "{} bytes, or others", output.stdout.len());
    assert!(is_yes(output.stderr.as_bytes(), "fedcba", err), "{} bytes, or others", output.stderr.len());
    t.end()
}

fn a_slow_reader_gets_all() -> Done {
    let t = Test::begin();
    let (id, size) = (t.id(), 3 << 20);
    let (shim, io, dir) = with_fifos(&t, &id, &format!("yes 0123456789abcde | head -c {size}"), false);
    let task = shim.task(&id);
    let (_, _err) = readers(&io);
    let path = io.stdout.clone();
    let reading = std::thread::spawn(move || {
        let mut fifo = File::open(path).expect("cannot open a FIFO");
        // More than all pipes on the way hold: the program has to wait for its reader.
        std::thread::sleep(Duration::from_millis(400));
        let (mut all, mut part) = (Vec::new(), vec![0; 100_000]);
        while let count @ 1.. = fifo.read(&mut part).expect("cannot read") {
            all.extend(&part[..count]);
            std::thread::sleep(Duration::from_millis(5));
        }
        all
    });
    task.create_io(&dir, &io).expect("Create");
    task.start("").expect("Start");
    assert_eq!(task.wait("").expect("Wait"), 0);
    task.delete("").expect("Delete");
    let all = reading.join().expect("no panic");
    assert!(is_yes(&all, "0123456789abcde", size), "{} bytes, or others", all.len());
    shim.shutdown(&id);
    t.end()
}

fn attach_reads_on() -> Done {
    let t = Test::begin();
    let c = t.container().start(&["sh", "-c", "read line; echo got $line; read line; echo got $line; exit 4"]);
    let mut first = ctr(&["task", "attach", &c.id]).stdin(Pipe::piped()).spawn();
    let mut stdin = first.stdin();
    stdin.write_all(b"one\n").expect("cannot write");
    first.prints("got one");
    first.kill();
    let mut second = ctr(&["task", "attach", &c.id]).stdin(Pipe::piped()).spawn();
    second.stdin().write_all(b"two\n").expect("cannot write");
    second.prints("got two");
    drop(stdin);
    assert_eq!(events::wait(&c.id, "exit init").status(), 4);
    t.end()
}

/// FIFOs named after `name` in the test's directory; standard input too if `with_stdin`.
fn fifos(t: &Test, name: &str, with_stdin: bool) -> Stdio {
    let make = |which: &str| {
        let path = t.path(&format!("{name}-{which}"));
        mkfifo(Path::new(&path), Mode::S_IRWXU).expect("cannot make a FIFO");
        path
    };
    let stdin = if with_stdin { make("stdin") } else { String::new() };
    Stdio { terminal: false, stdin, stdout: make("stdout"), stderr: make("stderr") }
}

/// Opens the reading end without waiting for a writer.
fn reader(path: &str) -> File {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).expect("cannot open a FIFO")
}

/// Reads what is there, until the text contains `word`.
#[track_caller]
fn read_until(file: &mut File, word: &str) -> String {
    let mut text = Vec::new();
    let found = look::eventually_within(Duration::from_secs(10), || {
        let mut part = [0; 65536];
        while let Ok(count @ 1..) = file.read(&mut part) {
            text.extend(&part[..count]);
        }
        String::from_utf8_lossy(&text).contains(word)
    });
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(found, "no {word:?} in {text:?}");
    text
}

/// A shim whose one container is to run `script`, FIFOs for it, and the bundle.
fn with_fifos(t: &Test, id: &str, script: &str, with_stdin: bool) -> (Shim, Stdio, PathBuf) {
    let mut bundle = bundle(t, id);
    bundle.sh(script);
    let shim = Shim::start(&bundle, id);
    let io = fifos(t, id, with_stdin);
    (shim, io, bundle.path.clone())
}

/// Opens the FIFOs as clients do: before the task is created.
fn readers(io: &Stdio) -> (File, File) {
    (reader(&io.stdout), reader(&io.stderr))
}

fn a_reader_that_goes_away_and_comes_back() -> Done {
    let t = Test::begin();
    let id = t.id();
    let script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.01; done";
    let (shim, io, dir) = with_fifos(&t, &id, script, false);
    let task = shim.task(&id);
    let (mut first, _err) = readers(&io);
    task.create_io(&dir, &io).expect("Create");
    task.start("").expect("Start");
    read_until(&mut first, "line 5\n");
    drop(first);
    std::thread::sleep(Duration::from_millis(300));
    // Neither the program nor the shim's copy has ended for want of a reader.
    assert_eq!(task.status(), "RUNNING");
    let mut second = reader(&io.stdout);
    read_until(&mut second, "line ");
    let text = read_until(&mut second, "line ");
    assert!(!text.is_empty());
    task.finish();
    shim.shutdown(&id);
    t.end()
}

fn a_reader_that_never_comes_stops_nobody() -> Done {
    if world().is_control() {
        return Err(Skip("containerd's own shim waits in Create for a reader, for ever".into()));
    }
    let t = Test::begin();
    let id = t.id();
    let (shim, io, dir) = with_fifos(&t, &id, "yes | head -c 1000000; sleep 1000", false);
    let task = shim.task(&id);
    let begun = Instant::now();
    task.create_io(&dir, &io).expect("Create");
    task.start("").expect("Start");
    assert_eq!(task.status(), "RUNNING");
    // The FIFO is full by now, and nobody will ever empty it.
    std::thread::sleep(Duration::from_millis(200));
    task.kill("", 9).expect("Kill");
    assert_eq!(task.wait("").expect("Wait"), 137);
    task.delete("").expect("Delete");
    assert!(begun.elapsed() < Duration::from_secs(13), "{:?}", begun.elapsed());
    shim.shutdown(&id);
    t.end()
}

fn the_last_words_of_an_exec_arrive() -> Done {
    let t = Test::begin();
    let id = t.id();
    let (shim, _, dir) = with_fifos(&t, &id, "sleep 1000", false);
    let task = shim.task(&id);
    task.create(&dir).expect("Create");
    task.start("").expect("Start");
    for turn in 0..20 {
        let name = format!("w{turn}");
        let io = fifos(&t, &name, false);
        let (_, _err) = readers(&io);
        let path = io.stdout.clone();
        let reading = std::thread::spawn(move || std::fs::read(path).expect("cannot read"));
        // Written right before the end, more than one buffer of it.
        task.exec_io(&name, &["sh", "-c", "yes 0123456789abcde | head -c 300000; echo over"], &io).expect("Exec");
        task.start(&name).expect("Start");
        assert_eq!(task.wait(&name).expect("Wait"), 0);
        task.delete(&name).expect("Delete");
        let all = reading.join().expect("no panic");
        assert_eq!(all.len(), 300_005, "turn {turn}");
        assert!(all.ends_with(b"over\n"), "turn {turn}");
    }
    task.finish();
    shim.shutdown(&id);
    t.end()
}

fn output_that_a_grandchild_holds_does_not_hold_up_the_exit() -> Done {
    let t = Test::begin();
    let id = t.id();
    let (shim, _, dir) = with_fifos(&t, &id, "sleep 1000", false);
    let task = shim.task(&id);
    task.create(&dir).expect("Create");
    task.start("").expect("Start");
    let io = fifos(&t, "exec", false);
    let (mut out, _err) = readers(&io);
    task.exec_io("x", &["sh", "-c", "echo said; sleep 1000 & exit 6"], &io).expect("Exec");
    let begun = Instant::now();
    task.start("x").expect("Start");
    assert_eq!(task.wait("x").expect("Wait"), 6);
    // The exit does not wait for the end of the output.
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    read_until(&mut out, "said");
    // Deletion waits for it, but not for ever.
    assert_eq!(task.delete("x").expect("Delete").exit_status, 6);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    task.finish();
    shim.shutdown(&id);
    t.end()
}

fn close_io_ends_standard_input() -> Done {
    let t = Test::begin();
    let id = t.id();
    let (shim, io, dir) = with_fifos(&t, &id, "cat; echo end of input; exit 3", true);
    let task = shim.task(&id);
    let (mut out, _err) = readers(&io);
    task.create_io(&dir, &io).expect("Create");
    task.start("").expect("Start");
    let mut stdin = File::options().write(true).open(&io.stdin).expect("cannot open a FIFO");
    stdin.write_all(b"some words\n").expect("cannot write");
    read_until(&mut out, "some words");
    // The client's end stays open, as where another process has it too. containerd's own shim then reads on.
    let mut kept = Some(stdin);
    if world().is_control() {
        kept = None;
    }
    task.close_stdin("").expect("CloseIO");
    read_until(&mut out, "end of input");
    assert_eq!(task.wait("").expect("Wait"), 3);
    drop(kept);
    task.delete("").expect("Delete");
    shim.shutdown(&id);
    t.end()
}

fn without_stdio_there_is_dev_null_or_nothing() -> Done {
    let t = Test::begin();
    let id = t.id();
    // Reads the end at once, and writes without an error.
    let (shim, _, dir) = with_fifos(&t, &id, "cat && echo words && exit 8", false);
    let task = shim.task(&id);
    task.create(&dir).expect("Create");
    task.start("").expect("Start");
    assert_eq!(task.wait("").expect("Wait"), 8);
    task.delete("").expect("Delete");
    shim.shutdown(&id);
    t.end()
}
