//! Terminals: the console socket, a user's own terminal in the foreground, its
//! size, and that it is given back as it was; the pidfd socket.

use std::fs;
use std::os::fd::AsRawFd;

use conformance::console::{Master, Receiver};
use conformance::look;
use conformance::runtime::Kind;
use conformance::sys;
use conformance::test::{Done, Test};
use nix::sys::signal::Signal;
use nix::sys::termios::tcgetattr;
use serde_json::json;

crate::cases! {
    "C-25" => console_socket_gets_the_master,
    "L-19" => dev_console_is_the_terminal,
    "C-26" => console_size,
    "C-26" => console_size_without_a_terminal,
    "" => console_belongs_to_the_user,
    "" => console_in_a_user_namespace,
    "" => console_socket_that_is_not_there,
    "" => run_in_the_users_terminal,
    "" => run_follows_the_window_size,
    "" => run_restores_the_terminal,
    "" => run_restores_the_terminal_after_a_failure,
    "" => run_restores_the_terminal_when_told_to_end,
    "" => run_without_a_terminal_at_hand,
    "" => interrupt_key_reaches_the_program,
    "" => exec_by_console_socket,
    "" => exec_in_the_users_terminal,
    "" => exec_without_a_terminal_in_a_container_with_one,
    "" => pidfd_socket,
    "" => pidfd_socket_of_exec,
    "" => notify_socket,
}

fn console_socket_gets_the_master(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all three; read line; echo got $line");
    bundle.process("terminal", json!(true));
    let receiver = Receiver::listen(&t.file("s"));
    let id = t.id();
    let options = ["--console-socket".as_ref(), receiver.path.as_os_str()];
    let output = t.create_call(&bundle, &id).options(&options).output().ok();
    let (name, mut fds) = receiver.receive();
    assert_eq!(fds.len(), 1, "descriptors with the message");
    assert!(
        name.contains("pts") || name.contains("ptmx") || name == "\0" || t.is(Kind::Crun),
        "the message is the terminal's name: {name:?}"
    );
    let mut master = Master::new(fds.remove(0));
    let c = t.container(id, output);
    assert_eq!(
        look::fds(c.pid).iter().filter(|(_, target)| target.contains("ptmx")).count(),
        0,
        "init holds the master"
    );
    c.start();
    master.expect("all three\r\n");
    master.write("hello\n");
    master.expect("got hello\r\n");
    assert!(master.text().contains("/dev/pts/0\r\n"), "{}", master.text());
    assert_eq!(c.wait(), 0);
    Ok(())
}

/// A started container with a terminal, and the terminal's master.
#[track_caller]
fn with_console<'t>(
    t: &'t Test<'_>,
    bundle: &conformance::bundle::Bundle,
) -> (conformance::container::Container<'t>, Master) {
    let receiver = Receiver::listen(&t.file("s"));
    let id = t.id();
    let options = ["--console-socket".as_ref(), receiver.path.as_os_str()];
    let output = t.create_call(bundle, &id).options(&options).output().ok();
    let master = receiver.terminal();
    fs::remove_file(&receiver.path).expect("cannot remove a socket");
    let c = t.container(id, output);
    c.start();
    (c, master)
}

fn dev_console_is_the_terminal(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "makes /dev/console a link")?;
    let mut bundle = t.sh_bundle("stat -c '%t' /dev/console /dev/pts/0; grep -c ' /dev/console ' /proc/self/mountinfo; echo by console >/dev/console");
    bundle.process("terminal", json!(true));
    let (c, mut master) = with_console(t, &bundle);
    master.expect("by console\r\n");
    assert_eq!(master.text(), "88\r\n88\r\n1\r\nby console\r\n");
    assert_eq!(c.wait(), 0);
    Ok(())
}

fn console_size(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("stty size");
    bundle.process("terminal", json!(true)).process("consoleSize", json!({"height": 11, "width": 77}));
    let (c, mut master) = with_console(t, &bundle);
    master.expect("11 77\r\n");
    assert_eq!(sys::window_size(master.fd()).ok(), Some((11, 77)));
    assert_eq!(c.wait(), 0);
    Ok(())
}

fn console_size_without_a_terminal(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.process("consoleSize", json!({"height": 11, "width": 77}));
    t.run(&bundle).ok();
    Ok(())
}

fn console_belongs_to_the_user(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("stat -c '%u:%g %a' /dev/pts/0; echo x >/dev/pts/0; echo y >/proc/self/fd/1");
    bundle.process("terminal", json!(true)).process("user", json!({"uid": 1000, "gid": 1000}));
    let (c, mut master) = with_console(t, &bundle);
    master.expect("y\r\n");
    assert!(master.text().starts_with("1000:5 620\r\nx\r\n"), "{}", master.text());
    assert_eq!(c.wait(), 0);
    Ok(())
}

fn console_in_a_user_namespace(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("tty; stat -c %u /dev/pts/0; echo x >/dev/console; id -u");
    bundle.process("terminal", json!(true)).user_namespace(100_000);
    let (c, mut master) = with_console(t, &bundle);
    master.expect("x\r\n0\r\n");
    assert_eq!(master.text(), "/dev/pts/0\r\n0\r\nx\r\n0\r\n");
    assert_eq!(c.wait(), 0);
    Ok(())
}

fn console_socket_that_is_not_there(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.process("terminal", json!(true));
    let path = t.file("nowhere");
    let call = t.create_call(&bundle, &t.id()).options(&["--console-socket".as_ref(), path.as_os_str()]);
    let output = call.output().fails();
    t.assert_clean_failure(&output);
    Ok(())
}

fn run_in_the_users_terminal(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("tty; read line; echo got $line; exit 9");
    bundle.process("terminal", json!(true));
    let (mut master, slave) = Master::open();
    let running = t.run_call(&bundle, &t.id()).terminal(slave).spawn();
    master.expect("/dev/pts/0\r\n");
    master.write("hello\n");
    running.wait(&t.runtime).exits(9);
    master.expect("got hello\r\n");
    Ok(())
}

fn run_follows_the_window_size(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "begins with no size")?;
    let mut bundle = t.sh_bundle("stty size; trap 'stty size' WINCH; echo ready; while :; do sleep 0.01; done");
    bundle.process("terminal", json!(true));
    let (mut master, slave) = Master::open();
    sys::set_window_size(master.fd(), 20, 60).expect("cannot set a size");
    let id = t.id();
    let running = t.run_call(&bundle, &id).terminal(slave).spawn();
    master.expect("ready");
    assert!(master.text().contains("20 60\r\n"), "the size at the start: {}", master.text());
    sys::set_window_size(master.fd(), 33, 99).expect("cannot set a size");
    master.expect("33 99\r\n");
    t.call(&["kill", &id, "KILL"]).output().ok();
    running.wait(&t.runtime).exits(128 + 9);
    Ok(())
}

/// Runs a container with a terminal, ends it by `end`, and compares the user's
/// terminal with what it was before.
#[track_caller]
fn restores(t: &Test<'_>, program: &[&str], end: impl Fn(&mut Master, &conformance::runtime::Running)) -> i32 {
    let mut bundle = t.bundle();
    bundle.args(program).process("terminal", json!(true));
    let (mut master, slave) = Master::open();
    let keep = slave.try_clone().expect("cannot duplicate a terminal");
    let before = tcgetattr(&keep).expect("cannot ask a terminal");
    let running = t.run_call(&bundle, &t.id()).terminal(slave).spawn();
    end(&mut master, &running);
    let code = running.wait(&t.runtime).code();
    assert_eq!(tcgetattr(&keep).expect("cannot ask a terminal"), before, "the user's terminal is not as it was");
    code
}

fn run_restores_the_terminal(t: &Test<'_>) -> Done {
    let script = "stty -echo raw; echo ready; read line; exit 3";
    let code = restores(t, &["/bin/sh", "-c", script], |master, _| {
        master.expect("ready");
        master.write("\n");
    });
    assert_eq!(code, 3);
    Ok(())
}

fn run_restores_the_terminal_after_a_failure(t: &Test<'_>) -> Done {
    let code = restores(t, &["/no/such/program"], |_, _| ());
    assert_ne!(code, 0);
    Ok(())
}

fn run_restores_the_terminal_when_told_to_end(t: &Test<'_>) -> Done {
    let script = "trap 'exit 4' TERM; echo ready; while :; do sleep 0.01; done";
    let code = restores(t, &["/bin/sh", "-c", script], |master, running| {
        master.expect("ready");
        running.kill(Signal::SIGTERM);
    });
    assert_eq!(code, 4);
    Ok(())
}

fn run_without_a_terminal_at_hand(t: &Test<'_>) -> Done {
    // A shell would wait for ever for an end that nobody can type.
    let mut bundle = t.sh_bundle("tty; read line");
    bundle.process("terminal", json!(true));
    t.needs(fs::File::open("/dev/tty").is_err(), "tests that have no terminal")?;
    let output = t.run(&bundle);
    t.assert_clean_failure(&output);
    t.sleeper().exec_with(&["--tty"], &["/bin/sh"]).output().exits(255);
    Ok(())
}

fn interrupt_key_reaches_the_program(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("trap 'echo interrupted; exit 6' INT; echo ready; while :; do sleep 0.01; done");
    bundle.process("terminal", json!(true));
    let (mut master, slave) = Master::open();
    let running = t.run_call(&bundle, &t.id()).terminal(slave).spawn();
    master.expect("ready");
    master.write("\x03");
    running.wait(&t.runtime).exits(6);
    master.expect("interrupted");
    Ok(())
}

fn exec_by_console_socket(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let receiver = Receiver::listen(&t.file("s"));
    let path = receiver.path.to_str().expect("UTF-8");
    let options = ["--tty", "--detach", "--console-socket", path];
    c.exec_with(&options, &["/bin/sh", "-c", "tty; read line; echo got $line"]).output().ok();
    let mut master = receiver.terminal();
    master.expect("/dev/pts/0\r\n");
    master.write("hello\n");
    master.expect("got hello\r\n");
    Ok(())
}

fn exec_in_the_users_terminal(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let (mut master, slave) = Master::open();
    let keep = slave.try_clone().expect("cannot duplicate a terminal");
    let before = tcgetattr(&keep).expect("cannot ask a terminal");
    sys::set_window_size(master.fd(), 20, 60).expect("cannot set a size");
    let running = c
        .exec_with(&["-t"], &["/bin/sh", "-c", "tty; stty size; ps -o pid,tty | grep -c pts; read line; exit 8"])
        .terminal(slave)
        .spawn();
    master.expect("20 60\r\n");
    master.write("\n");
    running.wait(&t.runtime).exits(8);
    assert_eq!(tcgetattr(&keep).expect("cannot ask a terminal"), before, "the user's terminal is not as it was");
    Ok(())
}

fn exec_without_a_terminal_in_a_container_with_one(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("echo ready; exec sleep 1000");
    bundle.process("terminal", json!(true));
    let (c, mut master) = with_console(t, &bundle);
    master.expect("ready");
    assert_eq!(c.sh("[ -t 1 ] || echo none"), "none\n");
    Ok(())
}

fn pidfd_socket(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "has no --pidfd-socket")?;
    let receiver = Receiver::listen(&t.file("s"));
    let bundle = t.sleeping_bundle();
    let id = t.id();
    let options = ["--pidfd-socket".as_ref(), receiver.path.as_os_str()];
    let output = t.create_call(&bundle, &id).options(&options).output().ok();
    let (payload, fds) = receiver.receive();
    assert_eq!((payload.as_str(), fds.len()), ("standard", 1));
    let c = t.container(id, output);
    assert_eq!(pid_of(&fds[0]), c.pid);
    sys::pidfd_kill(&fds[0], libc::SIGKILL).expect("cannot signal by the pidfd");
    assert_eq!(c.wait(), 128 + 9);
    Ok(())
}

/// The pid of a pidfd's process.
fn pid_of(pidfd: &impl AsRawFd) -> i32 {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).expect("no fdinfo");
    look::field(&text, "Pid").and_then(|pid| pid.parse().ok()).expect("not a pidfd")
}

fn pidfd_socket_of_exec(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "has no --pidfd-socket")?;
    let c = t.sleeper();
    let receiver = Receiver::listen(&t.file("s"));
    let pid_file = t.file("exec.pid");
    let options = [
        "--detach",
        "--pidfd-socket",
        receiver.path.to_str().expect("UTF-8"),
        "--pid-file",
        pid_file.to_str().expect("UTF-8"),
    ];
    c.exec_with(&options, &["sleep", "999"]).output().ok();
    let (payload, fds) = receiver.receive();
    assert_eq!((payload.as_str(), fds.len()), ("setns", 1));
    let pid: i32 = fs::read_to_string(&pid_file).expect("no pid file").parse().expect("no pid");
    assert_eq!(pid_of(&fds[0]), pid);
    Ok(())
}

fn notify_socket(t: &Test<'_>) -> Done {
    use std::os::unix::net::UnixDatagram;
    let path = t.file("notify");
    let host = UnixDatagram::bind(&path).expect("cannot listen");
    host.set_read_timeout(Some(conformance::runtime::TIME_LIMIT)).expect("cannot set a time limit");
    // busybox has no client for datagram sockets: what can be seen is that the
    // program is told of a socket, and that it is there and not the host's path.
    let bundle = t.sh_bundle("echo $NOTIFY_SOCKET; [ -S $NOTIFY_SOCKET ] && echo a socket; exec sleep 1000");
    let id = t.id();
    let output = t.create_call(&bundle, &id).env("NOTIFY_SOCKET", &path).output().ok();
    let c = t.container(id, output);
    // `start` waits for the program's word, which the test gives in its place.
    let start = c.call("start").env("NOTIFY_SOCKET", &path).spawn();
    c.prints("a socket\n");
    let inside = c.stdout().lines().next().unwrap_or_default().to_owned();
    assert!(!t.is_proa() || inside == "/run/notify/notify.sock", "{inside}");
    let client = UnixDatagram::unbound().expect("no socket");
    client.send_to(b"READY=1", look::root_of(c.pid, &inside)).expect("cannot send");
    // The barrier comes with a descriptor, which is closed by not taking it.
    let wanted = if t.is(Kind::Crun) {
        vec!["READY=1".to_owned()]
    } else {
        vec!["READY=1".into(), format!("MAINPID={}", c.pid)]
    };
    let mut all = String::new();
    while !(all.contains("BARRIER=1") && wanted.iter().all(|word| all.contains(word))) {
        let mut buffer = [0; 512];
        let length =
            host.recv(&mut buffer).unwrap_or_else(|error| panic!("nothing more was relayed after {all:?}: {error}"));
        all += &String::from_utf8_lossy(&buffer[..length]);
        all.push('\n');
    }
    start.wait(&t.runtime).ok();
    Ok(())
}
