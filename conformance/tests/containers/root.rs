//! `root`, `linux.rootfsPropagation`, `hostname`, `domainname`: what `/` is and
//! how the container is named.

use std::fs;
use std::os::unix::fs::MetadataExt;

use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use nix::mount::{MsFlags, mount, umount};
use serde_json::json;

crate::cases! {
    "C-3" => root_is_the_file_system_given,
    "C-4" => root_path_relative_and_absolute,
    "C-3" => root_must_be_there,
    "C-5" => root_that_is_a_file,
    "C-7" => root_readonly,
    "C-7" => root_readonly_keeps_the_flags_it_had,
    "C-7" => root_readonly_leaves_mounts_writable,
    "" => root_on_a_mount_of_its_own,
    "" => nothing_of_the_host_is_mounted,
    "" => no_way_up_from_the_root,
    "" => no_pivot,
    "L-88" => propagation_default_is_slave,
    "L-88" => propagation_words_of_the_root,
    "C-70" => propagation_of_an_unknown_word,
    "" => root_file_system_is_left_as_it_was,
    "C-51" => hostname_and_domainname,
    "" => hostname_without_a_namespace_of_its_own,
    "" => hostname_that_is_too_long,
}

fn root_is_the_file_system_given(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    fs::write(bundle.inside("/mark"), "x").expect("cannot write");
    let c = t.start(&bundle);
    let (inside, outside) = (fs::metadata(look::root_of(c.pid, "/mark")), fs::metadata(bundle.inside("/mark")));
    let (inside, outside) = (inside.expect("no mark"), outside.expect("no mark"));
    assert_eq!((inside.dev(), inside.ino()), (outside.dev(), outside.ino()));
    assert_eq!(c.sh("cat /mark"), "x");
    Ok(())
}

fn root_path_relative_and_absolute(t: &Test<'_>) -> Done {
    let mut bundle = t.sh_bundle("echo here");
    let elsewhere = t.file("elsewhere");
    fs::rename(bundle.rootfs(), &elsewhere).expect("cannot rename");
    bundle.config["root"]["path"] = json!(elsewhere);
    assert_eq!(t.prints(&bundle), "here\n");
    fs::create_dir(bundle.path.join("a")).expect("cannot make a directory");
    fs::rename(&elsewhere, bundle.path.join("a/b")).expect("cannot rename");
    for path in ["a/b", "./a/b", "a/../a/b"] {
        bundle.config["root"]["path"] = json!(path);
        assert_eq!(t.prints(&bundle), "here\n", "{path}");
    }
    Ok(())
}

fn root_must_be_there(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.remove("/root");
    let output = t.refuses(&bundle);
    t.proa_says(&output, "root");
    Ok(())
}

fn root_that_is_a_file(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    fs::write(bundle.path.join("file"), "x").expect("cannot write");
    bundle.config["root"]["path"] = json!("file");
    let output = t.refuses(&bundle).exits(1);
    t.proa_says(&output, "root.path");
    Ok(())
}

fn root_readonly(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.config["root"]["readonly"] = json!(true);
    let c = t.start(&bundle);
    assert!(look::mount(c.pid, "/").mount_options.contains_key("ro"));
    let script = "for f in /x /etc/passwd /bin/new; do touch $f 2>&1; done; mkdir /d 2>&1; rm /etc/group 2>&1";
    let text = c.exec(&["/bin/sh", "-c", script]).output().stdout();
    assert_eq!(text.matches("Read-only file system").count(), 5, "{text}");
    // The host's own view stays writable.
    fs::write(bundle.inside("/by-the-host"), "x").expect("cannot write");
    Ok(())
}

fn root_readonly_keeps_the_flags_it_had(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "drops nosuid and nodev")?;
    t.peer_differs(Kind::Runc, "drops nosuid and nodev")?;
    let mut bundle = t.sleeping_bundle();
    let root = bundle.rootfs();
    mount(Some(&root), &root, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("cannot mount");
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(None::<&str>, &root, None::<&str>, flags, None::<&str>).expect("cannot remount");
    bundle.config["root"]["readonly"] = json!(true);
    let c = t.create(&bundle);
    let options = look::mount(c.pid, "/").mount_options;
    for word in ["ro", "nosuid", "nodev"] {
        assert!(options.contains_key(word), "{word}: {options:?}");
    }
    c.delete();
    umount(&root).expect("cannot unmount");
    Ok(())
}

fn root_readonly_leaves_mounts_writable(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.config["root"]["readonly"] = json!(true);
    bundle.mount("/tmp", "tmpfs", "tmpfs", &[]).bind(&t.make_dir("dir"), "/data", &["bind"]);
    assert_eq!(t.sh(&mut bundle, "touch /tmp/x /data/x /dev/x && echo fine"), "fine\n");
    Ok(())
}

fn root_on_a_mount_of_its_own(t: &Test<'_>) -> Done {
    // As engines have it: an overlay or tmpfs at the bundle's rootfs.
    let bundle = t.sh_bundle("cat /mark; grep -c ' / / ' /proc/self/mountinfo");
    let root = t.make_dir("image");
    fs::remove_dir(&root).expect("cannot remove");
    fs::rename(bundle.rootfs(), &root).expect("cannot rename");
    fs::create_dir(bundle.rootfs()).expect("cannot make a directory");
    let (upper, work) = (t.make_dir("upper"), t.make_dir("work"));
    let data = format!("lowerdir={},upperdir={},workdir={}", root.display(), upper.display(), work.display());
    mount(Some("overlay"), &bundle.rootfs(), Some("overlay"), MsFlags::empty(), Some(data.as_str()))
        .expect("cannot mount");
    fs::write(bundle.inside("/mark"), "upper\n").expect("cannot write");
    assert_eq!(t.prints(&bundle), "upper\n1\n");
    umount(&bundle.rootfs()).expect("cannot unmount");
    Ok(())
}

fn nothing_of_the_host_is_mounted(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let points: Vec<_> =
        look::mounts(c.pid).into_iter().map(|mount| mount.mount_point.to_string_lossy().into_owned()).collect();
    let expected = ["/", "/proc", "/dev", "/sys"];
    for point in &points {
        assert!(
            expected.iter().any(|root| point == root || (*root != "/" && point.starts_with(&format!("{root}/")))),
            "{point} of {points:?}"
        );
    }
    assert_eq!(points.iter().filter(|point| *point == "/").count(), 1, "{points:?}");
    Ok(())
}

fn no_way_up_from_the_root(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    fs::write(bundle.inside("/mark"), "x").expect("cannot write");
    bundle.capabilities(&["CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE"]).process("noNewPrivileges", json!(false));
    assert_eq!(
        t.sh(
            &mut bundle,
            "cat /../../../mark; mkdir /d; chroot /d /bin/true 2>/dev/null; cd /..; cat mark; cat /proc/1/root/mark"
        ),
        "xxx"
    );
    Ok(())
}

fn no_pivot(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    fs::write(bundle.inside("/mark"), "x").expect("cannot write");
    bundle.sh("cat /mark; cat /../mark; pwd; ls / | grep -c mark");
    let output = t.run_call(&bundle, &t.id()).options(&["--no-pivot"]).output().ok();
    assert_eq!(output.stdout(), "xx/\n1\n");
    let id = t.id();
    bundle.args(&["/bin/sleep", "1000"]);
    let output = t.create_call(&bundle, &id).options(&["--no-pivot"]).output().ok();
    let c = t.container(id, output);
    c.start();
    assert_eq!(c.sh("cat /mark"), "x");
    Ok(())
}

fn propagation_of(t: &Test<'_>, word: Option<&str>) -> String {
    let mut bundle = t.sleeping_bundle();
    if let Some(word) = word {
        bundle.linux("rootfsPropagation", json!(word));
    }
    let c = t.create(&bundle);
    let found = look::propagation(&look::mount(c.pid, "/"));
    c.delete();
    found
}

fn propagation_default_is_slave(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "makes the root private")?;
    t.peer_differs(Kind::Crun, "makes the root private")?;
    assert_eq!(propagation_of(t, None), "slave");
    Ok(())
}

fn propagation_words_of_the_root(t: &Test<'_>) -> Done {
    for (word, shown) in [
        ("private", &["private"][..]),
        ("rprivate", &["private"]),
        ("slave", &["slave"]),
        ("rslave", &["slave"]),
        ("shared", &["shared", "shared,slave"]),
        ("rshared", &["shared", "shared,slave"]),
        ("unbindable", &["unbindable", "slave,unbindable"]),
    ] {
        if !t.is_proa() && word.ends_with("slave") {
            continue; // makes it private
        }
        let found = propagation_of(t, Some(word));
        assert!(shown.contains(&found.as_str()), "{word}: {found}");
    }
    Ok(())
}

fn propagation_of_an_unknown_word(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "passes over it")?;
    let mut bundle = t.bundle();
    bundle.linux("rootfsPropagation", json!("sideways"));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.rootfsPropagation");
    Ok(())
}

fn root_file_system_is_left_as_it_was(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.linux("devices", json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 3}]));
    let list = |dir: &str| -> Vec<_> {
        let entries = fs::read_dir(bundle.inside(dir)).expect("cannot list").filter_map(Result::ok);
        let mut names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
        names.sort();
        names
    };
    let before = ["/", "/dev", "/etc", "/proc", "/sys"].map(list);
    t.run(&bundle).ok();
    assert_eq!(["/", "/dev", "/etc", "/proc", "/sys"].map(list), before);
    Ok(())
}

fn hostname_and_domainname(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.set("hostname", json!("given-name")).set("domainname", json!("given.domain"));
    let c = t.start(&bundle);
    assert_eq!(c.sh("hostname; cat /proc/sys/kernel/domainname"), "given-name\ngiven.domain\n");
    bundle.remove("/hostname").remove("/domainname");
    let own = nix::unistd::gethostname().expect("no host name").to_string_lossy().into_owned();
    assert_eq!(t.sh(&mut bundle, "hostname").trim(), own, "a new namespace begins with the host's name");
    Ok(())
}

fn hostname_without_a_namespace_of_its_own(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.without_namespace("uts");
    let output = t.refuses(&bundle);
    t.proa_says(&output, "hostname");
    bundle.remove("/hostname").set("domainname", json!("x"));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "domainname");
    bundle.remove("/domainname");
    t.run(&bundle).ok();
    Ok(())
}

fn hostname_that_is_too_long(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.set("hostname", json!("x".repeat(65)));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "hostname");
    Ok(())
}
