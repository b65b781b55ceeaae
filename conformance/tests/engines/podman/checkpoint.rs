//! Checkpoints that Podman makes by the runtime's `checkpoint`, and restores by conmon and its `restore`.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use conformance::look;
use conformance::test::Done;

use crate::cli::{Container, call, ok, start};
use crate::command::Call;

crate::cases! {
    checkpoint_and_restore,
    checkpoint_leaves_it_running,
    checkpoint_keeps_its_files,
    checkpoint_exported_and_imported,
    checkpoint_imported_under_another_name,
    checkpoint_of_a_terminal,
    checkpoint_of_a_connection,
    checkpoint_of_a_connection_without_the_flag,
    checkpoint_of_volumes_limits_and_privileges,
    checkpoint_statistics,
    checkpoint_in_a_pod,
    checkpoint_without_root,
}

const COUNT: &str = "n=0; while :; do n=$((n+1)); echo $n >/n; sleep 0.2; done";

fn counting(options: &str) -> Container {
    let container = start(options, &["sh", "-c", COUNT]);
    counts_on(&container, 2);
    container
}

#[track_caller]
fn count(container: &Container) -> u32 {
    let mut count = None;
    look::eventually("a number", || {
        count = container.sh("cat /n").parse().ok();
        count.is_some()
    });
    count.unwrap_or_default()
}

#[track_caller]
fn counts_on(container: &Container, by: u32) -> u32 {
    look::eventually("it to count", || container.call("exec", &["cat", "/n"]).run().success());
    let goal = count(container) + by;
    look::eventually("it to count on", || count(container) >= goal);
    goal
}

/// The last number before the checkpoint; the file is the container's, which does not run.
#[track_caller]
fn checkpoint(container: &Container, options: &str) -> u32 {
    let last = count(container);
    container.ok(&format!("container checkpoint {options}"));
    last
}

fn checkpoint_and_restore() -> Done {
    let container = counting("");
    let last = checkpoint(&container, "");
    assert_eq!(container.status(), "exited");
    assert_eq!(container.inspect("/State/Checkpointed"), true);
    container.ok("container restore");
    assert_eq!((container.status(), container.inspect("/State/Restored")), ("running".to_owned(), true.into()));
    assert!(count(&container) >= last, "it begins anew");
    counts_on(&container, 2);
    assert!(look::is_alive(container.pid()));
    container.ok("pause");
    container.ok("unpause");
    container.ok("stop -t 0");
    assert_eq!(container.status(), "exited");
    // It can also be started as any other.
    container.ok("start");
    Ok(())
}

fn checkpoint_leaves_it_running() -> Done {
    let container = counting("");
    let pid = container.pid();
    checkpoint(&container, "--leave-running");
    assert_eq!((container.status(), container.pid()), ("running".to_owned(), pid));
    counts_on(&container, 2);
    Ok(())
}

fn checkpoint_keeps_its_files() -> Done {
    let container = counting("");
    checkpoint(&container, "--keep");
    let log = container.inspect("/State/CheckpointLog");
    let log = log.as_str().expect("a path").to_owned();
    assert!(fs::read_to_string(&log).is_ok_and(|text| text.contains("Dumping finished successfully")), "{log}");
    let images = container.inspect("/State/CheckpointPath");
    assert!(fs::read_dir(images.as_str().expect("a path")).expect("images").count() > 5);
    container.ok("container restore --keep");
    let log = container.inspect("/State/RestoreLog");
    let log = log.as_str().expect("a path").to_owned();
    assert!(fs::read_to_string(&log).is_ok_and(|text| text.contains("Restore finished successfully")), "{log}");
    counts_on(&container, 2);
    Ok(())
}

/// An archive's path, in a directory that ends with the value.
fn archive() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("no temporary directory");
    let path = dir.path().join("checkpoint.tar").to_str().expect("a path in UTF-8").to_owned();
    (dir, path)
}

fn checkpoint_exported_and_imported() -> Done {
    let (_dir, file) = archive();
    let container = counting("--name moved");
    container.sh("echo of the root >/file");
    let last = checkpoint(&container, &format!("--export {file}"));
    container.ok("rm");
    let id = ok(&["container", "restore", "--import", &file]);
    let container = Container { id };
    assert!(count(&container) >= last, "it begins anew");
    counts_on(&container, 2);
    assert_eq!(container.sh("cat /file"), "of the root");
    assert_eq!(container.inspect("/Name"), "moved");
    Ok(())
}

fn checkpoint_imported_under_another_name() -> Done {
    let (_dir, file) = archive();
    let container = counting("");
    let last = checkpoint(&container, &format!("--leave-running --export {file}"));
    let copies = ["copy1", "copy2"].map(|name| {
        let id = ok(&["container", "restore", "--import", &file, "--name", name]);
        Container { id }
    });
    for copy in &copies {
        assert!(count(copy) + 1 >= last, "it begins anew");
        counts_on(copy, 2);
        assert_ne!(copy.pid(), container.pid());
    }
    copies[0].ok("rm -f -t 0");
    counts_on(&copies[1], 1);
    counts_on(&container, 1);
    Ok(())
}

fn checkpoint_of_a_terminal() -> Done {
    let script = "n=0; while :; do n=$((n+1)); echo number $n; echo $n >/n; sleep 0.2; done";
    let container = start("-t", &["sh", "-c", script]);
    counts_on(&container, 2);
    let last = checkpoint(&container, "");
    container.ok("container restore");
    assert!(count(&container) >= last);
    let goal = counts_on(&container, 2);
    look::eventually("its output", || container.ok("logs").contains(&format!("number {goal}")));
    Ok(())
}

#[track_caller]
fn echoes(mut stream: &TcpStream, word: &str) {
    stream.write_all(word.as_bytes()).expect("cannot write to the connection");
    let mut heard = vec![0; word.len()];
    stream.read_exact(&mut heard).expect("nothing comes back by the connection");
    assert_eq!(String::from_utf8_lossy(&heard), word);
}

/// A container that says what it is told, and a connection to it from the host.
fn connected() -> (Container, TcpStream) {
    let container = start("", &["busybox", "nc", "-ll", "-p", "7000", "-e", "/bin/cat"]);
    let address = container.inspect("/NetworkSettings/Networks/podman/IPAddress");
    let address = format!("{}:7000", address.as_str().expect("an address"));
    let mut stream = None;
    look::eventually("the server", || {
        stream = TcpStream::connect(&address).ok();
        stream.is_some()
    });
    let stream = stream.expect("just connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("cannot set a time limit");
    echoes(&stream, "before");
    (container, stream)
}

fn checkpoint_of_a_connection() -> Done {
    let (container, stream) = connected();
    container.ok("container checkpoint --tcp-established");
    container.ok("container restore --tcp-established");
    echoes(&stream, "after");
    Ok(())
}

fn checkpoint_of_a_connection_without_the_flag() -> Done {
    let (container, stream) = connected();
    let said = container.call("container checkpoint", &[]).run().fails();
    assert!(!said.err.trim().is_empty());
    assert_eq!(container.status(), "running");
    echoes(&stream, "after");
    Ok(())
}

fn checkpoint_of_volumes_limits_and_privileges() -> Done {
    let dir = tempfile::tempdir().expect("no temporary directory");
    fs::write(dir.path().join("file"), "of the host").expect("cannot write");
    let options = format!(
        "-v {}:/host:ro -v named:/named --tmpfs /scratch --pids-limit 77 --cap-drop all --cap-add dac_override \
         --security-opt no-new-privileges",
        dir.path().display()
    );
    let container = counting(&options);
    container.sh("echo kept >/scratch/file; echo named >/named/file");
    let privileges = |container: &Container| {
        let text = look::proc_text(container.pid(), "status");
        let names = ["Uid", "Gid", "Cap", "NoNewPrivs", "Seccomp:"];
        let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let before = privileges(&container);
    checkpoint(&container, "");
    container.ok("container restore");
    counts_on(&container, 1);
    assert_eq!(privileges(&container), before);
    let script = "cat /host/file; echo; cat /scratch/file /named/file; touch /host/x 2>/dev/null || echo read-only";
    assert_eq!(container.sh(script), "of the host\nkept\nnamed\nread-only");
    let pids = look::controller(container.pid(), "pids").map(|pids| pids.read("pids.max"));
    assert!(pids.is_none_or(|limit| limit == "77"));
    Ok(())
}

fn checkpoint_statistics() -> Done {
    let container = counting("");
    let said = call(&["container", "checkpoint", "--print-stats", &container.id]).run().text();
    assert!(said.contains("runtime_checkpoint_duration") && said.contains("memwrite_time"), "{said}");
    let said = call(&["container", "restore", "--print-stats", &container.id]).run().text();
    assert!(said.contains("runtime_restore_duration"), "{said}");
    Ok(())
}

/// A container that shares the namespaces of a pod, and comes back to them.
fn checkpoint_in_a_pod() -> Done {
    let (_dir, file) = archive();
    ok(&["pod", "create", "--name", "old"]);
    let container = counting("--pod old");
    let last = checkpoint(&container, &format!("--export {file}"));
    ok(&["pod", "rm", "-f", "-t", "0", "old"]);
    ok(&["pod", "create", "--name", "new"]);
    let id = ok(&["container", "restore", "--import", &file, "--pod", "new"]);
    let container = Container { id };
    assert!(count(&container) >= last, "it begins anew");
    counts_on(&container, 2);
    let infra = ok(&["pod", "inspect", "new", "--format", "{{.InfraContainerID}}"]);
    let infra = Container { id: infra }.pid();
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(look::namespace(container.pid(), kind), look::namespace(infra, kind), "{kind}");
    }
    Ok(())
}

fn checkpoint_without_root() -> Done {
    let words = ["podman", "container", "checkpoint", "nobody"];
    Call::new("as-user", &words).env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1").run().fails().says("requires root");
    Ok(())
}
