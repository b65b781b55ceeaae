//! Rules of the specification on hooks that bind: at which moment of a
//! container's life each kind runs, where its program is looked for, and that the
//! poststop hooks run whatever has failed.
//!
//! Not here: what hooks are given (hooks.rs), what is said of failures
//! (hook_failures.rs).

use std::fs;
use std::os::unix::fs::MetadataExt;

use conformance::bundle::write_script;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

use crate::hooks::{Log, with_hooks};

crate::cases! {
    "C-56" => early_hooks_find_namespaces_and_not_the_new_root,
    "C-57" => create_runtime_finds_the_mounts,
    "C-58" => programs_of_hooks_are_the_hosts,
    "C-59" => program_of_start_container_is_the_containers,
    "C-61" => poststop_runs_when_all_is_gone,
    "R-16" => poststop_runs_whichever_hook_has_failed,
    "R-16" => failed_start_leaves_no_container,
    "C-60" => start_waits_for_poststart,
}

/// A part of a hook's script: sets `pid` to the pid of the state it has got.
const PID: &str = "pid=$(echo \"$INPUT\" | tr ',' '\\n' | sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p')";

fn early_hooks_find_namespaces_and_not_the_new_root(t: &Test<'_>) -> Done {
    let script = format!(
        "{PID}; for n in mnt net uts ipc pid; do readlink /proc/$pid/ns/$n; done >$LOG/$KIND; stat -L -c %d:%i /proc/$pid/root >>$LOG/$KIND"
    );
    let kinds = ["prestart", "createRuntime"];
    let (bundle, log) = with_hooks(t, &kinds, &script);
    let c = t.create(&bundle);
    let root = fs::metadata("/").expect("no root");
    for kind in kinds {
        let text = log.read(kind);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{kind}: {text}");
        for (line, name) in lines.iter().zip(["mnt", "net", "uts", "ipc", "pid"]) {
            assert!(line.contains(&look::namespace(c.pid, name).to_string()), "{kind}: {name}: {text}");
        }
        assert_eq!(lines[5], format!("{}:{}", root.dev(), root.ino()), "{kind}: the new root is entered already");
    }
    let own = fs::metadata(look::root_of(c.pid, "/")).expect("no root");
    assert_ne!((own.dev(), own.ino()), (root.dev(), root.ino()), "after create");
    Ok(())
}

fn create_runtime_finds_the_mounts(t: &Test<'_>) -> Done {
    let (mut bundle, log) = with_hooks(t, &["createRuntime"], &format!("{PID}; cat /proc/$pid/mountinfo >$LOG/$KIND"));
    bundle.mount("/data", "tmpfs", "marked", &[]);
    t.create(&bundle);
    let points: Vec<String> = log
        .read("createRuntime")
        .lines()
        .filter_map(|line| line.split(' ').nth(4).map(str::to_owned))
        .filter(|point| point.starts_with(bundle.rootfs().to_str().expect("UTF-8")))
        .collect();
    for point in ["proc", "dev", "sys", "data"] {
        assert!(points.iter().any(|found| found.ends_with(&format!("/{point}"))), "{point}: {points:?}");
    }
    Ok(())
}

fn programs_of_hooks_are_the_hosts(t: &Test<'_>) -> Done {
    // Files of the same path: the container's own must not be taken, for the
    // container could be anybody's.
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
    let mut bundle = t.bundle();
    let (log, path) = (t.file("log"), t.file("which"));
    write_script(&path, &format!("cat >/dev/null; echo host $1 >>{}", log.display()));
    let inside = bundle.inside(path.to_str().expect("UTF-8"));
    fs::create_dir_all(inside.parent().expect("a parent")).expect("cannot make a directory");
    write_script(&inside, &format!("echo container $1 >>{}", log.display()));
    let hooks: serde_json::Map<_, _> = kinds
        .iter()
        .map(|kind| {
            let hook = json!([{"path": path, "args": ["which", kind], "env": ["PATH=/bin:/usr/bin"]}]);
            ((*kind).to_owned(), hook)
        })
        .collect();
    bundle.set("hooks", hooks.into());
    t.run(&bundle).ok();
    let expected: String = kinds.iter().map(|kind| format!("host {kind}\n")).collect();
    assert_eq!(fs::read_to_string(&log).ok(), Some(expected));
    // What is in the container alone is not found.
    fs::remove_file(&path).expect("cannot remove");
    for kind in &kinds[..3] {
        bundle.set("hooks", json!({*kind: [{"path": path, "args": ["which", kind]}]}));
        let output = t.refuses(&bundle);
        t.proa_says(&output, kind);
    }
    Ok(())
}

fn program_of_start_container_is_the_containers(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("cat /log");
    let path = t.file("which");
    write_script(&path, "echo host >>/log");
    let inside = bundle.inside(path.to_str().expect("UTF-8"));
    fs::create_dir_all(inside.parent().expect("a parent")).expect("cannot make a directory");
    write_script(&inside, "cat >/dev/null; echo container >>/log");
    bundle.set("hooks", json!({"startContainer": [{"path": path, "env": ["PATH=/bin"]}]}));
    assert_eq!(t.prints(&bundle), "container\n");
    fs::remove_file(&inside).expect("cannot remove");
    t.refuses_run(&bundle);
    Ok(())
}

fn poststop_runs_when_all_is_gone(t: &Test<'_>) -> Done {
    let script = "for f in $(cat $LOG/places); do [ ! -e $f ] || echo $f >>$LOG/left; done; echo ran >>$LOG/ran";
    let (bundle, log) = with_hooks(t, &["poststop"], script);
    let c = t.start(&bundle);
    let mut places: Vec<String> =
        look::cgroup_dirs().iter().map(|dir| dir.display().to_string()).filter(|dir| dir.contains(&c.id)).collect();
    assert!(!places.is_empty(), "no cgroup of the container's own");
    places.push(format!("/proc/{}/ns", c.pid));
    fs::write(log.dir.join("places"), places.join("\n")).expect("cannot write");
    c.murder();
    assert_eq!(log.read("ran"), "", "before delete");
    c.delete();
    assert_eq!(log.read("ran"), "ran\n", "when delete has returned");
    assert_eq!(log.read("left"), "", "still there when the hook ran");
    Ok(())
}

fn poststop_runs_whichever_hook_has_failed(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "does not run poststop after a creation that failed")?;
    t.peer_differs(Kind::Runc, "start says nothing of a startContainer hook that has failed")?;
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        let mut bundle = t.sleeping_bundle();
        let log = Log::new(t, &mut bundle);
        let poststop = log.hook("poststop", "echo \"$INPUT\" | grep -c stopped >>$LOG/ran");
        bundle.set("hooks", json!({kind: [log.hook(kind, "exit 3")], "poststop": [poststop]}));
        let id = t.id();
        if ["startContainer", "poststart"].contains(&kind) {
            t.create_call(&bundle, &id).output().ok();
            assert_eq!(log.read("ran"), "", "{kind}: after create");
            t.call(&["start", &id]).output().fails();
            conformance::reaper::collect();
        } else {
            t.create_call(&bundle, &id).output().fails();
        }
        assert_eq!(log.read("ran"), "1\n", "{kind}");
        t.run_call(&bundle, &id).output().fails();
        assert_eq!(log.read("ran"), "1\n1\n", "{kind}, by run");
        fs::remove_dir_all(&log.dir).expect("cannot remove");
        fs::remove_file(t.pid_file(&id)).ok();
    }
    t.assert_nothing_left();
    Ok(())
}

fn failed_start_leaves_no_container(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "start says nothing of it")?;
    t.peer_differs(Kind::Runc, "start says nothing of it")?;
    for kind in ["startContainer", "poststart"] {
        let mut bundle = t.sleeping_bundle();
        bundle.set("hooks", json!({kind: [{"path": "/bin/false"}]}));
        let c = t.create(&bundle);
        c.call("start").output().fails();
        c.call("state").output().fails().says("does not exist");
        look::eventually("init to end", || {
            conformance::reaper::collect();
            !look::is_alive(c.pid)
        });
        t.assert_nothing_left();
    }
    Ok(())
}

fn start_waits_for_poststart(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "runs poststart at the end of create")?;
    let (bundle, log) = with_hooks(t, &["poststart"], "sleep 0.2; echo ran >>$LOG/ran");
    let c = t.create(&bundle);
    assert_eq!(log.read("ran"), "", "after create");
    c.call("start").output().ok();
    assert_eq!(log.read("ran"), "ran\n", "when start has returned");
    Ok(())
}
