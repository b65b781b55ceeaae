//! Processes of a cgroup listed, stopped, killed and waited for.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use cgroup::{Cgroup, Error, SubCgroup};
use common::{Process, Scratch, make, move_to, skip, wait_until};

/// A cgroup below, in all hierarchies.
fn below(scratch: &Scratch, name: &str) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = scratch.paths().iter().map(|path| path.join(name)).collect();
    paths.iter().for_each(|path| make(path));
    paths
}

/// Starts a process every other millisecond, up to 800.
const MULTIPLYING: &str = "f() { for i in $(seq 200); do sleep 1000 & sleep 0.005; done; }; f & f & f & f; wait";

#[test]
fn processes_below_are_listed_each_once() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let processes: Vec<Process> = (0..4).map(|_| Process::sleeping_in(&cgroup)).collect();
    below(&scratch, "a").iter().for_each(|path| move_to(path, processes[1].pid()));
    below(&scratch, "a/b").iter().for_each(|path| move_to(path, processes[2].pid()));
    // In one hierarchy alone.
    move_to(&below(&scratch, "c")[0], processes[3].pid());
    let mut expected: Vec<i32> = processes.iter().map(Process::pid).collect();
    expected.sort_unstable();
    assert_eq!(cgroup.procs().unwrap(), expected);
}

#[test]
fn frozen_processes_stand_still_until_they_are_thawed() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let process = Process::waiting("while :; do :; done");
    cgroup.join(process.pid(), false).unwrap();
    let process = process.go();
    wait_until("it runs", || process.ticks() > 2);
    assert!(!cgroup.place().is_frozen().unwrap());

    let start = Instant::now();
    cgroup.freeze().unwrap();
    println!("frozen after {:?}", start.elapsed());
    assert!(cgroup.place().is_frozen().unwrap());
    let ticks = process.ticks();
    sleep(Duration::from_millis(100));
    assert_eq!(process.ticks(), ticks);
    cgroup.freeze().unwrap();

    cgroup.thaw().unwrap();
    assert!(!cgroup.place().is_frozen().unwrap());
    wait_until("it runs again", || process.ticks() > ticks + 2);
}

#[test]
fn frozen_processes_can_be_killed() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let mut processes: Vec<Process> = (0..5).map(|_| Process::sleeping_in(&cgroup)).collect();
    cgroup.freeze().unwrap();
    cgroup.kill().unwrap();
    assert!(processes.iter_mut().all(|process| process.end().signal() == Some(libc::SIGKILL)));
    cgroup.remove().unwrap();
    scratch.assert_gone();
}

#[test]
fn processes_that_multiply_are_all_killed() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let process = Process::waiting(MULTIPLYING);
    cgroup.join(process.pid(), false).unwrap();
    let mut process = process.go();
    wait_until("they are many", || cgroup.procs().unwrap().len() > 20);
    cgroup.kill().unwrap();
    cgroup.remove().unwrap();
    process.end();
    scratch.assert_gone();
}

#[test]
fn the_same_without_a_kill_by_the_kernel() {
    let scratch = Scratch::new();
    // What Linux before 5.14 and cgroup v1 have: all but the cgroup of v2 itself.
    let cgroup = scratch.place.create().unwrap();
    let text = serde_json::to_string(&scratch.place).unwrap();
    let mut fields: serde_json::Map<_, _> = serde_json::from_str(&text).unwrap();
    if !fields.contains_key("v1") {
        return skip("this host has no cgroup v1");
    }
    fields.remove("unified");
    let v1: cgroup::Place = serde_json::from_value(fields.into()).unwrap();
    let v1: Cgroup = v1.open().unwrap().unwrap();
    let process = Process::waiting(MULTIPLYING);
    cgroup.join(process.pid(), false).unwrap();
    let mut process = process.go();
    wait_until("they are many", || cgroup.procs().unwrap().len() > 20);
    v1.kill().unwrap();
    assert!(!v1.place().is_frozen().unwrap());
    cgroup.remove().unwrap();
    process.end();
    scratch.assert_gone();
}

#[test]
fn processes_outside_of_the_v2_cgroup_are_killed_too() {
    let scratch = Scratch::new();
    if scratch.host.hierarchies().is_empty() {
        return skip("this host has no cgroup v1");
    }
    let cgroup = scratch.place.create().unwrap();
    let process = Process::waiting("exec sleep 1000");
    cgroup.join(process.pid(), true).unwrap();
    let mut process = process.go();
    cgroup.kill().unwrap();
    assert_eq!(process.end().signal(), Some(libc::SIGKILL));
}

#[test]
fn a_signal_reaches_every_process() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let mut processes: Vec<Process> = (0..3).map(|_| Process::sleeping_in(&cgroup)).collect();
    below(&scratch, "a").iter().for_each(|path| move_to(path, processes[1].pid()));
    let real_time = 40;
    cgroup.signal(real_time).unwrap();
    assert!(processes.iter_mut().all(|process| process.end().signal() == Some(real_time)));
    cgroup.signal(real_time).unwrap();
    let error = Process::sleeping_in(&cgroup);
    assert_eq!(cgroup.signal(1000).unwrap_err().errno(), Some(libc::EINVAL));
    drop(error);
}

#[test]
fn cgroups_below_are_removed_however_many() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    below(&scratch, &["d"; 40].join("/"));
    (0..50).for_each(|number| drop(below(&scratch, &format!("wide-{number}/x"))));
    let mut process = Process::sleeping_in(&cgroup);
    below(&scratch, "d/d/d").iter().for_each(|path| move_to(path, process.pid()));
    cgroup.kill().unwrap();
    cgroup.remove().unwrap();
    process.end();
    scratch.assert_gone();
}

#[test]
fn a_cgroup_whose_processes_stay_is_an_error_that_names_them() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let process = Process::sleeping_in(&cgroup);
    let start = Instant::now();
    let error = cgroup.remove().unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(matches!(&error, Error::Busy { processes, .. } if *processes == [process.pid()]), "{error}");
}

#[test]
fn removal_waits_for_processes_to_end() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let process = Process::waiting("exec sleep 0.3");
    cgroup.join(process.pid(), false).unwrap();
    let mut process = process.go();
    cgroup.remove().unwrap();
    process.end();
    scratch.assert_gone();
}

#[test]
fn a_tree_that_changes_can_be_listed_and_removed() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let directory = scratch.paths()[0].clone();
    let stop = Instant::now() + Duration::from_millis(700);
    let changes = std::thread::spawn(move || {
        let mut rounds = 0;
        while Instant::now() < stop {
            for name in ["x", "x/y", "x/y/z"] {
                fs::create_dir(directory.join(name)).unwrap();
            }
            for name in ["x/y/z", "x/y", "x"] {
                // Removed by the other already, or not yet by it.
                drop(fs::remove_dir(directory.join(name)));
            }
            rounds += 1;
        }
        rounds
    });
    let mut lists = 0;
    while !changes.is_finished() {
        assert!(cgroup.procs().unwrap().is_empty());
        lists += 1;
    }
    println!("{} changes, {lists} lists", changes.join().unwrap());
    cgroup.remove().unwrap();
    scratch.assert_gone();
}

#[test]
fn a_process_enters_a_cgroup_below_and_none_beside() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let paths = below(&scratch, "a/b");
    let inner = cgroup.within(&[SubCgroup { controllers: &[], path: "/a/b" }]).unwrap();
    let process = Process::sleeping_in(&inner);
    let moved = process.cgroups().lines().filter(|line| line.ends_with(&format!("{}/a/b", scratch.name))).count();
    assert_eq!(moved, paths.len());
    let beside = format!("../{}", scratch.name);
    for path in ["../x", "a/../../x", &beside, "", "a\0"] {
        let error = cgroup.within(&[SubCgroup { controllers: &[], path }]).unwrap_err();
        assert!(matches!(error, Error::BadSubPath { .. }), "{error}");
    }
    let missing = cgroup.within(&[SubCgroup { controllers: &[], path: "none" }]).unwrap_err();
    assert_eq!(missing.errno(), Some(libc::ENOENT), "{missing}");
    let unknown = cgroup.within(&[SubCgroup { controllers: &["nonsense"], path: "a" }]).unwrap_err();
    assert!(matches!(unknown, Error::UnknownController { .. }));
    cgroup.within(&[SubCgroup { controllers: &[], path: "." }]).unwrap();
}

#[test]
fn one_hierarchy_alone_leads_below() {
    let scratch = Scratch::new();
    let Some(first) = scratch.host.hierarchies().first() else {
        return skip("this host has no cgroup v1");
    };
    let cgroup = scratch.place.create().unwrap();
    let path = scratch.place.path_in(first).unwrap().join("a");
    make(&path);
    let inner = cgroup.within(&[SubCgroup { controllers: &[first.name()], path: "a" }]).unwrap();
    let process = Process::sleeping_in(&inner);
    let moved = process.cgroups();
    assert_eq!(moved.lines().filter(|line| line.ends_with(&format!("{}/a", scratch.name))).count(), 1, "{moved}");
    assert_eq!(moved.lines().filter(|line| line.contains(&scratch.name)).count(), scratch.paths().len());
}
