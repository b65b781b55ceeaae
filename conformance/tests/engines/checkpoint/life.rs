//! A program that counts is frozen and goes on; everything else about its container works as before.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use conformance::bundle::Bundle;
use conformance::look;
use conformance::runtime::{Kind, Runtime};
use conformance::test::{Done, Skip, Test};

use super::subject::{COUNT, Subject, cgroups, eventually};
use super::table::{Outcome, ok, refusal, refused, rows};

crate::cases! {
    it_counts_on,
    commands_after_a_restore,
    a_second_checkpoint,
    it_is_left_running,
    images_of_another_runtime,
}

fn it_counts_on() -> Done {
    rows(&[
        ("it counts on", &counts_on),
        ("a shell and what it starts", &a_shell),
        ("state, pid and cgroup after it", &state_after),
    ])
}

fn counts_on(t: &Test<'_>) -> Outcome {
    let subject = Subject::counting(t);
    let old = subject.pid();
    subject.checkpoint(&[]).ok();
    eventually("its process to end", || !look::is_alive(old));
    subject.is_gone();
    let frozen = subject.count();
    assert!(subject.images.join("inventory.img").is_file(), "no images");
    subject.restored(&[]);
    assert!(subject.counts_on(3) >= frozen + 3, "it begins anew");
    subject.is_killed_and_deleted();
    ok()
}

fn a_shell(t: &Test<'_>) -> Outcome {
    let subject = Subject::new(t, t.sh_bundle(COUNT)).run();
    subject.counts_on(3);
    subject.checkpoint(&[]).ok();
    let frozen = subject.count();
    subject.restored(&[]);
    assert!(subject.counts_on(2) >= frozen + 2, "it begins anew");
    subject.is_killed_and_deleted();
    ok()
}

fn state_after(t: &Test<'_>) -> Outcome {
    let subject = Subject::counting(t);
    subject.checkpoint(&[]).ok();
    let file = t.file("pid");
    let pid = subject.restored(&["--pid-file", file.to_str().expect("paths of tests are UTF-8")]);
    assert_eq!(fs::read_to_string(&file).expect("a pid file"), pid.to_string());
    let state = subject.state().expect("it is there");
    assert_eq!((state["status"].as_str(), state["id"].as_str()), (Some("running"), Some(subject.id.as_str())));
    assert_eq!(state["bundle"].as_str().map(Path::new), Some(subject.bundle.path.as_path()));
    assert!(look::is_alive(pid), "pid {pid} is no process");
    assert_eq!(look::cmdline(pid).first().map(String::as_str), Some("/bin/kept"));
    let paths = look::cgroup_paths(pid);
    assert!(paths.values().any(|path| path.contains(&subject.id)), "it is in no cgroup of its own: {paths:?}");
    let list = t.call(&["list", "--format", "json"]).output().ok().json();
    let entry = list.as_array().and_then(|list| list.iter().find(|entry| entry["id"] == subject.id.as_str()));
    let created = entry.and_then(|entry| entry["created"].as_str()).unwrap_or_default();
    assert!(created.starts_with("20"), "created at {created:?}");
    subject.delete();
    assert!(!look::is_alive(pid));
    ok()
}

fn commands_after_a_restore() -> Done {
    rows(&[
        ("exec after it", &|t| {
            let subject = come_back(t);
            assert_eq!(subject.sh("echo $((6*7)); cat /proc/1/comm"), "42\nkept");
            let pids = subject.sh("cat /proc/self/cgroup");
            assert!(!pids.is_empty());
            ok()
        }),
        ("pause and resume after it", &|t| {
            let subject = come_back(t);
            subject.call("pause").output().ok();
            assert_eq!(subject.status(), "paused");
            let before = subject.count();
            std::thread::sleep(std::time::Duration::from_millis(150));
            assert_eq!(subject.count(), before, "it counts while it is paused");
            subject.call("resume").output().ok();
            subject.counts_on(2);
            ok()
        }),
        ("update after it", &|t| {
            let subject = come_back(t);
            let pids = look::controller(subject.pid(), "pids").ok_or_else(|| Skip("no controller pids".into()))?;
            t.call(&["update", &subject.id]).options(&["--pids-limit", "57"]).output().ok();
            assert_eq!(pids.read("pids.max"), "57");
            ok()
        }),
        ("limits of config.json after it", &|t| {
            let mut subject = Subject::counter(t);
            subject.bundle.config["linux"]["resources"]["pids"] = serde_json::json!({"limit": 77});
            subject.bundle.config["linux"]["resources"]["memory"] = serde_json::json!({"limit": 100 << 20});
            let subject = subject.run();
            subject.counts_on(2);
            let pid = subject.goes_and_comes(&[]);
            let pids = look::controller(pid, "pids").ok_or_else(|| Skip("no controller pids".into()))?;
            assert_eq!(pids.read("pids.max"), "77");
            let memory = look::controller(pid, "memory").ok_or_else(|| Skip("no controller memory".into()))?;
            let file = if memory.unified { "memory.max" } else { "memory.limit_in_bytes" };
            assert_eq!(memory.read(file), (100 << 20).to_string());
            ok()
        }),
        ("a device that is forbidden, after it", &|t| {
            let subject = come_back(t);
            let said = subject.sh("mknod /tmp/k c 1 11 2>/dev/null && head -c1 /tmp/k; head -c1 /dev/zero | wc -c");
            assert_eq!(said, "1");
            ok()
        }),
        ("events --stats after it", &|t| {
            if t.is(Kind::Crun) {
                return Err(Skip("crun has no events".into()));
            }
            let subject = come_back(t);
            let stats = t.call(&["events", &subject.id]).options(&["--stats"]).output().ok().json();
            assert!(stats["data"]["pids"]["current"].as_u64().is_some_and(|count| count >= 1), "{stats}");
            ok()
        }),
        ("ps and kill after it", &|t| {
            let subject = come_back(t);
            if !t.is(Kind::Crun) {
                assert!(subject.call("ps").output().ok().stdout().contains("/bin/kept"));
            }
            subject.is_killed_and_deleted();
            ok()
        }),
    ])
}

/// One that was restored and counts.
#[track_caller]
fn come_back<'t>(t: &'t Test<'t>) -> Subject<'t> {
    let subject = Subject::counting(t);
    subject.goes_and_comes(&[]);
    subject.counts_on(2);
    subject
}

fn a_second_checkpoint() -> Done {
    rows(&[("checkpoint of what was restored", &|t| {
        let mut subject = come_back(t);
        let first = subject.count();
        subject.images = t.file("second");
        subject.goes_and_comes(&[]);
        assert!(subject.counts_on(2) > first);
        ok()
    })])
}

fn it_is_left_running() -> Done {
    rows(&[
        ("--leave-running", &|t| {
            let subject = Subject::counting(t);
            let pid = subject.pid();
            subject.checkpoint(&["--leave-running"]).ok();
            assert_eq!((subject.status(), subject.pid()), ("running".to_owned(), pid));
            subject.counts_on(3);
            subject.is_killed_and_deleted();
            ok()
        }),
        ("restored beside the one left running", &|t| {
            let subject = Subject::counting(t);
            subject.checkpoint(&["--leave-running"]).ok();
            let frozen = subject.count();
            let copy = another_bundle(&subject);
            let output = copy.restore(&[]);
            if !output.status.success() && !t.is_proa() {
                return Ok(refusal(&output));
            }
            output.ok();
            assert_ne!(copy.pid(), subject.pid());
            assert!(copy.counts_on(3) + 3 >= frozen);
            subject.counts_on(3);
            assert!(cgroups(&subject.id).iter().all(|dir| !cgroups(&copy.id).contains(dir)));
            copy.is_killed_and_deleted();
            subject.counts_on(3);
            ok()
        }),
    ])
}

/// Another container, of a copy of the bundle, with the same images.
fn another_bundle<'t>(subject: &Subject<'t>) -> Subject<'t> {
    let t = subject.t;
    let fresh = t.bundle();
    fs::copy(subject.bundle.inside("/bin/kept"), fresh.inside("/bin/kept")).expect("cannot copy");
    fs::copy(subject.bundle.inside("/count"), fresh.inside("/count")).expect("cannot copy");
    let mut copy = Subject::new(t, Bundle { path: fresh.path, config: subject.bundle.config.clone() });
    copy.images.clone_from(&subject.images);
    copy
}

/// What runc has saved is restored by others, and the other way round: engines may change the runtime.
fn images_of_another_runtime() -> Done {
    let runc = |t: &Test<'_>| Runtime::new("/usr/sbin/runc".into(), &t.make_dir("runc"));
    rows(&[
        ("images that runc has made", &|t| {
            let (runc, subject) = (runc(t), Subject::counter(t));
            subject.bundle.write();
            let bundle = ["-d".as_ref(), "--bundle".as_ref(), subject.bundle.path.as_os_str()];
            let null = [Stdio::null(), Stdio::null(), Stdio::null()];
            assert!(runc.call(["run", &subject.id]).options(&bundle).streams(null).output().status.success());
            subject.counts_on(2);
            let images = ["--image-path".as_ref(), subject.images.as_os_str()];
            runc.call(["checkpoint", &subject.id]).options(&images).output().ok();
            let frozen = subject.count();
            let output = subject.restore(&[]);
            if !output.status.success() {
                subject.is_gone();
                return refused(t, &output, &[]);
            }
            assert!(subject.counts_on(2) > frozen, "it begins anew");
            subject.is_killed_and_deleted();
            ok()
        }),
        ("images for runc", &|t| {
            let (runc, subject) = (runc(t), Subject::counting(t));
            subject.checkpoint(&[]).ok();
            let frozen = subject.count();
            let images = ["--image-path".as_ref(), subject.images.as_os_str()];
            let bundle = ["-d".as_ref(), "--bundle".as_ref(), subject.bundle.path.as_os_str()];
            let output = runc.call(["restore", &subject.id]).options(&images).options(&bundle).output();
            if output.status.success() {
                assert!(subject.counts_on(2) > frozen, "it begins anew");
            }
            runc.call(["delete", "--force", &subject.id]).output();
            Ok(if output.status.success() { "ok".to_owned() } else { refusal(&output) })
        }),
    ])
}
