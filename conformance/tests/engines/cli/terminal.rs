//! `run -it` and `exec -it`, at a terminal as a user sits at one.

use conformance::test::Done;

use super::{run_call, sleeper};

crate::cases! {
    a_terminal,
    the_size_of_the_terminal_follows,
    a_terminal_of_exec,
    control_characters_are_signals,
    detach_and_attach,
}

fn a_terminal() -> Done {
    let mut session = run_call("--rm -it", &["sh"]).at_terminal();
    session.types("tty; stty size; echo a$((40+2))b\n");
    session.shows("/dev/pts/0");
    session.shows("40 100");
    session.shows("a42b");
    session.types("exit 5\n");
    session.exits(5);
    Ok(())
}

fn the_size_of_the_terminal_follows() -> Done {
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut session = run_call("--rm -it --init", &["sh", "-c", script]).at_terminal();
    session.shows("ready");
    session.shows_size(33, 77);
    session.types("\x03");
    session.exits(130);
    Ok(())
}

fn a_terminal_of_exec() -> Done {
    let container = sleeper("");
    let mut session = container.call("exec -it", &["sh"]).at_terminal();
    session.types("tty; stty size; echo a$((40+2))b\n");
    session.shows("/dev/pts/0");
    session.shows("40 100");
    session.shows("a42b");
    session.types("exit 6\n");
    session.exits(6);
    container.call("exec -it", &["nosuch"]).at_terminal().exits(127);
    Ok(())
}

fn control_characters_are_signals() -> Done {
    let mut session =
        run_call("--rm -it", &["sh", "-c", "trap 'echo interrupted; exit 9' INT; echo ready; sleep 100 & wait"])
            .at_terminal();
    session.shows("ready");
    session.types("\x03");
    session.shows("interrupted");
    session.exits(9);
    Ok(())
}

fn detach_and_attach() -> Done {
    let mut session =
        run_call("--name parted -it", &["sh", "-c", "echo ready; while read a; do echo got $a; done"]).at_terminal();
    session.shows("ready");
    // Podman knows its keys only if they come one by one, as a person types them.
    session.types("\x10");
    std::thread::sleep(std::time::Duration::from_millis(300));
    session.types("\x11");
    session.exits(0);
    let mut session = super::call(&["attach", "parted"]).at_terminal();
    session.types("word\n");
    session.shows("got word");
    session.types("\x04");
    session.exits(0);
    Ok(())
}
