//! The commands that tell about containers: state, list, ps; and pause and resume.
//!
//! Not here: the command line itself, spec, features and plan (cli.rs).

use std::path::Path;

use conformance::container::Container;
use conformance::holder::Holder;
use conformance::look::{self, Cgroups};
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "R-2" => state_has_the_required_fields,
    "R-9" => state_gives_the_annotations,
    "R-6" => state_of_a_stopped_container,
    "" => state_has_what_engines_read,
    "" => list_as_table,
    "" => list_as_json,
    "" => list_quiet,
    "" => list_of_nothing,
    "" => list_of_a_root_that_is_not_there,
    "" => list_of_one_killed_by_others,
    "" => list_of_more_than_descriptors,
    "" => ps_as_table,
    "" => ps_as_json,
    "" => pause_freezes_and_resume_thaws,
    "" => pause_refused_unless_running,
    "" => exec_in_a_paused_container,
    "" => kill_of_a_paused_container,
    "" => delete_of_a_paused_container,
    "" => kill_all_reaches_every_process,
    "" => kill_without_pid_namespace_ends_all,
    "" => companions_in_a_joined_pid_namespace,
    "" => kill_of_an_unknown_signal,
    "R-35" => kill_reaches_a_created_container,
    "" => delete_force_of_a_leftover_directory,
    "" => twenty_containers_at_once,
}

fn state_has_the_required_fields(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    let c = t.create(&bundle);
    let state = c.state();
    assert!(state["ociVersion"].is_string(), "{state}");
    assert_eq!(state["id"], c.id.as_str());
    assert_eq!(state["status"], "created");
    assert_eq!(state["pid"], c.pid);
    assert_eq!(state["bundle"].as_str().map(Path::new), Some(bundle.path.as_path()));
    c.start();
    let state = c.state();
    assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &json!(c.pid)));
    Ok(())
}

fn state_gives_the_annotations(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    let annotations = json!({"org.example.key": "a value", "org.example.empty": ""});
    bundle.set("annotations", annotations.clone());
    let c = t.create(&bundle);
    assert_eq!(c.state()["annotations"], annotations);
    Ok(())
}

fn state_of_a_stopped_container(t: &Test<'_>) -> Done {
    let c = t.start(&t.sh_bundle("exit 3"));
    assert_eq!(c.wait(), 3);
    let state = c.state();
    assert_eq!(state["status"], "stopped");
    assert_eq!(state["id"], c.id.as_str());
    assert!(state["pid"].as_u64().is_none_or(|pid| pid == 0), "{state}");
    Ok(())
}

fn state_has_what_engines_read(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    let c = t.create(&bundle);
    let output = c.call("state").output().ok();
    let state = output.json();
    let created = state["created"].as_str().expect("a time of creation");
    assert_is_utc_time(created);
    if !t.is(Kind::Crun) {
        assert_eq!(state["rootfs"].as_str().map(Path::new), Some(bundle.rootfs().as_path()));
        assert!(state["owner"].is_string(), "{state}");
        assert!(state.get("annotations").is_none(), "no annotations, no property: {state}");
        let text = output.stdout();
        assert!(text.starts_with("{\n  \"ociVersion\""), "indented by two: {text}");
        let order: Vec<_> = text.lines().filter_map(|line| line.split('"').nth(1)).collect();
        assert_eq!(order, ["ociVersion", "id", "pid", "status", "bundle", "rootfs", "created", "owner"]);
    }
    Ok(())
}

/// `2026-11-24T23:42:51.919790Z`: RFC 3339, in UTC, with or without a fraction.
#[track_caller]
fn assert_is_utc_time(text: &str) {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let (head, tail) = shape.split_at(19.min(shape.len()));
    let fraction = tail.trim_start_matches('.').trim_start_matches('0');
    assert!(head == "0000-00-00T00:00:00" && fraction == "Z", "not a time in UTC: {text}");
}

fn list_as_table(t: &Test<'_>) -> Done {
    let (a, b) = (t.create(&t.sleeping_bundle()), t.sleeper());
    let table = t.call(&["list"]).output().ok().stdout();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    if !t.is(Kind::Crun) {
        assert_eq!(rows[0], ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]);
    }
    for (c, status) in [(&a, "created"), (&b, "running")] {
        let row = rows.iter().find(|row| row[0] == c.id).unwrap_or_else(|| panic!("{} is missing: {table}", c.id));
        assert_eq!(row[1..3], [c.pid.to_string().as_str(), status]);
        assert_is_utc_time(row[4]);
        assert_eq!(row[5], "root");
    }
    assert_eq!(rows.len(), 3, "{table}");
    Ok(())
}

fn list_as_json(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.set("annotations", json!({"org.example.key": "a value"}));
    let (a, b) = (t.create(&bundle), t.sleeper());
    b.murder();
    let list = t.call(&["list", "--format", "json"]).output().ok().json();
    let find = |c: &Container<'_>| {
        list.as_array().and_then(|all| all.iter().find(|item| item["id"] == c.id.as_str())).cloned()
    };
    let (a_item, b_item) = (find(&a).expect("missing"), find(&b).expect("missing"));
    assert_eq!((&a_item["status"], &a_item["pid"]), (&json!("created"), &json!(a.pid)));
    assert_eq!((&b_item["status"], &b_item["pid"]), (&json!("stopped"), &json!(0)));
    assert_eq!(a_item["owner"], "root");
    assert_eq!(a_item["bundle"].as_str(), bundle.path.to_str());
    if !t.is(Kind::Crun) {
        let mut state = a.state();
        state["owner"] = json!("root");
        assert_eq!(a_item, state, "an entry is the container's state, with its owner");
    }
    Ok(())
}

fn list_quiet(t: &Test<'_>) -> Done {
    let (a, b) = (t.create(&t.sleeping_bundle()), t.sleeper());
    for option in ["-q", "--quiet"] {
        let text = t.call(&["list", option]).output().ok().stdout();
        let mut ids: Vec<_> = text.lines().collect();
        ids.sort_unstable();
        let mut expected = vec![a.id.as_str(), b.id.as_str()];
        expected.sort_unstable();
        assert_eq!(ids, expected);
    }
    Ok(())
}

fn list_of_nothing(t: &Test<'_>) -> Done {
    std::fs::create_dir_all(&t.runtime.root).expect("cannot make the root");
    let json = t.call(&["list", "--format", "json"]).output().ok().stdout();
    assert_eq!(json.trim(), if t.is(Kind::Crun) { "[]" } else { "null" });
    let table = t.call(&["list"]).output().ok().stdout();
    assert_eq!(table.lines().count(), 1, "{table}");
    t.call(&["list", "--format", "yaml"]).output().fails();
    Ok(())
}

fn list_of_a_root_that_is_not_there(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "makes the directory that --root names")?;
    t.call(&["list"]).output().exits(1).says("no such");
    assert!(!t.runtime.root.exists(), "list made the state directory");
    Ok(())
}

fn list_of_one_killed_by_others(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    c.murder();
    let table = t.call(&["list"]).output().ok().stdout();
    let row = table.lines().find(|line| line.starts_with(&c.id)).expect("missing");
    assert_eq!(row.split_whitespace().nth(2), Some("stopped"));
    Ok(())
}

fn list_of_more_than_descriptors(t: &Test<'_>) -> Done {
    t.proa_only("peers are content with what they may open")?;
    let containers: Vec<_> = (0..12).map(|_| t.create(&t.sleeping_bundle())).collect();
    for options in [&["list"][..], &["list", "-q"], &["list", "--format", "json"]] {
        let text = t.call(options).open_files(12).output().ok().stdout();
        assert!(containers.iter().all(|c| text.contains(&c.id)), "{text}");
    }
    Ok(())
}

fn ps_as_table(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "prints pids alone and takes no arguments for ps(1)")?;
    let c = t.start(&t.sh_bundle("sleep 999 & echo ready; wait"));
    c.prints("ready");
    let table = c.call("ps").output().ok().stdout();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].contains("PID"), "{table}");
    assert_eq!(lines.len(), 3, "{table}");
    assert!(table.contains("sleep 999"), "{table}");
    let table = c.call("ps").args(&["-o", "pid,comm"]).output().ok().stdout();
    assert!(table.contains("sleep"), "{table}");
    assert_eq!(table.lines().next().map(|line| line.split_whitespace().collect()), Some(vec!["PID", "COMMAND"]));
    Ok(())
}

fn ps_as_json(t: &Test<'_>) -> Done {
    let c = t.start(&t.sh_bundle("sleep 999 & echo ready; wait"));
    c.prints("ready");
    let pids = c.call("ps").options(&["--format", "json"]).output().ok().json();
    let mut pids: Vec<i64> = pids.as_array().expect("an array").iter().filter_map(Value::as_i64).collect();
    pids.sort_unstable();
    let mut expected: Vec<i64> = [c.pid].into_iter().chain(look::descendants(c.pid)).map(i64::from).collect();
    expected.sort_unstable();
    assert_eq!(pids, expected);
    Ok(())
}

/// A container that prints a number every few milliseconds.
fn ticker<'t>(t: &'t Test<'_>) -> Container<'t> {
    let c = t.start(&t.sh_bundle("n=0; while :; do n=$((n+1)); echo $n; sleep 0.01; done"));
    c.prints("3\n");
    c
}

fn pause_freezes_and_resume_thaws(t: &Test<'_>) -> Done {
    let c = ticker(t);
    c.call("pause").output().ok();
    c.assert_status("paused");
    let seen = c.stdout();
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert_eq!(c.stdout(), seen, "a paused container goes on printing");
    c.call("resume").output().ok();
    c.assert_status("running");
    look::eventually("the container to go on", || c.stdout().len() > seen.len());
    Ok(())
}

fn pause_refused_unless_running(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "resumes a running container")?;
    let c = t.sleeper();
    c.call("resume").output().fails();
    c.assert_status("running");
    c.murder();
    c.call("pause").output().fails();
    c.call("resume").output().fails();
    c.assert_status("stopped");
    Ok(())
}

fn exec_in_a_paused_container(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "waits until the container is resumed")?;
    let c = t.sleeper();
    c.call("pause").output().ok();
    let output = c.exec(&["true"]).output().exits(255);
    t.phrase(&output, &["paused container"]);
    c.assert_status("paused");
    let running = c.exec_with(&["--ignore-paused"], &["echo", "thawed"]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(running.stdout(), "", "exec ran in a paused container");
    c.call("resume").output().ok();
    assert_eq!(running.wait(&t.runtime).ok().stdout(), "thawed\n");
    Ok(())
}

fn kill_of_a_paused_container(t: &Test<'_>) -> Done {
    if look::cgroups() == Cgroups::Hybrid {
        t.peer_differs(Kind::Crun, "does not thaw a frozen v1 cgroup after SIGKILL")?;
    }
    let c = ticker(t);
    c.call("pause").output().ok();
    c.kill("KILL");
    assert_eq!(c.wait(), 128 + 9);
    c.assert_status("stopped");
    c.delete();
    t.assert_nothing_left();
    Ok(())
}

fn delete_of_a_paused_container(t: &Test<'_>) -> Done {
    let c = ticker(t);
    c.call("pause").output().ok();
    c.call("delete").output().fails();
    c.assert_status("paused");
    c.call("delete").options(&["--force"]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn kill_all_reaches_every_process(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("sleep 998 & sleep 999 & echo ready; wait");
    bundle.without_namespace("pid");
    let c = t.start(&bundle);
    c.prints("ready");
    c.call("kill").options(&["--all"]).arg("KILL").output().ok();
    assert_eq!(c.wait(), 128 + 9);
    look::eventually("all processes to end", || {
        conformance::reaper::collect();
        look::descendants(std::process::id() as i32).is_empty()
    });
    // For engines that clean up: no error where all is over already.
    c.call("kill").options(&["--all"]).arg("KILL").output().ok();
    Ok(())
}

fn kill_without_pid_namespace_ends_all(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "signals init alone")?;
    let mut bundle = t.sh_bundle("sleep 998 & setsid sleep 999 & echo ready; wait");
    bundle.without_namespace("pid");
    let c = t.start(&bundle);
    c.prints("ready");
    c.kill("KILL");
    assert_eq!(c.wait(), 128 + 9);
    look::eventually("all processes to end", || {
        conformance::reaper::collect();
        look::descendants(std::process::id() as i32).is_empty()
    });
    c.delete();
    Ok(())
}

/// As in a pod that shares one: it is not the container's, and its processes do not end with the init.
fn companions_in_a_joined_pid_namespace(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "signals init alone")?;
    let holder = Holder::new(&["--pid"]);
    let companions = || {
        conformance::reaper::collect();
        let all = look::descendants(std::process::id() as i32);
        all.into_iter().filter(|pid| look::stat(*pid).is_some() && look::cmdline(*pid).contains(&"998".into())).count()
    };
    let mut bundle = t.sh_bundle("sleep 998 & setsid sleep 998 & echo ready; wait");
    bundle.namespace("pid", Some(&holder.path("pid")));
    let c = t.start(&bundle);
    c.prints("ready");
    c.kill("KILL");
    look::eventually("all processes to end", || companions() == 0);
    c.delete();

    let c = t.start(&bundle);
    c.prints("ready");
    c.kill("USR1");
    look::eventually("the init to end", || c.state()["status"] == "stopped");
    assert_eq!(companions(), 2);
    c.delete();
    look::eventually("all processes to end", || companions() == 0);
    assert!(look::is_alive(holder.pid), "the namespace's owner was killed too");
    Ok(())
}

fn kill_of_an_unknown_signal(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    for signal in ["NOSUCH", "SIGNOSUCH", "-1", "4000", "SIGSIG"] {
        c.call("kill").arg(signal).output().fails();
    }
    c.assert_status("running");
    Ok(())
}

fn kill_reaches_a_created_container(t: &Test<'_>) -> Done {
    let c = t.create(&t.sleeping_bundle());
    c.kill("KILL");
    assert_eq!(c.wait(), 128 + 9);
    c.assert_status("stopped");
    c.call("start").output().fails();
    c.delete();
    t.assert_nothing_left();
    Ok(())
}

fn delete_force_of_a_leftover_directory(t: &Test<'_>) -> Done {
    let id = t.id();
    std::fs::create_dir_all(t.runtime.root.join(&id)).expect("cannot make a directory");
    t.call(&["state", &id]).output().fails();
    t.call(&["delete", &id]).options(&["--force"]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn twenty_containers_at_once(t: &Test<'_>) -> Done {
    let bundles: Vec<_> = (0..20).map(|_| t.sleeping_bundle()).collect();
    let ids: Vec<_> = bundles.iter().map(|_| t.id()).collect();
    let calls: Vec<_> = bundles.iter().zip(&ids).map(|(bundle, id)| t.create_call(bundle, id).spawn()).collect();
    let containers: Vec<_> = calls
        .into_iter()
        .zip(&ids)
        .map(|(running, id)| t.container(id.clone(), running.wait(&t.runtime).ok()))
        .collect();
    let starts: Vec<_> = containers.iter().map(|c| c.call("start").spawn()).collect();
    for running in starts {
        running.wait(&t.runtime).ok();
    }
    let list = t.call(&["list", "--format", "json"]).output().ok().json();
    let running = list.as_array().map(|all| all.iter().filter(|item| item["status"] == "running").count());
    assert_eq!(running, Some(20));
    let deletes: Vec<_> = containers.iter().map(|c| c.call("delete").options(&["--force"]).spawn()).collect();
    for running in deletes {
        running.wait(&t.runtime).ok();
    }
    t.assert_nothing_left();
    Ok(())
}
