//! What Docker alone can ask for.

use conformance::image::BUSYBOX;
use conformance::look;
use conformance::test::{Done, Skip};

use crate::cli::{call, ok, run, sh, sleeper};
use crate::command::Call;

crate::cases! {
    errors_are_told,
    builds,
    builds_that_fail,
    builds_by_buildkit,
    the_hosts_user_namespace,
    a_new_working_directory,
    no_user_namespaces_inside,
    a_bind_that_is_read_only_all_through,
    top_by_the_runtime,
    events,
    resized_exec,
}

fn errors_are_told() -> Done {
    let said = run("", &["/no/such/program"]).exits(127);
    assert!(
        said.err.contains("no such file or directory") && said.err.contains("OCI runtime create failed"),
        "{}",
        said.err
    );
    let said = run("", &["/etc/passwd"]).exits(126);
    assert!(said.err.contains("permission denied"), "{}", said.err);
    Ok(())
}

fn build(file: &str, buildkit: &str) -> crate::command::Said {
    let dir = tempfile::tempdir().expect("no temporary directory");
    std::fs::write(dir.path().join("Dockerfile"), file).expect("cannot write");
    let words = ["build", "-t", "local/built:1", dir.path().to_str().expect("a path in UTF-8")];
    Call::new("docker", &words).env("DOCKER_BUILDKIT", buildkit).run()
}

fn builds() -> Done {
    let file = format!(
        "FROM {BUSYBOX}\nRUN echo built >/file\n\
         RUN echo worker:x:7:7::/:/bin/sh >>/etc/passwd\nUSER worker\nRUN id -un >/tmp/who\nCMD cat /file /tmp/who\n"
    );
    build(&file, "0").ok();
    assert_eq!(ok(&["run", "--rm", "local/built:1"]), "built\nworker");
    ok(&["rmi", "-f", "local/built:1"]);
    Ok(())
}

fn builds_that_fail() -> Done {
    let said = build(&format!("FROM {BUSYBOX}\nRUN exit 3\n"), "0").fails();
    assert!(said.err.contains("returned a non-zero code: 3"), "{}", said.err);
    Ok(())
}

/// Inside the daemon; it runs what is called `runc`, see docs/engines.md.
fn builds_by_buildkit() -> Done {
    if !call(&["buildx", "version"]).run().success() {
        return Err(Skip("Docker's client has no buildx here".into()));
    }
    let file = format!("FROM {BUSYBOX}\nRUN echo built >/file; sleep 2\nUSER guest\nRUN id -un >/tmp/who\n");
    let built = std::thread::spawn(move || build(&file, "1"));
    let known = || std::fs::read_dir("/run/proa").into_iter().flatten().count() > 0;
    look::eventually("proa to run a step", known);
    built.join().expect("the build panicked").ok();
    assert_eq!(ok(&["run", "--rm", "local/built:1", "cat", "/file", "/tmp/who"]), "built\nguest");
    ok(&["rmi", "-f", "local/built:1"]);
    let said = build(&format!("FROM {BUSYBOX}\nRUN exit 3\n"), "1").fails();
    assert!(said.err.contains("exit code: 3"), "{}", said.err);
    let said = build(&format!("FROM {BUSYBOX}\nRUN [\"/no/such\"]\n"), "1").fails();
    assert!(said.err.contains("/no/such"), "{}", said.err);
    Ok(())
}

fn a_new_working_directory() -> Done {
    assert_eq!(sh("-w /a/new/dir", "pwd; stat -c '%a %u' ."), "/a/new/dir\n755 0");
    Ok(())
}

/// By the default seccomp profile.
fn no_user_namespaces_inside() -> Done {
    run("", &["unshare", "-r", "true"]).fails();
    run("--security-opt seccomp=unconfined", &["unshare", "-r", "true"]).ok();
    Ok(())
}

fn a_bind_that_is_read_only_all_through() -> Done {
    let dir = tempfile::tempdir().expect("no temporary directory");
    let inner = dir.path().join("inner");
    std::fs::create_dir(&inner).expect("cannot make a directory");
    nix::mount::mount(Some("tmpfs"), &inner, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
        .expect("cannot mount");
    let path = dir.path().display();
    let more = "readonly,bind-recursive=readonly,bind-propagation=rprivate";
    let options = format!("--rm --mount type=bind,source={path},target=/there,{more}");
    let script = "touch /there/x 2>/dev/null || echo ro; touch /there/inner/x 2>/dev/null || echo ro";
    let said = crate::cli::run_call(&options, &["sh", "-c", script]).run();
    nix::mount::umount(&inner).expect("cannot unmount");
    if said.err.contains("OCI features struct is not available") {
        return Err(Skip("Docker asks a runtime by path alone whether it can, no shim".into()));
    }
    assert_eq!(said.text(), "ro\nro");
    Ok(())
}

fn the_hosts_user_namespace() -> Done {
    assert_eq!(sh("--userns host", "tr -s ' ' </proc/self/uid_map"), "0 0 4294967295");
    Ok(())
}

fn top_by_the_runtime() -> Done {
    let container = sleeper("");
    container.call("exec -d", &["sleep", "2222"]).run().ok();
    look::eventually("both programs", || {
        let text = container.ok("top");
        text.contains("sleep 1000") && text.contains("sleep 2222")
    });
    Ok(())
}

fn events() -> Done {
    let since = Call::new("date", &["+%s.%N"]).run().text();
    let container = crate::cli::start("", &["sh", "-c", "exit 5"]);
    container.wait();
    let until = Call::new("date", &["+%s.%N"]).run().text();
    let filter = format!("container={}", container.id);
    let format = "{{.Action}} {{index .Actor.Attributes \"exitCode\"}}";
    let text = ok(&["events", "--since", &since, "--until", &until, "--filter", &filter, "--format", format]);
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    assert!(lines.contains(&"start") && lines.contains(&"die 5"), "{text}");
    Ok(())
}

fn resized_exec() -> Done {
    let container = sleeper("");
    let script = "trap 'stty size' WINCH; echo ready; while :; do sleep 0.1; done";
    let mut session = container.call("exec -it", &["sh", "-c", script]).at_terminal();
    session.shows("ready");
    session.shows_size(21, 55);
    session.types("\x03");
    session.exits(130);
    Ok(())
}
