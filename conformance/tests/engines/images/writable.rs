//! What containers write: it goes to the bundle and nowhere else, and the root behaves as a plain one does.

use std::fs;
use std::os::unix::fs::MetadataExt;

use conformance::layout::{Layer, Layout};
use conformance::tarball::Entry;
use conformance::test::Done;
use conformance::tree::Tree;
use serde_json::json;

use super::{PROA, Test, busybox, json, merged, names, script};
use crate::command::Call;

crate::cases! {
    as_a_plain_root,
    two_at_once_see_their_own,
    written_to_the_bundle_only,
    a_root_that_is_only_read,
    a_root_that_is_volatile,
    what_was_volatile_is_gone_after_a_crash,
    a_tree_that_is_deeper_than_descriptors,
    two_creations_of_one_bundle,
    a_bundle_is_kept_while_any_container_writes,
    the_root_as_the_container_sees_it,
    a_user_namespace_of_its_own,
}

fn layout(command: &str) -> Layout {
    let entries = [
        Entry::dir(".").mode(0o755).time(5, 0),
        Entry::dir("d").time(6, 0),
        Entry::file("d/a", "a").mode(0o640).owner(7, 8),
        Entry::hard_link("d/a-too", "d/a"),
        Entry::dir("d/sub"),
        Entry::file("d/sub/x", "x"),
        Entry::file("d/sub/y", "y"),
        Entry::dir("e").mode(0o1777),
        Entry::file("e/big", vec![b'b'; 1 << 20]),
        Entry::symlink("link", "d/sub"),
        Entry::fifo("fifo"),
        Entry::file("suid", "s").mode(0o4755).xattr("user.note", "n"),
    ];
    let above = [Entry::whiteout("d/sub", "y"), Entry::file("d/sub/z", "z"), Entry::dir("d/sub").mode(0o750)];
    Layout::new([busybox(), Layer::of(&entries).gzip(), Layer::of(&above)]).with("Cmd", json!(["sh", "-ec", command]))
}

/// All that a program may do with files that it finds.
const WORK: &str = "
    echo more >>/d/a; chmod 4711 /d/a-too; chown 1:2 /suid; mv /e/big /d/big; ln /d/big /d/big2; : >/d/sub/x; rm /d/sub/z
    rm -r /d/sub; mkdir /d/sub; echo new >/d/sub/new; mv /d/sub /moved; mkdir /d/sub; ln -s /moved /d/sub/to
    rm /link; mkdir /link; echo in >/link/in; rm -r /e; echo file >/e; rm /fifo; mkfifo /fifo; rmdir /home/guest; mkdir -p /home/guest/x/y
    mv /etc /etc2; mkdir /etc; cp /etc2/passwd /etc/; truncate -s 100 /etc2/group; mknod /null c 1 3; touch -d @1000 /d
    for i in 1 2 3 4 5 6 7 8 9; do mkdir -p /t/$i; echo $i >/t/$i/f; done; mv /t/1 /t/10; rm -r /t/2; cp -a /t/3 /t/2; ls -R /t >/t/list
    mv /d /dd; mv /dd /d; find /d | sort >/list; cat /link/in /d/a >/cat
";

/// Times of what was written differ.
fn timeless(tree: Tree) -> Tree {
    let mut tree = tree.without(&["proc", "sys", "dev"]);
    tree.0.values_mut().for_each(|node| node.mtime = (0, 0));
    tree
}

fn as_a_plain_root() -> Done {
    let t = Test::begin();
    t.bundle_of(&layout(WORK), "b");
    // The same tree, plain, with the same configuration.
    let plain = t.text("plain");
    script(&format!("umoci unpack --image {}:latest {plain}", t.text("b.image")));
    let mut config = json(&t.path("b/config.json"));
    let annotations = config["annotations"].as_object_mut().expect("annotations");
    annotations.retain(|name, _| !name.starts_with("io.github.proa."));
    fs::write(format!("{plain}/config.json"), config.to_string()).expect("cannot write");
    for bundle in ["b", "plain"] {
        let said = t.run(bundle).ok();
        assert_eq!(said.err, "", "{bundle}");
    }
    let (ours, theirs) = (timeless(merged(&t.path("b"))), timeless(Tree::of(&t.path("plain/rootfs"))));
    let mut lines = ours.differences(&theirs);
    // Names of one file in a layer are files of their own once one is written to: overlayfs, without its index.
    // A directory of a layer is not renamed but copied, each name for itself.
    lines.retain(|line| !line.starts_with("d/a") && !line.contains(": hard link of"));
    assert!(lines.is_empty(), "{}", lines.join("\n"));
    assert_eq!(ours.at("d/a").size, 6);
    t.is_tidy();
    Ok(())
}

fn two_at_once_see_their_own() -> Done {
    let t = Test::begin();
    let layers = |t: &Test| Tree::of(&t.store().join("layers"));
    let command = "echo $NAME >>/d/a; mv /d/sub /d/$NAME; rm /e/big; echo $NAME >/own; sleep 1000";
    let image = t.write(&layout(command).files(), "image");
    for name in ["one", "two"] {
        t.create(&image, &["--env", &format!("NAME={name}")], name).run().ok();
    }
    let before = layers(&t);
    for name in ["one", "two"] {
        t.proa(&["create", "--bundle", &t.text(name), name]).run().ok();
        t.proa(&["start", name]).run().ok();
    }
    for (name, other) in [("one", "two"), ("two", "one")] {
        let exec = |text: &str| t.proa(&["exec", name, "sh", "-c", text]).run();
        conformance::look::eventually("what it writes", || exec("cat /own").out.trim() == name);
        assert_eq!(exec("cat /d/a; ls /d; ls /e").text(), format!("a{name}\na\na-too\n{name}"));
        assert!(!exec(&format!("ls /d/{other}")).success());
    }
    // One bundle is for one container at a time.
    t.proa(&["create", "--bundle", &t.text("one"), "again"]).run().exits(1);
    for name in ["one", "two"] {
        t.proa(&["delete", "--force", name]).run().ok();
    }
    assert_eq!(before, layers(&t), "the layers are others");
    t.proa(&["bundle", "rm", &t.text("one"), &t.text("two")]).run().ok();
    assert_eq!(before, layers(&t), "the layers are others");
    Ok(())
}

fn written_to_the_bundle_only() -> Done {
    let t = Test::begin();
    t.bundle_of(&layout(WORK), "b");
    let state = |t: &Test| (Tree::of(&t.store()), names(t.dir.path()), Tree::of(&t.path("b")).without(&["writable"]));
    let before = state(&t);
    t.run("b").ok();
    let mut after = state(&t);
    after.1.retain(|name| name != "state");
    assert_eq!(before, after, "something is written beside the writable directory");
    let parts = names(&t.path("b/writable"));
    assert!(parts.contains(&"upper".to_owned()) && parts.contains(&"work".to_owned()), "{parts:?}");
    assert_eq!(fs::metadata(t.path("b/writable")).expect("a directory").uid(), 0);
    // The next container of the bundle finds what this one has written.
    let config = fs::read_to_string(t.path("b/config.json")).expect("a text");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
    config["process"]["args"] = json!(["cat", "/cat"]);
    fs::write(t.path("b/config.json"), config.to_string()).expect("cannot write");
    assert_eq!(t.run("b").text(), "in\namore");
    // A user of the host cannot reach a setuid program that a container has made.
    let mode = fs::metadata(t.path("b/writable")).expect("a directory").mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
    Ok(())
}

fn a_root_that_is_only_read() -> Done {
    let t = Test::begin();
    let image =
        t.write(&layout("cat /d/a; touch /x || echo read-only; touch /dev/shm/x && echo fine").files(), "image");
    t.create(&image, &["--read-only"], "b").run().ok();
    let said = t.run("b").ok();
    assert_eq!(said.out, "aread-only\nfine\n");
    assert!(!t.path("b/writable/upper").join("x").exists());
    Ok(())
}

fn a_root_that_is_volatile() -> Done {
    let t = Test::begin();
    let image = t.write(&layout("echo x >/x; cat /x; grep ' / ' /proc/mounts").files(), "image");
    t.create(&image, &["--volatile"], "b").run().ok();
    for _ in 0..2 {
        let text = t.run("b").text();
        assert!(text.starts_with("x\n") && text.contains("volatile"), "{text}");
    }
    Ok(())
}

fn what_was_volatile_is_gone_after_a_crash() -> Done {
    let t = Test::begin();
    let image = t.write(&layout("test -e /x && echo old; echo >/x").files(), "image");
    t.create(&image, &["--volatile"], "b").run().ok();
    let owner = t.path("b/writable/owner");
    assert_eq!(t.run("b").text(), "");
    assert_eq!(t.run("b").text(), "old");
    // Of another boot; what a loss of power makes of a file; what a kill before it was written leaves.
    let mode = || fs::metadata(t.path("b/writable/upper")).expect("a directory").mode();
    let before = mode();
    fs::write(&owner, "1 1 0b3f3a2e-0000-0000-0000-000000000000\n").expect("cannot write");
    assert_eq!(t.run("b").ok().out, "");
    fs::write(&owner, "").expect("cannot write");
    assert_eq!(t.run("b").ok().out, "");
    fs::remove_file(&owner).expect("cannot remove");
    assert_eq!(t.run("b").ok().out, "");
    assert_eq!(t.run("b").text(), "old");
    assert_eq!(mode(), before);
    assert_eq!(names(&t.path("b/writable")), ["owner", "upper", "work"]);
    Ok(())
}

fn a_tree_that_is_deeper_than_descriptors() -> Done {
    let t = Test::begin();
    let image = t.write(&layout("i=0; while [ $i -lt 1500 ]; do mkdir n; cd n; i=$((i+1)); done").files(), "image");
    t.create(&image, &[], "b").run().ok();
    t.run("b").ok();
    t.proa(&["bundle", "rm", &t.text("b")]).run().ok();
    assert!(!t.path("b").exists());
    Ok(())
}

fn two_creations_of_one_bundle() -> Done {
    let t = Test::begin();
    let image = t.write(&layout("echo runs").files(), "image");
    for turn in 0..10 {
        let name = format!("b{turn}");
        // One that the caller has made stays the caller's.
        if turn % 2 == 0 {
            fs::create_dir(t.path(&name)).expect("cannot make a directory");
        }
        let made = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| t.create(&image, &[], &name).run())).collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread")).filter(|said| said.success()).count()
        });
        assert_eq!(made, 1);
        t.proa(&["image", "prune", "--all", "-q"]).run().ok();
        assert_eq!(t.run(&name).text(), "runs");
    }
    let wrong = t.create("no-such-image", &[], "b0").run().fails();
    wrong.says("b0");
    fs::create_dir(t.path("mine")).expect("cannot make a directory");
    t.create("no-such-image", &[], "mine").run().fails().says("no-such-image");
    assert!(t.path("mine").exists());
    Ok(())
}

fn a_bundle_is_kept_while_any_container_writes() -> Done {
    let t = Test::begin();
    t.bundle_of(&layout("sleep 1000"), "b");
    let elsewhere = |words: &[&str]| {
        let root = t.text("elsewhere");
        Call::new(PROA, &[&["--root", &root], words].concat()).env("PROA_STORE", &t.text("store"))
    };
    elsewhere(&["create", "--bundle", &t.text("b"), "c"]).run().ok();
    t.proa(&["bundle", "rm", &t.text("b")]).run().fails().says("writes to");
    assert!(t.path("b/config.json").exists());
    elsewhere(&["delete", "--force", "c"]).run().ok();
    t.proa(&["bundle", "rm", &t.text("b")]).run().ok();
    Ok(())
}

fn the_root_as_the_container_sees_it() -> Done {
    let t = Test::begin();
    t.bundle_of(&layout("sleep 1000"), "b");
    let wanted = merged(&t.path("b"));
    t.proa(&["create", "--bundle", &t.text("b"), "--pid-file", &t.text("pid"), "c"]).run().ok();
    let pid = fs::read_to_string(t.path("pid")).expect("a pid").trim().parse().expect("a number");
    let out = ["proc", "sys", "dev"];
    let seen = Tree::of(&conformance::look::root_of(pid, "/")).without(&out);
    super::same(&seen, &wanted.without(&out));
    t.proa(&["delete", "--force", "c"]).run().ok();
    Ok(())
}

fn a_user_namespace_of_its_own() -> Done {
    let t = Test::begin();
    let image = t.write(
        &layout("id -u; stat -c %u:%g /d/a /bin/sh; echo x >/d/new; chown 5:6 /d/new; stat -c %u:%g /d/new").files(),
        "image",
    );
    t.create(&image, &["--userns", "200000:65536"], "b").run().ok();
    assert_eq!(t.run("b").text(), "0\n7:8\n0:0\n5:6");
    let about = fs::metadata(t.path("b/writable/upper/d/new")).expect("the file");
    assert_eq!((about.uid(), about.gid()), (200_005, 200_006));
    // The layers are shared with bundles that have no such namespace.
    t.create(&image, &[], "plain").run().ok();
    assert_eq!(super::layers_of(&t.path("b")), super::layers_of(&t.path("plain")));
    assert_eq!(t.run("plain").text(), "0\n7:8\n0:0\n5:6");
    Ok(())
}
