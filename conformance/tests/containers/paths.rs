//! `linux.maskedPaths` and `linux.readonlyPaths`.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

crate::cases! {
    "L-89" => masked_file_reads_empty,
    "L-89" => masked_directory_is_empty,
    "L-89" => masked_path_that_is_missing,
    "L-89" => masked_paths_of_the_default_config,
    "L-89" => masked_path_twice,
    "" => masked_path_through_a_link_stays_inside,
    "" => masked_directories_cannot_be_filled,
    "" => masked_paths_hold_for_exec,
    "" => masked_paths_in_a_user_namespace,
    "L-90" => readonly_path_refuses_writes,
    "L-90" => readonly_path_that_is_missing,
    "" => readonly_path_keeps_the_flags_it_had,
    "" => readonly_path_with_mounts_below,
    "" => readonly_and_masked_at_once,
    "" => null_device_of_the_image_is_not_trusted,
}

fn masked_file_reads_empty(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    fs::write(bundle.inside("/secret"), "secret").expect("cannot write");
    bundle.linux("maskedPaths", json!(["/secret", "/proc/meminfo"]));
    let c = t.start(&bundle);
    assert_eq!(c.sh("cat /secret /proc/meminfo; echo x >/secret; cat /secret"), "");
    for path in ["/secret", "/proc/meminfo"] {
        let meta = fs::metadata(look::root_of(c.pid, path)).expect("no such file");
        assert!(meta.file_type().is_char_device() && meta.rdev() == nix::sys::stat::makedev(1, 3), "{path}");
    }
    assert_eq!(fs::read_to_string(bundle.inside("/secret")).ok().as_deref(), Some("secret"));
    Ok(())
}

fn masked_directory_is_empty(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    fs::create_dir(bundle.inside("/dir")).expect("cannot make a directory");
    fs::write(bundle.inside("/dir/secret"), "secret").expect("cannot write");
    bundle.linux("maskedPaths", json!(["/dir", "/sys/kernel"]));
    let c = t.start(&bundle);
    assert_eq!(
        c.sh("ls -A /dir /sys/kernel; touch /dir/x 2>/dev/null || echo refused"),
        "/dir:\n\n/sys/kernel:\nrefused\n"
    );
    let mount = look::mount(c.pid, "/dir");
    assert!(mount.fs_type == "tmpfs" || t.is(Kind::Crun), "{mount:?}");
    assert!(mount.mount_options.contains_key("ro"), "{mount:?}");
    Ok(())
}

fn masked_path_that_is_missing(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.linux("maskedPaths", json!(["/no/such", "/proc/no-such"]));
    assert_eq!(t.sh(&mut bundle, "echo fine; ls -d /no 2>/dev/null || :"), "fine\n");
    Ok(())
}

fn masked_paths_of_the_default_config(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let script = "for p in /proc/kcore /proc/keys /proc/timer_list; do [ -e $p ] && cat $p; done; [ -d /sys/firmware ] && ls /sys/firmware; echo end";
    assert_eq!(t.sh(&mut bundle, script), "end\n");
    Ok(())
}

fn masked_path_twice(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.linux("maskedPaths", json!(["/proc/meminfo", "/proc/meminfo", "/sys/kernel", "/sys/kernel"]));
    assert_eq!(t.sh(&mut bundle, "cat /proc/meminfo; ls /sys/kernel; echo end"), "end\n");
    Ok(())
}

fn masked_path_through_a_link_stays_inside(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let canary = t.make_file("canary", "untouched");
    let inside = bundle.inside(canary.to_str().expect("UTF-8"));
    fs::create_dir_all(inside.parent().expect("a parent")).expect("cannot make a directory");
    fs::write(&inside, "inside").expect("cannot write");
    std::os::unix::fs::symlink(&canary, bundle.inside("/link")).expect("cannot link");
    bundle.linux("maskedPaths", json!(["/link"])).linux("readonlyPaths", json!(["/link"]));
    bundle.sh("cat /link");
    let output = t.run(&bundle);
    assert!(!output.stdout().contains("untouched"));
    assert_eq!(fs::read_to_string(&canary).ok().as_deref(), Some("untouched"));
    fs::write(&canary, "still writable").expect("the host's file became read-only");
    Ok(())
}

fn masked_directories_cannot_be_filled(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "binds a directory of its own")?;
    let mut bundle = t.bundle();
    bundle.capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    for name in ["a", "b"] {
        fs::create_dir(bundle.inside(name)).expect("cannot make a directory");
    }
    bundle.linux("maskedPaths", json!(["/a", "/b"]));
    // A file made by whoever can make the mask writable is not a way between
    // places, nor a store.
    let text = t.sh(
        &mut bundle,
        "mount -o remount,rw /a 2>/dev/null; echo x >/a/file 2>/dev/null; cat /b/file /a/file 2>/dev/null; echo end",
    );
    assert_eq!(text, "end\n");
    Ok(())
}

fn masked_paths_hold_for_exec(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.linux("maskedPaths", json!(["/proc/meminfo"])).linux("readonlyPaths", json!(["/etc"]));
    let c = t.start(&bundle);
    assert_eq!(c.sh("cat /proc/meminfo; touch /etc/x 2>/dev/null || echo refused"), "refused\n");
    Ok(())
}

fn masked_paths_in_a_user_namespace(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000);
    assert_eq!(
        t.sh(
            &mut bundle,
            "cat /proc/keys; ls /sys/firmware; echo x 2>/dev/null >/proc/sys/kernel/domainname || echo refused"
        ),
        "refused\n"
    );
    Ok(())
}

fn readonly_path_refuses_writes(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    fs::create_dir(bundle.inside("/dir")).expect("cannot make a directory");
    bundle.linux("readonlyPaths", json!(["/dir", "/etc/passwd", "/proc/sys"]));
    let script = "touch /dir/x 2>&1; echo x 2>&1 >>/etc/passwd; touch /etc/group && echo others; \
        echo 1 >/proc/sys/kernel/domainname || true; cat /etc/passwd | head -c4";
    let text = t.sh(&mut bundle, &format!("{{ {script}; }} 2>&1"));
    assert_eq!(text.matches("Read-only file system").count(), 3, "{text}");
    assert!(
        text.ends_with("others\n/bin/sh: can't create /proc/sys/kernel/domainname: Read-only file system\nroot"),
        "{text}"
    );
    Ok(())
}

fn readonly_path_that_is_missing(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.linux("readonlyPaths", json!(["/no/such", "/proc/no-such"]));
    assert_eq!(t.sh(&mut bundle, "echo fine"), "fine\n");
    Ok(())
}

fn readonly_path_keeps_the_flags_it_had(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.mount("/data", "tmpfs", "tmpfs", &["nosuid", "nodev", "noexec"]).linux("readonlyPaths", json!(["/data"]));
    let c = t.create(&bundle);
    let options = look::mount(c.pid, "/data").mount_options;
    for word in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(options.contains_key(word), "{word}: {options:?}");
    }
    Ok(())
}

fn readonly_path_with_mounts_below(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.mount("/data", "tmpfs", "tmpfs", &[]).mount("/data/below", "tmpfs", "tmpfs", &[]);
    bundle.linux("readonlyPaths", json!(["/data"]));
    let text = t.sh(&mut bundle, "touch /data/x 2>/dev/null || echo refused; ls -d /data/below");
    assert_eq!(text, "refused\n/data/below\n", "what is mounted below is still there");
    Ok(())
}

fn readonly_and_masked_at_once(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle
        .linux("readonlyPaths", json!(["/proc/sys"]))
        .linux("maskedPaths", json!(["/proc/sys/kernel/hostname", "/proc/sys/net"]));
    assert_eq!(t.sh(&mut bundle, "cat /proc/sys/kernel/hostname; ls /proc/sys/net; echo end"), "end\n");
    Ok(())
}

fn null_device_of_the_image_is_not_trusted(t: &Test<'_>) -> Done {
    // /dev comes from an image in which null is a link: what is masked with it
    // must not become a way to the link's target.
    let mut bundle = t.bundle();
    bundle.config["mounts"]
        .as_array_mut()
        .expect("mounts")
        .retain(|mount| !mount["destination"].as_str().is_some_and(|at| at.starts_with("/dev")));
    fs::write(bundle.inside("/target"), "target").expect("cannot write");
    std::os::unix::fs::symlink("/target", bundle.inside("/dev/null")).expect("cannot link");
    bundle.linux("maskedPaths", json!(["/proc/meminfo"]));
    bundle.sh("cat /proc/meminfo");
    let output = t.run(&bundle);
    assert!(!output.stdout().contains("target") && !output.stdout().contains("MemTotal"), "{}", output.stdout());
    Ok(())
}
