//! Podman of a user without privileges: its containers are in a user namespace that Podman has made.

use conformance::image::{BUSYBOX, Image};
use conformance::look;
use conformance::test::Done;

use crate::command::Call;

crate::cases! {
    rootless_containers,
    rootless_and_the_users_own_ids,
    rootless_errors,
    rootless_network,
    rootless_and_detached,
    rootless_terminal,
    rootless_volumes,
    rootless_pods,
    rootless_leaves_nothing,
}

fn user(words: &[&str]) -> Call {
    let mut all = vec!["podman"];
    all.extend(words);
    Call::new("as-user", &all).env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1")
}

/// Gives the user the image, and a process of Podman's that holds the user's namespaces from then on.
pub(super) fn begin() {
    let file = tempfile::NamedTempFile::new().expect("no temporary file");
    Image::new(BUSYBOX).write(file.path());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(file.path(), mode).expect("cannot chmod");
    user(&["load", "-i", file.path().to_str().expect("a path in UTF-8")]).run().ok();
}

fn run_call(options: &str, program: &[&str]) -> Call {
    let mut words = vec!["run"];
    words.extend(options.split_whitespace());
    words.push(BUSYBOX);
    words.extend(program);
    user(&words)
}

#[track_caller]
fn sh(options: &str, script: &str) -> String {
    run_call(&format!("--rm {options}"), &["sh", "-c", script]).run().text()
}

fn rootless_containers() -> Done {
    assert_eq!(sh("", "id -u; awk '{ print $1, $2, $3 }' /proc/self/uid_map"), "0\n0 1000 1\n1 100000 65536");
    assert_eq!(sh("-u guest", "id -u; touch /tmp/x; stat -c %u /tmp/x"), "1000\n1000");
    assert_eq!(sh("-v /run/user/1000:/m", "stat -c %u /m; hostname >/dev/null && echo fine"), "0\nfine");
    Ok(())
}

fn rootless_and_the_users_own_ids() -> Done {
    assert_eq!(sh("--userns keep-id", "id -u; id -g"), "1000\n1000");
    assert_eq!(sh("--userns keep-id:uid=7,gid=8", "id -u; id -g"), "7\n8");
    assert_eq!(sh("--userns nomap", "id -u"), "0");
    Ok(())
}

fn rootless_errors() -> Done {
    run_call("--rm", &["/no/such"]).run().exits(127);
    run_call("--rm", &["/etc/passwd"]).run().exits(126);
    run_call("--rm", &["sh", "-c", "exit 9"]).run().exits(9);
    Ok(())
}

fn rootless_network() -> Done {
    assert_eq!(sh("--network none", "ip -o link | wc -l"), "1");
    assert_ne!(sh("", "ip -o -4 addr | grep -vc ' lo '"), "0");
    Ok(())
}

fn rootless_and_detached() -> Done {
    let id = run_call("-d", &crate::cli::SLEEP).run().text();
    let pid: i32 = user(&["inspect", "-f", "{{.State.Pid}}", &id]).run().text().parse().expect("a number");
    assert_eq!(look::status(pid).ruid, 1000);
    assert_eq!(user(&["exec", &id, "sh", "-c", "echo in; exit 4"]).run().exits(4).out, "in\n");
    user(&["exec", &id, "nosuch"]).run().exits(127);
    assert!(user(&["top", &id]).run().text().contains("sleep 1000"));
    user(&["stop", &id]).run().ok();
    assert!(!look::is_alive(pid));
    user(&["rm", &id]).run().ok();
    Ok(())
}

fn rootless_terminal() -> Done {
    let mut session = run_call("--rm -it", &["sh"]).at_terminal();
    session.types("tty; stty size\n");
    session.shows("/dev/pts/0");
    session.shows("40 100");
    session.types("exit 3\n");
    session.exits(3);
    Ok(())
}

fn rootless_volumes() -> Done {
    sh("-v kept:/data", "echo x >/data/file");
    assert_eq!(sh("-v kept:/data --read-only --tmpfs /t", "cat /data/file; touch /x 2>/dev/null || echo ro"), "x\nro");
    user(&["volume", "rm", "kept"]).run().ok();
    Ok(())
}

fn rootless_pods() -> Done {
    user(&["pod", "create", "--name", "users"]).run().ok();
    run_call("-d --pod users", &crate::cli::SLEEP).run().ok();
    assert_eq!(sh("--pod users", "hostname"), "users");
    user(&["pod", "rm", "-f", "-t", "0", "users"]).run().ok();
    Ok(())
}

fn rootless_leaves_nothing() -> Done {
    user(&["rm", "-fa", "-t", "0"]).run().ok();
    let state = std::path::Path::new("/run/user/1000/proa");
    let left: Vec<_> = std::fs::read_dir(state).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}
