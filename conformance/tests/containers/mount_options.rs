//! The words of `mounts[].options`, one by one, as the container's mountinfo
//! shows them and as the kernel acts on them.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use nix::mount::{MsFlags, mount, umount};

crate::cases! {
    "C-16" => words_that_set_a_flag,
    "C-16" => words_that_clear_a_flag,
    "C-16" => words_of_access_time,
    "C-16" => words_of_the_superblock,
    "C-16" => silent_and_loud,
    "C-16" => defaults_changes_nothing,
    "C-16" => remount,
    "C-16" => last_word_wins,
    "" => bind_applies_flags_to_the_copy_alone,
    "" => bind_without_words_keeps_the_sources_flags,
    "" => bind_clears_flags_of_the_source,
    "" => bind_with_data_of_a_file_system,
    "" => bind_with_an_unknown_word_is_refused,
    "C-16" => nosymfollow_is_obeyed,
    "C-16" => ro_is_not_recursive,
    "C-16" => recursive_words_reach_what_is_below,
    "C-16" => recursive_words_clear_too,
    "C-16" => recursive_access_time,
    "C-16" => propagation_words,
    "C-16" => propagation_of_what_is_below,
    "" => shared_events_reach_the_container,
    "" => flags_are_obeyed,
}

/// The options of the mount at /m, made with these words.
#[track_caller]
fn options_of(t: &Test<'_>, words: &[&str]) -> HashMap<String, Option<String>> {
    let mut bundle = t.sleeping_bundle();
    bundle.mount("/m", "tmpfs", "tmpfs", words);
    let c = t.create(&bundle);
    let mount = look::mount(c.pid, "/m");
    c.delete();
    mount.mount_options
}

fn words_that_set_a_flag(t: &Test<'_>) -> Done {
    for word in ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"] {
        if word == "nosymfollow" && t.is(Kind::Crun) {
            continue; // not one of its words
        }
        let options = options_of(t, &[word]);
        assert!(options.contains_key(word), "{word}: {options:?}");
        for other in ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"] {
            assert!(other == word || !options.contains_key(other), "{word} sets {other} too: {options:?}");
        }
    }
    Ok(())
}

fn words_that_clear_a_flag(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "keeps ro where rw follows")?;
    let pairs = [
        ("ro", "rw"),
        ("nosuid", "suid"),
        ("nodev", "dev"),
        ("noexec", "exec"),
        ("noatime", "atime"),
        ("nodiratime", "diratime"),
        ("nosymfollow", "symfollow"),
    ];
    let pairs = if t.is(Kind::Crun) { &pairs[..6] } else { &pairs };
    for (set, clear) in pairs {
        let options = options_of(t, &[set, clear]);
        assert!(!options.contains_key(*set), "{set},{clear}: {options:?}");
    }
    Ok(())
}

fn words_of_access_time(t: &Test<'_>) -> Done {
    for (words, shown) in [
        (&["relatime"][..], Some("relatime")),
        (&["noatime"], Some("noatime")),
        (&["strictatime"], None),
        (if t.is(Kind::Crun) { &["atime"] } else { &["noatime", "atime"] }, Some("relatime")),
        (&["strictatime", "nodiratime"], Some("nodiratime")),
        (&[], Some("relatime")),
    ] {
        let options = options_of(t, words);
        let found: Vec<_> =
            ["relatime", "noatime", "nodiratime"].into_iter().filter(|word| options.contains_key(*word)).collect();
        assert_eq!(found, shown.into_iter().collect::<Vec<_>>(), "{words:?}");
    }
    Ok(())
}

fn words_of_the_superblock(t: &Test<'_>) -> Done {
    for word in ["sync", "dirsync", "lazytime"] {
        if word == "lazytime" && t.is(Kind::Crun) {
            continue; // not one of its words
        }
        let mut bundle = t.sleeping_bundle();
        let clear = match word {
            "sync" => "async",
            "lazytime" => "nolazytime",
            _ => "rw",
        };
        bundle.mount("/set", "tmpfs", "tmpfs", &[word]).mount("/not", "tmpfs", "tmpfs", &[clear]);
        let c = t.create(&bundle);
        assert!(look::mount(c.pid, "/set").super_options.contains_key(word), "{word}");
        assert!(!look::mount(c.pid, "/not").super_options.contains_key(word), "{clear}");
        c.delete();
    }
    Ok(())
}

fn silent_and_loud(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes them for data of the file system")?;
    for word in ["silent", "loud", "iversion", "noiversion", "nomand"] {
        options_of(t, &[word]);
    }
    Ok(())
}

fn defaults_changes_nothing(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "hands the word to the file system, which refuses it")?;
    let mut options: Vec<_> = options_of(t, &["defaults"]).into_keys().collect();
    options.sort_unstable();
    assert_eq!(options, ["relatime", "rw"]);
    Ok(())
}

fn remount(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.mount("/m", "tmpfs", "tmpfs", &["size=1m"]).mount("/m", "tmpfs", "tmpfs", &["remount", "ro", "size=2m"]);
    let c = t.create(&bundle);
    let all: Vec<_> = look::mounts(c.pid).into_iter().filter(|mount| mount.mount_point.ends_with("m")).collect();
    assert_eq!(all.len(), 1, "remount makes no mount of its own");
    assert!(all[0].mount_options.contains_key("ro"), "{all:?}");
    assert_eq!(all[0].super_options.get("size").cloned().flatten().as_deref(), Some("2048k"), "{all:?}");
    Ok(())
}

fn last_word_wins(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "keeps ro where rw follows")?;
    assert!(!options_of(t, &["ro", "nosuid", "rw"]).contains_key("ro"));
    let options = options_of(t, &["rw", "suid", "ro", "nosuid"]);
    assert!(options.contains_key("ro") && options.contains_key("nosuid"), "{options:?}");
    Ok(())
}

/// A tmpfs with another below it, mounted at the suite's own directory.
pub(crate) struct Tree(pub(crate) PathBuf);

impl Tree {
    pub(crate) fn new(t: &Test<'_>, flags: MsFlags) -> Self {
        let dir = t.make_dir("tree");
        for dir in [dir.clone(), dir.join("below")] {
            fs::create_dir_all(&dir).expect("cannot make a directory");
            mount(Some("tree"), &dir, Some("tmpfs"), flags, None::<&str>).expect("cannot mount");
        }
        Self(dir)
    }

    /// A writable tree below which another can be mounted, then made `flags`.
    fn remounted(t: &Test<'_>, flags: MsFlags) -> Self {
        let tree = Self::new(t, MsFlags::empty());
        for dir in [tree.0.clone(), tree.0.join("below")] {
            let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
            mount(None::<&str>, &dir, None::<&str>, flags, None::<&str>).expect("cannot remount");
        }
        tree
    }

    pub(crate) fn fell(self) {
        umount(&self.0.join("below")).expect("cannot unmount");
        umount(&self.0).expect("cannot unmount");
    }
}

/// The options of /m and of /m/below, a bind of `tree` with these words.
#[track_caller]
fn bound(t: &Test<'_>, tree: &Tree, words: &[&str]) -> [HashMap<String, Option<String>>; 2] {
    let mut bundle = t.sleeping_bundle();
    bundle.bind(&tree.0, "/m", words);
    let c = t.create(&bundle);
    let options = ["/m", "/m/below"]
        .map(|point| look::mounts(c.pid).into_iter().rfind(|mount| mount.mount_point.as_os_str() == point));
    c.delete();
    options.map(|mount| mount.map(|mount| mount.mount_options).unwrap_or_default())
}

fn bind_applies_flags_to_the_copy_alone(t: &Test<'_>) -> Done {
    let tree = Tree::new(t, MsFlags::empty());
    let [upper, _] = bound(t, &tree, &["bind", "ro", "nosuid", "nodev", "noexec", "noatime"]);
    for word in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(upper.contains_key(word), "{word}: {upper:?}");
    }
    let own = look::mount(std::process::id() as i32, tree.0.to_str().expect("UTF-8"));
    assert!(!own.mount_options.contains_key("ro"), "the host's mount has changed: {own:?}");
    tree.fell();
    Ok(())
}

fn bind_without_words_keeps_the_sources_flags(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "drops nosuid, nodev and noexec")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOATIME;
    let tree = Tree::new(t, flags);
    for options in bound(t, &tree, &["rbind"]) {
        for word in ["nosuid", "nodev", "noexec", "noatime"] {
            assert!(options.contains_key(word), "{word}: {options:?}");
        }
    }
    tree.fell();
    Ok(())
}

fn bind_clears_flags_of_the_source(t: &Test<'_>) -> Done {
    let tree = Tree::new(t, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
    let [upper, _] = bound(t, &tree, &["bind", "suid", "dev"]);
    assert!(!upper.contains_key("nosuid") && !upper.contains_key("nodev"), "{upper:?}");
    tree.fell();
    Ok(())
}

fn bind_with_data_of_a_file_system(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "refuses it")?;
    let mut bundle = t.sh_bundle("cat /m/file");
    let dir = t.make_dir("dir");
    t.make_file("dir/file", "as it was\n");
    bundle.bind(&dir, "/m", &["bind", "size=1m"]);
    let id = t.id();
    let output = t.run_call(&bundle, &id).output();
    assert_eq!(output.stdout(), "as it was\n");
    t.proa_says(&output, "mounts[6].options: \"size\" has no effect on a bind mount");
    Ok(())
}

/// It may be a misspelt `ro`.
fn bind_with_an_unknown_word_is_refused(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "does not mind it")?;
    let mut bundle = t.bundle();
    bundle.bind(&t.make_dir("dir"), "/m", &["bind", "rO"]);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "mounts[6].options: a bind mount takes no option \"rO\"");
    Ok(())
}

fn nosymfollow_is_obeyed(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes it for data of the file system")?;
    let mut bundle = t.bundle();
    bundle.mount("/m", "tmpfs", "tmpfs", &["nosymfollow"]);
    assert_eq!(
        t.sh(&mut bundle, "ln -s /etc/group /m/link; readlink /m/link; cat /m/link 2>/dev/null || echo refused"),
        "/etc/group\nrefused\n"
    );
    Ok(())
}

fn ro_is_not_recursive(t: &Test<'_>) -> Done {
    let tree = Tree::new(t, MsFlags::empty());
    let [upper, below] = bound(t, &tree, &["rbind", "ro"]);
    assert!(upper.contains_key("ro") && !below.contains_key("ro"), "{upper:?} {below:?}");
    tree.fell();
    Ok(())
}

fn recursive_words_reach_what_is_below(t: &Test<'_>) -> Done {
    let tree = Tree::new(t, MsFlags::empty());
    for (word, shown) in [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnodiratime", "nodiratime"),
        ("rnoatime", "noatime"),
        ("rnosymfollow", "nosymfollow"),
    ] {
        if matches!(word, "rnosymfollow" | "rnodiratime" | "rnoatime") && t.is(Kind::Crun) {
            continue; // the first is not among its words, the others fail
        }
        for options in bound(t, &tree, &["rbind", word]) {
            assert!(options.contains_key(shown), "{word}: {options:?}");
        }
    }
    tree.fell();
    Ok(())
}

fn recursive_words_clear_too(t: &Test<'_>) -> Done {
    let flags =
        MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NODIRATIME;
    let tree = Tree::remounted(t, flags);
    for (word, shown) in
        [("rrw", "ro"), ("rsuid", "nosuid"), ("rdev", "nodev"), ("rexec", "noexec"), ("rdiratime", "nodiratime")]
    {
        if word == "rdiratime" && t.is(Kind::Crun) {
            continue; // fails
        }
        for options in bound(t, &tree, &["rbind", word]) {
            assert!(!options.contains_key(shown), "{word}: {options:?}");
        }
    }
    tree.fell();
    Ok(())
}

fn recursive_access_time(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "sets them without clearing the others")?;
    let tree = Tree::remounted(t, MsFlags::MS_NOATIME);
    for (words, shown) in [
        (&["rbind", "rrelatime"][..], Some("relatime")),
        (&["rbind", "rstrictatime"], None),
        (&["rbind", "ratime"], Some("relatime")),
        (&["rbind", "rnoatime"], Some("noatime")),
    ] {
        for options in bound(t, &tree, words) {
            let found: Vec<_> =
                ["relatime", "noatime"].into_iter().filter(|word| options.contains_key(*word)).collect();
            assert_eq!(found, shown.into_iter().collect::<Vec<_>>(), "{words:?}");
        }
    }
    tree.fell();
    Ok(())
}

fn propagation_words(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "leaves the mount private")?;
    for (word, shown) in [
        ("private", "private"),
        ("shared", "shared"),
        ("slave", "private"),
        ("unbindable", "unbindable"),
        ("rprivate", "private"),
        ("rshared", "shared"),
        ("runbindable", "unbindable"),
    ] {
        let mut bundle = t.sleeping_bundle();
        bundle.mount("/m", "tmpfs", "tmpfs", &[word]);
        let c = t.create(&bundle);
        assert_eq!(look::propagation(&look::mount(c.pid, "/m")), shown, "{word}");
        c.delete();
    }
    Ok(())
}

fn propagation_of_what_is_below(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "leaves the mount private")?;
    let tree = Tree::new(t, MsFlags::empty());
    for (word, upper, below) in [
        ("rslave", "slave", "slave"),
        ("rprivate", "private", "private"),
        ("private", "private", "slave"),
        ("rshared", "shared,slave", "shared,slave"),
    ] {
        let mut bundle = t.sleeping_bundle();
        bundle.bind(&tree.0, "/m", &["rbind", word]);
        let c = t.create(&bundle);
        let found = ["/m", "/m/below"].map(|point| look::propagation(&look::mount(c.pid, point)));
        // A shared copy may also stay in the peer group of the host's, with the
        // root file system shared too.
        let plain = found.clone().map(|word| if word == "shared" { "shared,slave".to_owned() } else { word });
        assert_eq!(plain, [upper, below], "{word}");
        c.delete();
    }
    tree.fell();
    Ok(())
}

fn shared_events_reach_the_container(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "leaves the mount private")?;
    let tree = Tree::new(t, MsFlags::empty());
    let mut bundle = t.sleeping_bundle();
    bundle.bind(&tree.0, "/slave", &["rbind", "rslave"]).bind(&tree.0, "/private", &["rbind", "rprivate"]);
    let c = t.start(&bundle);
    let late = tree.0.join("late");
    fs::create_dir(&late).expect("cannot make a directory");
    mount(Some("late"), &late, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("cannot mount");
    assert!(look::is_mounted(c.pid, "/slave/late"), "a slave sees what the host mounts later");
    assert!(!look::is_mounted(c.pid, "/private/late"), "a private mount does not");
    umount(&late).expect("cannot unmount");
    assert!(!look::is_mounted(c.pid, "/slave/late"));
    c.call("delete").options(&["--force"]).output().ok();
    tree.fell();
    Ok(())
}

fn flags_are_obeyed(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.capabilities(&["CAP_MKNOD", "CAP_DAC_OVERRIDE"]);
    bundle.mount("/ro", "tmpfs", "tmpfs", &["ro"]).mount("/noexec", "tmpfs", "tmpfs", &["noexec"]);
    bundle.mount("/nodev", "tmpfs", "tmpfs", &["nodev"]);
    let script = "touch /ro/file 2>/dev/null || echo ro; cp /bin/busybox /noexec; /noexec/busybox true 2>/dev/null || echo noexec; \
        mknod /nodev/null c 1 3 2>/dev/null; cat /nodev/null 2>/dev/null || echo nodev";
    assert_eq!(t.sh(&mut bundle, script), "ro\nnoexec\nnodev\n");
    Ok(())
}
