//! Cgroups made, entered and removed on this host.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use cgroup::{Error, Mode, Place};
use common::{Process, Scratch, make, move_to, skip, wait_until};

#[test]
fn a_cgroup_is_made_entered_and_removed_in_all_hierarchies() {
    let scratch = Scratch::new();
    assert!(scratch.place.open().unwrap().is_none());
    let cgroup = scratch.place.create().unwrap();
    assert!(scratch.paths().iter().all(|path| path.join("cgroup.procs").exists()));
    assert_eq!(cgroup.unified_fd().is_some(), scratch.host.unified().is_some());
    assert!(cgroup.procs().unwrap().is_empty());

    let mut process = Process::sleeping_in(&cgroup);
    assert_eq!(cgroup.procs().unwrap(), [process.pid()]);
    let cgroups = process.cgroups();
    let lines: Vec<&str> = cgroups.lines().filter(|line| line.ends_with(&scratch.name)).collect();
    assert_eq!(lines.len(), scratch.paths().len(), "{cgroups}");

    cgroup.kill().unwrap();
    cgroup.remove().unwrap();
    process.end();
    scratch.assert_gone();
    cgroup.remove().unwrap();
    scratch.place.remove().unwrap();
}

#[test]
fn a_process_that_is_in_v2_already_is_moved_in_v1_alone() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let process = Process::waiting("exec sleep 1000");
    cgroup.join(process.pid(), true).unwrap();
    for none in [0, -1] {
        let error = cgroup.join(none, false).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ESRCH), "{error}");
    }
    let moved = process.cgroups().lines().filter(|line| line.ends_with(&scratch.name)).count();
    assert_eq!(moved, scratch.host.hierarchies().len());
}

#[test]
fn a_place_survives_being_written_down() {
    let scratch = Scratch::new();
    scratch.place.create().unwrap();
    let text = serde_json::to_string(&scratch.place).unwrap();
    let cgroup = serde_json::from_str::<Place>(&text).unwrap().open().unwrap().unwrap();
    let mut process = Process::sleeping_in(&cgroup);
    cgroup.kill().unwrap();
    process.end();
    cgroup.remove().unwrap();
    scratch.assert_gone();
}

#[test]
fn a_cgroup_with_processes_is_refused_and_stays_as_it_is() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let process = Process::sleeping_in(&cgroup);
    let error = scratch.place.create().unwrap_err();
    assert!(error.to_string().starts_with("container's cgroup is not empty: 1 process(es) found in /"), "{error}");
    assert_eq!(cgroup.procs().unwrap(), [process.pid()]);

    let below = scratch.paths()[0].join("below");
    make(&below);
    move_to(&below, process.pid());
    assert!(matches!(scratch.place.create(), Err(Error::NotEmpty { processes: 1, .. })));
}

#[test]
fn a_refusal_in_one_hierarchy_leaves_nothing_in_the_others() {
    let scratch = Scratch::new();
    let paths = scratch.paths();
    if paths.len() < 2 {
        return skip("this host has one hierarchy");
    }
    for occupied in [&paths[0], &paths[paths.len() - 1]] {
        make(occupied);
        let process = Process::waiting("exec sleep 1000");
        move_to(occupied, process.pid());
        assert!(matches!(scratch.place.create(), Err(Error::NotEmpty { .. })));
        let left: Vec<_> = paths.iter().filter(|path| path.exists()).collect();
        assert_eq!(left, [occupied]);
        drop(process);
        wait_until("the cgroup can be removed", || fs::remove_dir(occupied).is_ok());
    }
}

#[test]
fn an_empty_cgroup_that_is_there_is_used() {
    let scratch = Scratch::new();
    scratch.place.create().unwrap();
    let cgroup = scratch.place.create().unwrap();
    let process = Process::sleeping_in(&cgroup);
    assert_eq!(cgroup.procs().unwrap(), [process.pid()]);
}

#[test]
fn a_frozen_cgroup_is_refused() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    if let Err(Error::NoFreezer) = cgroup.freeze() {
        return skip("this host has no freezer");
    }
    let error = scratch.place.create().unwrap_err();
    assert!(error.to_string().ends_with("is unexpectedly frozen"), "{error}");
    cgroup.thaw().unwrap();
    scratch.place.create().unwrap();
}

#[test]
fn directories_above_go_with_the_container_if_they_came_with_it() {
    let scratch = Scratch::at(|name| Some(format!("/{name}/a/b")));
    let tops: Vec<_> = scratch.paths().iter().map(|path| path.ancestors().nth(2).unwrap().to_owned()).collect();
    let first = scratch.place.create().unwrap();
    let second = scratch.host.place(Some(&format!("/{}/a/c", scratch.name)), "x").unwrap().create().unwrap();

    // As recorded before the creation: nobody knows that it made more.
    scratch.place.remove().unwrap();
    assert!(tops.iter().all(|top| top.join("a/c").exists()));
    second.remove().unwrap();
    assert!(tops.iter().all(|top| top.join("a").exists() && !top.join("a/c").exists()));

    first.remove().unwrap();
    assert!(tops.iter().all(|top| !top.exists()));
    scratch.assert_gone();
}

#[test]
fn directories_above_stay_if_others_use_them() {
    let scratch = Scratch::at(|name| Some(format!("/{name}/a/b")));
    let first = scratch.place.create().unwrap();
    let second = scratch.host.place(Some(&format!("/{}/c", scratch.name)), "x").unwrap();
    let top = scratch.paths()[0].ancestors().nth(2).unwrap().to_owned();
    second.create().unwrap();
    first.remove().unwrap();
    assert!(top.join("c").exists() && !top.join("a").exists());
    second.remove().unwrap();
    for path in scratch.paths() {
        fs::remove_dir(path.ancestors().nth(2).unwrap()).unwrap();
    }
}

#[test]
fn many_come_and_go_below_one_directory() {
    let scratch = Scratch::at(|name| Some(format!("/{name}/shared/0")));
    let one = |worker: u32| {
        for round in 0..50 {
            let path = format!("/{}/shared/{worker}-{round}", scratch.name);
            let place = scratch.host.place(Some(&path), "x").unwrap();
            place.create().unwrap().remove().unwrap();
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4).map(|worker| scope.spawn(move || one(worker))).collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn a_creation_that_fails_leaves_nothing() {
    // Not a directory, in any hierarchy.
    let scratch = Scratch::at(|name| Some(format!("/{name}/cgroup.procs/x")));
    let error = scratch.place.create().unwrap_err();
    assert_eq!(error.errno(), Some(libc::ENOTDIR), "{error}");
    for path in scratch.paths() {
        assert!(!path.ancestors().nth(2).unwrap().exists());
    }
}

#[test]
fn the_process_of_a_place_is_found_where_it_moved_to() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let process = Process::sleeping_in(&cgroup);
    assert_eq!(scratch.host.place_of(process.pid()).unwrap(), scratch.place);
    let below = scratch.paths()[0].join("below");
    make(&below);
    move_to(&below, process.pid());
    let place = scratch.host.place_of(process.pid()).unwrap();
    assert_eq!(place.paths().next().unwrap().1, below);
    assert!(place.open().unwrap().is_some());
    let gone = scratch.host.place_of(i32::MAX).unwrap_err();
    assert_eq!(gone.errno(), Some(libc::ENOENT), "{gone}");
}

#[test]
fn all_controllers_there_are_are_handed_down() {
    let scratch = Scratch::at(|name| Some(format!("/{name}/a/b")));
    let Some(root) = scratch.host.unified() else {
        return skip("this host has no cgroup v2");
    };
    let cgroup = scratch.place.create().unwrap();
    let there = |path: &std::path::Path| fs::read_to_string(path.join("cgroup.controllers")).unwrap();
    let own = there(&scratch.place.unified_path().unwrap());
    if scratch.host.mode() == Mode::Hybrid {
        let enabled = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap();
        // What someone else may have turned on at the root goes no further.
        let above = there(scratch.place.unified_path().unwrap().parent().unwrap());
        assert!(own.trim().is_empty() && (above == enabled), "{own:?} {above:?} {enabled:?}");
        return;
    }
    if there(root).trim().is_empty() {
        return skip("cgroup v2 has no controllers here");
    }
    assert_eq!(own, there(root));
    cgroup.remove().unwrap();
}

#[test]
fn the_v1_hierarchies_are_mounted_where_the_host_says() {
    let scratch = Scratch::new();
    if scratch.host.mode() == Mode::V2 {
        assert!(scratch.host.hierarchies().is_empty());
        return skip("this host has no cgroup v1");
    }
    scratch.place.create().unwrap();
    for hierarchy in scratch.host.hierarchies() {
        let path = scratch.place.path_in(hierarchy).unwrap();
        assert!(path.starts_with(hierarchy.mount_point()) && path.is_dir(), "{}", path.display());
        assert_eq!(path, hierarchy.mount_point().join(&hierarchy.own().unwrap()[1..]).join(&scratch.name));
        let found = Command::new("stat").args(["-f", "-c", "%T"]).arg(&path).output().unwrap();
        assert_eq!(found.stdout, b"cgroupfs\n");
    }
}

#[test]
fn a_cgroup_is_given_to_a_user_on_v2_alone() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    cgroup.settle(0, Some(12345)).unwrap();
    let owner = |path: &std::path::Path| fs::metadata(path).unwrap().uid();
    for path in scratch.paths() {
        let expected = if scratch.host.mode() == Mode::V2 { 12345 } else { 0 };
        assert_eq!(owner(&path), expected);
        assert_eq!(owner(&path.join("cgroup.procs")), expected);
        assert_eq!(fs::metadata(&path).unwrap().gid(), 0);
    }
    if let (Mode::V2, Some(path)) = (scratch.host.mode(), scratch.place.unified_path()) {
        assert_eq!(owner(&path.join("cgroup.subtree_control")), 12345);
        assert_eq!(owner(&path.join("cgroup.freeze")), 0);
    }
}
