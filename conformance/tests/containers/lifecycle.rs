//! A container's life: create, start, run, kill, delete and the states between;
//! exit codes, pid files, detaching.
//!
//! Not here: what an error says (errors.rs), terminals (terminal.rs).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use conformance::container::wait_for;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use nix::sys::signal::Signal;
use serde_json::json;

crate::cases! {
    "R-4" => created_running_stopped_deleted,
    "R-13" => create_does_not_run_the_program,
    "R-14" => edits_after_create_have_no_effect,
    "R-39" => an_id_is_free_again_after_delete,
    "R-32" => run_gives_the_exit_code_of_the_program,
    "" => run_gives_128_and_the_signal,
    "" => run_deletes_the_container_at_the_end,
    "" => run_keep_leaves_the_stopped_container,
    "" => run_detached_returns_while_it_runs,
    "" => run_without_being_a_subreaper,
    "" => run_relays_signals,
    "" => run_waits_without_being_asked_by_orphans,
    "" => pid_file_is_the_plain_pid,
    "" => relative_pid_file_is_beside_the_caller,
    "" => bundle_defaults_to_the_working_directory,
    "" => bundle_may_be_relative_and_a_link,
    "R-35" => kill_sends_the_signal_named,
    "" => kill_takes_every_form_of_a_signal,
    "R-37" => delete_of_a_created_container_kills_it,
    "" => delete_force_ends_a_running_container,
    "" => delete_takes_the_children_of_init_along,
    "" => stopped_when_init_is_killed_by_others,
    "" => start_and_delete_work_from_another_process,
}

fn created_running_stopped_deleted(t: &Test<'_>) -> Done {
    let c = t.create(&t.sleeping_bundle());
    c.assert_status("created");
    c.start();
    c.assert_status("running");
    c.kill("KILL");
    assert_eq!(c.wait(), 128 + 9, "exit code of init");
    c.assert_status("stopped");
    c.delete();
    c.call("state").output().fails().says("does not exist");
    t.assert_nothing_left();
    Ok(())
}

fn create_does_not_run_the_program(t: &Test<'_>) -> Done {
    let c = t.create(&t.sh_bundle("echo ran; touch /ran"));
    c.assert_status("created");
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(c.stdout(), "", "the program printed before start");
    assert!(!look::root_of(c.pid, "/ran").exists(), "the program ran before start");
    c.start();
    assert_eq!(c.wait(), 0);
    assert_eq!(c.stdout(), "ran\n");
    Ok(())
}

fn edits_after_create_have_no_effect(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("echo first");
    let c = t.create(&bundle);
    bundle.sh("echo second").set("annotations", json!({"org.example.a": "b"}));
    bundle.write();
    c.start();
    assert_eq!(c.wait(), 0);
    assert_eq!(c.stdout(), "first\n");
    assert!(c.state()["annotations"].as_object().is_none_or(|map| map.is_empty()));
    Ok(())
}

fn an_id_is_free_again_after_delete(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    let id = t.id();
    for _ in 0..2 {
        let output = t.create_call(&bundle, &id).output().ok();
        let c = t.container(id.clone(), output);
        c.start();
        c.kill("KILL");
        c.wait();
        c.delete();
    }
    t.assert_nothing_left();
    Ok(())
}

fn run_gives_the_exit_code_of_the_program(t: &Test<'_>) -> Done {
    for code in [0, 1, 42, 255] {
        t.run(&t.sh_bundle(&format!("exit {code}"))).exits(code);
    }
    Ok(())
}

fn run_gives_128_and_the_signal(t: &Test<'_>) -> Done {
    // Init of a pid namespace is deaf to its own signals, hence a program beside it.
    let mut bundle = t.sh_bundle("kill -TERM $$");
    bundle.without_namespace("pid");
    t.run(&bundle).exits(128 + 15);
    Ok(())
}

fn run_deletes_the_container_at_the_end(t: &Test<'_>) -> Done {
    let id = t.id();
    t.run_call(&t.bundle(), &id).output().ok();
    t.call(&["state", &id]).output().fails().says("does not exist");
    t.assert_nothing_left();
    Ok(())
}

fn run_keep_leaves_the_stopped_container(t: &Test<'_>) -> Done {
    let id = t.id();
    t.run_call(&t.bundle(), &id).options(&["--keep"]).output().ok();
    let state = t.call(&["state", &id]).output().ok().json();
    assert_eq!(state["status"], "stopped");
    t.call(&["delete", &id]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn run_detached_returns_while_it_runs(t: &Test<'_>) -> Done {
    let id = t.id();
    let output = t
        .run_call(&t.sh_bundle("echo up; exec sleep 1000"), &id)
        .options(&["--detach"])
        .options(&["--pid-file".as_ref(), t.pid_file(&id).as_os_str()])
        .output()
        .ok();
    let c = t.container(id, output);
    c.prints("up\n");
    c.assert_status("running");
    assert!(look::is_alive(c.pid));
    c.kill("KILL");
    assert_eq!(c.wait(), 128 + 9);
    c.delete();
    Ok(())
}

fn run_without_being_a_subreaper(t: &Test<'_>) -> Done {
    let output = t.run_call(&t.sh_bundle("echo fine; exit 4"), &t.id()).options(&["--no-subreaper"]).output();
    assert_eq!((output.code(), output.stdout().as_str()), (4, "fine\n"));
    Ok(())
}

fn run_relays_signals(t: &Test<'_>) -> Done {
    let bundle = t.sh_bundle("trap 'echo usr1' USR1; trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    let running = t.run_call(&bundle, &t.id()).spawn();
    look::eventually("the program to be ready", || running.stdout().contains("ready"));
    running.kill(Signal::SIGUSR1);
    look::eventually("USR1 to arrive", || running.stdout().contains("usr1"));
    running.kill(Signal::SIGTERM);
    running.wait(&t.runtime).exits(7);
    Ok(())
}

fn run_waits_without_being_asked_by_orphans(t: &Test<'_>) -> Done {
    // An orphan of the container that ends first is not taken for its init.
    let bundle = t.sh_bundle("(sh -c 'sleep 0.05 & exit 3' &); sleep 0.2; exit 5");
    t.run(&bundle).exits(5);
    Ok(())
}

fn pid_file_is_the_plain_pid(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let text = fs::read_to_string(t.pid_file(&c.id)).expect("no pid file");
    assert!(text.bytes().all(|byte| byte.is_ascii_digit()), "the pid file holds {text:?}");
    assert_eq!(c.state()["pid"], json!(c.pid));
    assert_eq!(look::cmdline(c.pid), ["/bin/sleep", "1000"]);
    let beside: Vec<_> = fs::read_dir(&t.dir)
        .expect("cannot list")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    assert!(!beside.iter().any(|name| name.starts_with('.')), "a temporary file is left: {beside:?}");
    Ok(())
}

fn relative_pid_file_is_beside_the_caller(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes a relative pid file from the bundle")?;
    let bundle = t.sleeping_bundle();
    bundle.write();
    let dir = t.make_dir("here");
    t.call(&["create", "--pid-file", "my.pid", "--bundle"]).arg(&bundle.path).arg(t.id()).cwd(&dir).output().ok();
    let pid: i32 = fs::read_to_string(dir.join("my.pid")).expect("no pid file").parse().expect("no pid in it");
    assert!(look::is_alive(pid));
    Ok(())
}

fn bundle_defaults_to_the_working_directory(t: &Test<'_>) -> Done {
    let bundle = t.sh_bundle("echo here");
    bundle.write();
    let output = t.call(&["run", &t.id()]).cwd(&bundle.path).output().ok();
    assert_eq!(output.stdout(), "here\n");
    Ok(())
}

fn bundle_may_be_relative_and_a_link(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    bundle.write();
    std::os::unix::fs::symlink(&bundle.path, t.file("link")).expect("cannot link");
    let name = bundle.path.file_name().expect("a name").to_owned();
    for path in [Path::new(&name), Path::new("link")] {
        let id = t.id();
        t.call(&["create", "--bundle"]).arg(path).arg(&id).cwd(&t.dir).output().ok();
        let state = t.call(&["state", &id]).output().ok().json();
        let shown = Path::new(state["bundle"].as_str().expect("a bundle"));
        assert!(shown.is_absolute(), "{}", shown.display());
        assert_eq!(fs::canonicalize(shown).ok(), fs::canonicalize(&bundle.path).ok());
    }
    Ok(())
}

fn kill_sends_the_signal_named(t: &Test<'_>) -> Done {
    let c = t.start(&t.sh_bundle("trap 'exit 7' TERM; trap 'exit 8' INT; echo ready; while :; do sleep 0.01; done"));
    c.prints("ready");
    c.kill("INT");
    assert_eq!(c.wait(), 8);
    let c = t.start(&t.sh_bundle("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"));
    c.prints("ready");
    c.call("kill").output().ok();
    assert_eq!(c.wait(), 7, "TERM is the default");
    Ok(())
}

fn kill_takes_every_form_of_a_signal(t: &Test<'_>) -> Done {
    let c = t.start(&t.sh_bundle("n=0; trap 'n=$((n+1)); echo got $n' USR1; echo ready; while :; do sleep 0.01; done"));
    c.prints("ready");
    let forms = ["USR1", "SIGUSR1", "10", "usr1", "sigusr1"];
    // crun knows upper case alone.
    let known = if t.is(Kind::Crun) { 3 } else { forms.len() };
    for (index, form) in forms[..known].iter().enumerate() {
        c.kill(form);
        c.prints(&format!("got {}\n", index + 1));
    }
    Ok(())
}

fn delete_of_a_created_container_kills_it(t: &Test<'_>) -> Done {
    let c = t.create(&t.sleeping_bundle());
    c.delete();
    assert!(!look::is_alive(c.pid), "init lives on");
    t.assert_nothing_left();
    Ok(())
}

fn delete_force_ends_a_running_container(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    c.call("delete").options(&["--force"]).output().ok();
    assert_eq!(wait_for(c.pid), 128 + 9);
    t.assert_nothing_left();
    Ok(())
}

fn delete_takes_the_children_of_init_along(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("sleep 1000 & setsid sleep 1001 & echo ready; wait");
    bundle.without_namespace("pid");
    let c = t.start(&bundle);
    c.prints("ready");
    c.call("delete").options(&["--force"]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn stopped_when_init_is_killed_by_others(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    c.murder();
    let state = c.state();
    assert_eq!(state["status"], "stopped");
    assert!(state["pid"].as_i64().is_none_or(|pid| pid == 0), "a stopped container has no pid: {state}");
    c.delete();
    t.assert_nothing_left();
    Ok(())
}

fn start_and_delete_work_from_another_process(t: &Test<'_>) -> Done {
    // The state directory is all that create leaves for the others: nothing of
    // the working directory or the environment of create is needed later.
    let bundle = t.sleeping_bundle();
    let c = t.create(&bundle);
    let away = t.make_dir("away");
    fs::set_permissions(&away, fs::Permissions::from_mode(0o700)).expect("cannot chmod");
    fs::remove_file(bundle.path.join("config.json")).expect("cannot remove");
    c.call("start").cwd(&away).env("HOME", "/nowhere").output().ok();
    c.assert_status("running");
    c.call("delete").options(&["--force"]).cwd(&away).output().ok();
    t.assert_nothing_left();
    Ok(())
}
