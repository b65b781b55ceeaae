//! Containers and execs with a terminal.

use std::time::Duration;

use conformance::console::Master;
use conformance::sys::set_window_size;
use conformance::test::Done;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::bare::{Shim, bundle};
use super::fixture::Test;
use super::task::Stdio;

crate::cases![
    a_container_has_a_terminal,
    an_exec_has_a_terminal,
    the_size_of_the_terminal_follows_the_users,
    control_c_is_a_signal,
    resize_of_what_has_no_terminal,
    much_output_on_a_terminal_arrives,
];

fn a_container_has_a_terminal() -> Done {
    let t = Test::begin();
    let (mut master, slave) = Master::open();
    let call = t.container().option("--tty").rm(&["sh", "-c", "tty; test -t 0 && test -t 2 && echo yes; exit 3"]);
    let run = call.spawn_on(slave);
    master.expect("/dev/pts/0");
    master.expect("yes");
    run.end(Duration::from_secs(10)).exits(3);
    t.end()
}

fn an_exec_has_a_terminal() -> Done {
    let t = Test::begin();
    let c = t.sleeper();
    let (mut master, slave) = Master::open();
    set_window_size(master.fd(), 33, 77).expect("cannot set a size");
    // `ctr` tells the size when the program runs; busybox's stty fails with 0 as long as there is none.
    let script = "tty; read line; echo got $line; \
                  until [ \"$size\" ]; do size=$(stty size 2>/dev/null); sleep 0.1; done; echo $size; exit 5";
    let call = super::ctr::ctr(&["task", "exec", "--tty", "--exec-id", "tty", &c.id, "sh", "-c", script]);
    let run = call.spawn_on(slave);
    master.expect("/dev/pts/");
    master.write("a line\n");
    master.expect("got a line");
    master.expect("33 77");
    run.end(Duration::from_secs(10)).exits(5);
    t.end()
}

fn the_size_of_the_terminal_follows_the_users() -> Done {
    let t = Test::begin();
    let (mut master, slave) = Master::open();
    set_window_size(master.fd(), 41, 91).expect("cannot set a size");
    // `ctr` sets the size after the start.
    let script = "trap 'stty size' WINCH; sleep 0.3; stty size; while :; do sleep 0.05; done";
    let plan = t.container().option("--tty");
    let id = plan.id.clone();
    let run = plan.rm(&["sh", "-c", script]).spawn_on(slave);
    master.expect("41 91");
    // The kernel tells `ctr`, whose terminal it is; it tells the shim.
    set_window_size(master.fd(), 50, 100).expect("cannot set a size");
    master.expect("50 100");
    super::ctr::ctr(&["task", "kill", "-s", "SIGKILL", &id]).ok();
    run.end(Duration::from_secs(10)).exits(137);
    t.end()
}

fn control_c_is_a_signal() -> Done {
    let t = Test::begin();
    let (mut master, slave) = Master::open();
    let script = "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done";
    let run = t.container().option("--tty").rm(&["sh", "-c", script]).spawn_on(slave);
    master.expect("ready");
    master.write("\x03");
    master.expect("interrupted");
    run.end(Duration::from_secs(10)).exits(9);
    t.end()
}

fn resize_of_what_has_no_terminal() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    // Clients ask without looking: it is no error, and no end of the shim.
    task.resize("", 80, 25).expect("ResizePty");
    task.finish();
    shim.shutdown(&id);
    t.end()
}

fn much_output_on_a_terminal_arrives() -> Done {
    let t = Test::begin();
    let id = t.id();
    let mut bundle = bundle(&t, &id);
    bundle.process("terminal", serde_json::json!(true));
    bundle.sh("stty -onlcr; yes 0123456789abcde | head -c 5000000; printf over; sleep 0.2");
    let shim = Shim::start(&bundle, &id);
    let stdout = t.path("stdout");
    mkfifo(std::path::Path::new(&stdout), Mode::S_IRWXU).expect("cannot make a FIFO");
    let path = stdout.clone();
    let reader = std::thread::spawn(move || std::fs::read(path).expect("cannot read"));
    let task = shim.task(&id);
    let io = Stdio { terminal: true, stdout, ..Stdio::default() };
    task.create_io(&bundle.path, &io).expect("Create");
    task.start("").expect("Start");
    assert_eq!(task.wait("").expect("Wait"), 0);
    task.delete("").expect("Delete");
    let data = reader.join().expect("no panic");
    assert_eq!(data.len(), 5_000_004);
    assert!(data.ends_with(b"over"));
    shim.shutdown(&id);
    t.end()
}
