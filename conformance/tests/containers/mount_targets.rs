//! `mounts[].destination`: how the place for a mount is found and made, always
//! inside the root, and what may not be covered.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

crate::cases! {
    "C-10" => relative_destination_counts_from_the_root,
    "" => missing_target_directory_is_made,
    "" => missing_target_file_is_made,
    "" => target_through_a_link_stays_inside,
    "" => target_through_a_dangling_link,
    "" => target_with_dots_stays_inside,
    "" => target_that_is_the_root,
    "" => target_of_a_file_over_a_directory,
    "" => proc_covered_by_other_things_is_refused,
    "" => proc_files_may_be_covered,
    "" => proc_and_sys_must_not_be_links,
    "" => mount_over_a_mount,
}

fn relative_destination_counts_from_the_root(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.process("cwd", json!("/etc")).mount("data/x", "tmpfs", "tmpfs", &[]);
    assert_eq!(t.sh(&mut bundle, "grep -c ' /data/x ' /proc/mounts"), "1\n");
    Ok(())
}

fn missing_target_directory_is_made(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "makes it with the sticky bit")?;
    let mut bundle = t.bundle();
    bundle.mount("/made/for/it", "tmpfs", "tmpfs", &["mode=700"]);
    let text = t.sh(&mut bundle, "stat -c '%n %a %u:%g %F' /made /made/for /made/for/it");
    assert_eq!(text, "/made 755 0:0 directory\n/made/for 755 0:0 directory\n/made/for/it 700 0:0 directory\n");
    Ok(())
}

fn missing_target_file_is_made(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let source = t.make_file("source", "content\n");
    bundle.bind(&source, "/made/for/it/file", &["bind"]);
    assert_eq!(t.sh(&mut bundle, "cat /made/for/it/file"), "content\n");
    let meta = fs::symlink_metadata(bundle.inside("/made/for/it/file")).expect("no target was made");
    assert!(meta.is_file() && meta.size() == 0);
    Ok(())
}

fn target_through_a_link_stays_inside(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let canary = t.make_dir("canary");
    fs::create_dir_all(bundle.inside("/real")).expect("cannot make a directory");
    symlink("/real", bundle.inside("/absolute")).expect("cannot link");
    symlink("../../../../../../../../../../real", bundle.inside("/upwards")).expect("cannot link");
    bundle.mount("/absolute/a", "tmpfs", "tmpfs", &[]).mount("/upwards/b", "tmpfs", "tmpfs", &[]);
    let canary_inside = bundle.inside(canary.to_str().expect("UTF-8"));
    fs::create_dir_all(&canary_inside).expect("cannot make a directory");
    symlink(&canary, bundle.inside("/host")).expect("cannot link");
    bundle.bind(&t.make_file("source", "x"), "/host/file", &["bind"]);
    let text = t.sh(&mut bundle, "grep -cE ' /real/(a|b) ' /proc/mounts; ls /real; ls /host");
    assert_eq!(text, "2\na\nb\nfile\n");
    assert_eq!(fs::read_dir(&canary).expect("cannot list").count(), 0, "something was made on the host");
    assert!(canary_inside.join("file").exists(), "the target is below the root");
    Ok(())
}

fn target_through_a_dangling_link(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "refuses a target below a dangling link")?;
    let mut bundle = t.bundle();
    let canary = t.make_dir("canary");
    symlink("/missing/dir", bundle.inside("/dangling")).expect("cannot link");
    symlink(&canary, bundle.inside("/host")).expect("cannot link");
    bundle.mount("/dangling", "tmpfs", "tmpfs", &[]).mount("/host/a", "tmpfs", "tmpfs", &[]);
    bundle.bind(&t.make_file("source", "x"), "/host/b/file", &["bind"]);
    assert_eq!(t.sh(&mut bundle, "grep -c ' /missing/dir ' /proc/mounts; ls /host"), "1\na\nb\n");
    assert_eq!(fs::read_dir(&canary).expect("cannot list").count(), 0, "something was made on the host");
    assert!(bundle.inside(canary.to_str().expect("UTF-8")).is_dir(), "the target is below the root");
    Ok(())
}

fn target_with_dots_stays_inside(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let canary = t.make_dir("canary");
    let up = "/..".repeat(12);
    bundle.mount(&format!("{up}{}/x", canary.display()), "tmpfs", "tmpfs", &[]);
    bundle.mount("/etc/../data", "tmpfs", "tmpfs", &[]);
    assert_eq!(t.sh(&mut bundle, "grep -c ' /data ' /proc/mounts"), "1\n");
    assert_eq!(fs::read_dir(&canary).expect("cannot list").count(), 0, "something was made on the host");
    Ok(())
}

fn target_that_is_the_root(t: &Test<'_>) -> Done {
    for destination in ["/", "/etc/..", "/."] {
        let mut bundle = t.bundle();
        bundle.mount(destination, "tmpfs", "tmpfs", &[]);
        let output = t.refuses(&bundle);
        t.proa_says(&output, "mounts[6]");
    }
    Ok(())
}

fn target_of_a_file_over_a_directory(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.bind(&t.make_file("source", "x"), "/etc", &["bind"]);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "mounts[6]");
    let mut bundle = t.bundle();
    bundle.bind(&t.make_dir("dir"), "/etc/passwd", &["bind"]);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "mounts[6]");
    Ok(())
}

fn proc_covered_by_other_things_is_refused(t: &Test<'_>) -> Done {
    let dir = t.make_dir("dir");
    for destination in ["/proc", "/proc/self", "/proc/sys", "/proc/1/attr", "/proc/sys/kernel"] {
        let mut bundle = t.bundle();
        bundle.bind(&dir, destination, &["bind"]);
        if !t.is(Kind::Crun) {
            let output = t.refuses(&bundle);
            t.proa_says(&output, "mounts[6]");
        }
    }
    t.peer_differs(Kind::Crun, "covers parts of /proc")?;
    let mut bundle = t.bundle();
    bundle.mount("/proc", "tmpfs", "tmpfs", &[]);
    t.refuses(&bundle);
    Ok(())
}

fn proc_files_may_be_covered(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let source = t.make_file("source", "covered\n");
    for name in ["cpuinfo", "meminfo", "stat", "uptime", "loadavg"] {
        bundle.bind(&source, &format!("/proc/{name}"), &["bind"]);
    }
    assert_eq!(t.sh(&mut bundle, "cat /proc/cpuinfo /proc/uptime"), "covered\ncovered\n");
    Ok(())
}

fn proc_and_sys_must_not_be_links(t: &Test<'_>) -> Done {
    for (name, target) in [("proc", "/bad"), ("sys", "/bad"), ("proc", "bad/missing")] {
        let bundle = t.bundle();
        fs::create_dir(bundle.inside("/bad")).expect("cannot make a directory");
        fs::remove_dir(bundle.inside(name)).expect("cannot remove");
        symlink(target, bundle.inside(name)).expect("cannot link");
        let output = t.refuses(&bundle);
        t.phrase(&output, &["must be mounted on ordinary directory", "not a directory", "symbolic link"]);
        assert_eq!(fs::read_dir(bundle.inside("/bad")).expect("cannot list").count(), 0);
    }
    Ok(())
}

fn mount_over_a_mount(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.mount("/data", "tmpfs", "first", &[]).mount("/data", "tmpfs", "second", &["ro"]);
    let c = t.start(&bundle);
    let all: Vec<_> = look::mounts(c.pid).into_iter().filter(|mount| mount.mount_point.ends_with("data")).collect();
    assert_eq!(all.len(), 2);
    assert_eq!(look::mount(c.pid, "/data").mount_source.as_deref(), Some("second"));
    Ok(())
}
