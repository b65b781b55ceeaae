//! Attacks on what the runtime writes, keeps and opens: its state, its own program, files of the image.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, Instant};

use conformance::look;
use conformance::test::{Done, Test};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde_json::json;

use crate::{Canary, SECRET, safe};

crate::attacks! {
    "CVE-2019-18837" => links_where_files_might_be_made,
    "CVE-2019-5736" => own_program_is_rewritten,
    "CVE-2019-14271" => image_libraries_are_not_loaded,
    "CVE-2021-41103 CVE-2024-25621" => state_is_for_nobody_else,
    "" => passwd_that_never_ends,
    "" => pid_file_is_a_link,
    "CVE-2026-115520" => id_leaves_the_state_directory,
}

fn links_where_files_might_be_made(t: &Test<'_>, canary: &Canary) -> Done {
    let mut bundle = t.bundle();
    let places = [
        "etc/hostname",
        "etc/hosts",
        "etc/resolv.conf",
        "etc/mtab",
        ".dockerenv",
        ".crun_config.json",
        ".krun_config.json",
    ];
    for place in places {
        symlink(canary.dir.join("new").join(place.replace('/', "-")), bundle.inside(place)).expect("cannot link");
        symlink(canary.dir.join("secret"), bundle.inside(&format!("{place}.secret"))).expect("cannot link");
    }
    fs::remove_dir(bundle.inside("/tmp")).expect("cannot remove");
    symlink(&canary.dir, bundle.inside("/tmp")).expect("cannot link");
    symlink(&canary.dir, bundle.inside("/run")).expect("cannot link");
    bundle.set("hostname", json!("h"));
    t.run(&bundle);
    Ok(())
}

/// The program that a process runs while it enters a container is the runtime's: it can be opened by /proc/PID/exe.
fn own_program_is_rewritten(t: &Test<'_>, _: &Canary) -> Done {
    let seen = t.make_dir("seen");
    let mut bundle = t.bundle();
    bundle.capabilities(&["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"]).bind(&seen, "/seen", &["bind"]);
    // A program that runs cannot be opened for writing: it is kept open until it has ended. It is not written to.
    bundle.sh(
        "echo up >/seen/up; while :; do for p in /proc/[0-9]*; do [ $p = /proc/1 ] || [ $p = /proc/$$ ] || \
         ( exec 9<$p/exe && [ \"$(readlink /proc/self/fd/9)\" != /bin/busybox ] && echo seen >>/seen/read && sleep 0.2 && \
           exec 8>>/proc/self/fd/9 && readlink /proc/self/fd/8 >>/seen/opened ) 2>/dev/null & done; wait; done",
    );
    symlink("/proc/self/exe", bundle.inside("/bin/self")).expect("cannot link");
    bundle.script("/bin/script", "#!/proc/self/exe\n");
    let c = t.start(&bundle);
    look::eventually("the container runs", || seen.join("up").exists());
    for _ in 0..40 {
        for program in ["/bin/self", "/bin/script", "/bin/true"] {
            c.exec(&[program]).output();
        }
    }
    c.kill("KILL");
    c.wait();
    let opened = fs::read_to_string(seen.join("opened")).unwrap_or_default();
    safe(opened.is_empty(), || format!("opened for writing: {opened:?}"));
    for program in ["/proc/self/exe", "/bin/self"] {
        let mut bundle = t.bundle();
        symlink("/proc/self/exe", bundle.inside("/bin/self")).expect("cannot link");
        bundle.args(&[program, "--version"]);
        t.run(&bundle);
    }
    Ok(())
}

/// Until its program runs nobody reads what a C library would load from the image.
fn image_libraries_are_not_loaded(t: &Test<'_>, _: &Canary) -> Done {
    let mut bundle = t.sleeping_bundle();
    let places =
        ["etc/nsswitch.conf", "etc/ld.so.preload", "etc/ld.so.cache", "etc/localtime", "lib/libnss_files.so.2"];
    fs::create_dir_all(bundle.inside("/lib")).expect("cannot make a directory");
    for place in places {
        fs::write(bundle.inside(place), "x").expect("cannot write");
    }
    bundle.process("user", json!({"uid": 1000, "gid": 1000}));
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK).expect("no inotify");
    for place in places {
        inotify.add_watch(&bundle.inside(place), AddWatchFlags::IN_OPEN).expect("cannot watch");
    }
    let c = t.start(&bundle);
    c.exec(&["/bin/true"]).output();
    let events = inotify.read_events().unwrap_or_default();
    safe(events.is_empty(), || format!("{} files of the image were opened", events.len()));
    Ok(())
}

fn state_is_for_nobody_else(t: &Test<'_>, _: &Canary) -> Done {
    for umask in [0, 0o077] {
        let id = t.id();
        t.create_call(&t.sleeping_bundle(), &id).umask(umask).output().ok();
        let mut stack = vec![t.runtime.root.clone()];
        while let Some(path) = stack.pop() {
            let meta = fs::symlink_metadata(&path).expect("no metadata");
            // Behind a directory that is closed all is.
            if meta.is_dir() && meta.mode() & 0o077 == 0 {
                continue;
            }
            safe(meta.mode() & 0o022 == 0 || meta.is_symlink(), || {
                format!("{} has mode {:o}", path.display(), meta.mode())
            });
            safe(meta.is_dir() || meta.mode() & 0o044 == 0, || {
                format!("{} can be read: {:o}", path.display(), meta.mode())
            });
            if meta.is_dir() {
                stack.extend(fs::read_dir(&path).expect("cannot list").filter_map(|entry| Some(entry.ok()?.path())));
            }
        }
        t.call(&["delete", "--force", &id]).output().ok();
        fs::remove_dir_all(&t.runtime.root).ok();
    }
    Ok(())
}

fn passwd_that_never_ends(t: &Test<'_>, _: &Canary) -> Done {
    for kind in 0..4 {
        let mut bundle = t.bundle();
        let passwd = bundle.inside("/etc/passwd");
        fs::remove_file(&passwd).expect("cannot remove");
        match kind {
            0 => nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::from_bits_truncate(0o644)).expect("no fifo"),
            1 => symlink("/dev/zero", &passwd).expect("cannot link"),
            2 => fs::File::create(&passwd).and_then(|file| file.set_len(10 << 30)).expect("no file"),
            _ => {
                let own = t.make_file("passwd", "root:x:0:0::/from-the-host:/bin/sh\n");
                symlink(own, &passwd).expect("cannot link");
            }
        }
        bundle.config["process"]["env"] = json!(["PATH=/bin"]);
        bundle.sh("echo $HOME");
        let before = Instant::now();
        let output = t.run_call(&bundle, &t.id()).wrapper(&["timeout", "-s", "KILL", "6"]).output();
        let took = before.elapsed();
        safe(took < Duration::from_secs(5), || format!("kind {kind}: {took:?}"));
        safe(!output.stdout().contains("from-the-host"), || "a file of the host is read for HOME".to_owned());
    }
    Ok(())
}

fn pid_file_is_a_link(t: &Test<'_>, _: &Canary) -> Done {
    let (victim, bundle) = (t.make_file("victim", SECRET), t.sleeping_bundle());
    let id = t.id();
    symlink(&victim, t.pid_file(&id)).expect("cannot link");
    t.create_call(&bundle, &id).output();
    let text = fs::read_to_string(&victim).expect("no victim");
    safe(text == SECRET, || format!("the pid is written through a link: {text:?}"));
    Ok(())
}

fn id_leaves_the_state_directory(t: &Test<'_>, canary: &Canary) -> Done {
    let outside = t.make_dir("outside");
    fs::create_dir_all(&t.runtime.root).expect("cannot make a directory");
    symlink(&canary.dir, t.runtime.root.join("link")).expect("cannot link");
    let long = "x".repeat(1025);
    for id in ["..", ".", "../outside", "a/b", "/abs", "", "a\nb", "link/below", &long] {
        let bundle = t.bundle();
        bundle.write();
        let created = t.call(&["create", "--bundle"]).arg(&bundle.path).arg(id).output();
        safe(!created.status.success(), || format!("{id:?} is accepted"));
        for command in [&["state"][..], &["start"], &["kill"], &["delete", "--force"], &["pause"], &["ps"]] {
            let output = t.call(command).arg(id).output();
            // Of what is not there delete --force says nothing.
            safe(!output.status.success() || command[0] == "delete", || format!("{} {id:?}", command[0]));
        }
        safe(outside.exists() && t.runtime.root.exists(), || format!("delete {id:?} has removed a directory"));
    }
    fs::remove_file(t.runtime.root.join("link")).expect("the link is gone");
    Ok(())
}
