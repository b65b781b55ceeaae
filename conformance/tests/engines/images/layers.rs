//! Layers made by hand, each a corner of the format: the tree that they make is that of `umoci unpack`.

use conformance::layout::{Layer, Layout};
use conformance::random::Random;
use conformance::tarball::{Entry, TIME};
use conformance::test::Done;
use conformance::tree::Tree;

use super::{Test, merged, same};

crate::cases! {
    attributes_of_all_kinds,
    kinds_of_old,
    long_and_odd_names,
    whiteouts,
    a_whiteout_beside_what_it_names,
    opaque_directories,
    an_opaque_root,
    kinds_that_change,
    hard_links_over_layers,
    implied_directories,
    implied_directories_of_their_own,
    below_a_linked_directory,
    the_root_itself,
    files_that_come_twice,
    a_hundred_and_twenty_eight_layers,
    layers_by_chance,
}

/// The root's own entry, so that its time is no accident.
fn root() -> Entry {
    Entry::dir(".").time(TIME, 1)
}

/// A bundle of these layers equals umoci's.
#[track_caller]
fn check(layers: &[&[Entry]]) -> (Test, Tree) {
    check_but(layers, |_| ())
}

/// The same but for what is evened out.
#[track_caller]
fn check_but(layers: &[&[Entry]], even: fn(&mut Tree)) -> (Test, Tree) {
    let t = Test::begin();
    let layers = layers.iter().map(|entries| Layer::of(entries).gzip());
    let layout = Layout::new(layers);
    let bundle = t.bundle_of(&layout, "b");
    let tree = merged(&bundle);
    let (mut ours, mut theirs) = (tree.clone(), t.umoci(&format!("oci:{}:latest", t.text("b.image")), "b"));
    even(&mut ours);
    even(&mut theirs);
    same(&ours, &theirs);
    t.is_tidy();
    (t, tree)
}

/// A file that a layer links to is one with the link from then on. Another name that it has in a layer below stays what
/// it was, as wherever overlayfs holds images.
fn links(tree: &mut Tree) {
    tree.0.values_mut().for_each(|node| node.same_as = None);
}

/// Directories that no entry tells of have the time at which they were made.
fn times_of_directories(tree: &mut Tree) {
    tree.0.values_mut().filter(|node| node.mode & 0o170_000 == 0o040_000).for_each(|node| node.mtime = (0, 0));
}

/// security.capability: version 2, cap_net_raw permitted and effective.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn attributes_of_all_kinds() -> Done {
    let (_t, tree) = check(&[&[
        root(),
        Entry::dir("d").mode(0o1777).owner(7, 8).time(5, 999_999_999),
        Entry::file("d/setuid", "x").mode(0o6755).owner(1, 2),
        Entry::file("d/ping", "x").mode(0o755).owner(3, 3).xattr("security.capability", CAPABILITY),
        Entry::file("d/noted", "x").xattr("user.note", "a\0b").xattr("user.empty", ""),
        Entry::dir("noted").xattr("user.note", "of a directory").xattr("trusted.note", "for root"),
        Entry::file("many", "x").owner(3_000_000, 4_000_000_000),
        Entry::file("old", "x").time(-1_000_000_000, 123),
        Entry::file("fraction", "x").time(-1, 500_000_000),
        Entry::file("future", "x").time(5_000_000_000, 1),
        Entry::file("nobody-may", "").mode(0),
        Entry::symlink("link", "d/setuid").owner(5, 6).time(77, 88),
        Entry::symlink("dangling", "/no/such"),
        Entry::hard_link("ping-too", "d/ping"),
        Entry::hard_link("link-too", "link"),
        Entry::fifo("fifo").mode(0o622).owner(1, 1).time(9, 9),
        Entry::device("null", 1, 3).mode(0o666),
        Entry::device("large", 300, 70_000),
        Entry::block_device("disk", 8, 1).owner(0, 6).mode(0o660),
        Entry::new(0, "old-kind").data("a file too"),
    ]]);
    assert_eq!(tree.at("d/ping").xattrs["security.capability"], CAPABILITY);
    assert_eq!(tree.at("ping-too").same_as, Some("d/ping".into()));
    assert_eq!(tree.at("old").mtime, (-1_000_000_000, 123));
    assert_eq!(tree.at("d/setuid").mode & 0o7777, 0o6755);
    Ok(())
}

/// Kinds that umoci does not know are what POSIX says: files.
fn kinds_of_old() -> Done {
    let t = Test::begin();
    let layer =
        Layer::of(&[root(), Entry::new(b'7', "contiguous").data("as a file"), Entry::new(0, "old").data("as well")]);
    let tree = merged(&t.bundle_of(&Layout::new([layer]), "b"));
    assert_eq!((tree.at("contiguous").size, tree.at("old").size), (9, 7));
    assert_eq!(tree.at("contiguous").mode, 0o100_644);
    Ok(())
}

fn long_and_odd_names() -> Done {
    let deep = format!("{}end", "directory/".repeat(30));
    let wide = "w".repeat(255);
    let long_target = format!("/{}", "t/".repeat(400));
    let (_t, tree) = check_but(
        &[&[
            root(),
            Entry::file(&deep, "deep"),
            Entry::file(format!("{deep}-gnu"), "deep").gnu(),
            Entry::file(&wide, "wide"),
            Entry::file("n".repeat(100), "exactly"),
            Entry::symlink("to-long", &long_target),
            Entry::symlink("to-long-gnu", &long_target).gnu(),
            Entry::hard_link("link-of-deep", &deep),
            Entry::file("two words and more  ", "x"),
            Entry::file("grüße-世界", "x"),
            Entry::file(b"not-\xff\xfe-utf8", "x").gnu(),
            Entry::file("new\nline", "x"),
            Entry::file("back\\slash:colon,comma", "x"),
            Entry::file("./dot/./file", "x"),
            Entry::file("double//slash///file", "x"),
            Entry::file(".whiskers", "no whiteout"),
            Entry::file("a.wh.b", "no whiteout"),
        ]],
        times_of_directories,
    );
    assert_eq!(tree.at(&wide).size, 4);
    tree.at("dot/file");
    Ok(())
}

const BASE: fn() -> Vec<Entry> = || {
    vec![
        root(),
        Entry::dir("a").time(11, 0),
        Entry::dir("a/sub").mode(0o700).time(12, 0),
        Entry::file("a/sub/deep", "deep").time(13, 0),
        Entry::file("a/one", "one").time(14, 0),
        Entry::file("a/two", "two").owner(9, 9).time(15, 0),
        Entry::hard_link("a/one-too", "a/one"),
        Entry::dir("b").time(16, 0),
        Entry::file("b/file", "b").time(17, 0),
        Entry::symlink("link", "a"),
        Entry::file("file", "plain").time(18, 0),
    ]
};

fn whiteouts() -> Done {
    let (_t, tree) = check(&[
        &BASE(),
        &[
            Entry::whiteout("", "file"),
            Entry::whiteout("", "link"),
            Entry::whiteout("a", "sub"),
            Entry::dir("a").time(50, 0),
            Entry::whiteout("a", "one"),
            Entry::whiteout("a", "never-was"),
            Entry::whiteout("no/such/dir", "x"),
            Entry::dir("no/such/dir").time(1, 0),
            Entry::dir("no/such").time(1, 0),
            Entry::dir("no").time(1, 0),
            root(),
        ],
        &[Entry::whiteout("", "b"), root()],
        &[
            Entry::dir("b").mode(0o711).time(60, 0),
            Entry::file("b/new", "new"),
            Entry::dir("b").mode(0o711).time(60, 0),
            root(),
        ],
    ]);
    assert_eq!(tree.paths(), ["", "a", "a/one-too", "a/two", "b", "b/new", "no", "no/such", "no/such/dir"]);
    Ok(())
}

/// A whiteout is about the layers below, wherever it stands in its own.
fn a_whiteout_beside_what_it_names() -> Done {
    let (_t, tree) = check(&[
        &BASE(),
        &[
            Entry::whiteout("a", "one"),
            Entry::file("a/one", "again").time(70, 0),
            Entry::file("a/two", "again").time(71, 0),
            Entry::whiteout("a", "two"),
            Entry::whiteout("", "b"),
            Entry::dir("b").time(72, 0),
            Entry::file("b/fresh", "x"),
            Entry::dir("a").time(73, 0),
            Entry::dir("b").time(72, 0),
            root(),
        ],
    ]);
    assert_eq!((tree.at("a/one").mtime.0, tree.at("a/two").mtime.0), (70, 71));
    assert!(!tree.paths().contains(&"b/file".to_owned()));
    Ok(())
}

fn opaque_directories() -> Done {
    let (_t, tree) = check(&[
        &BASE(),
        &[
            Entry::dir("a").time(80, 0),
            Entry::opaque("a"),
            Entry::file("a/new", "new"),
            Entry::dir("b").time(81, 0),
            Entry::file("b/before", "stands before the mark"),
            Entry::opaque("b"),
            Entry::dir("b").time(81, 0),
            Entry::dir("a").time(80, 0),
            root(),
        ],
        &[Entry::file("a/newer", "newer"), Entry::dir("a").time(82, 0), root()],
    ]);
    assert_eq!(tree.paths(), ["", "a", "a/new", "a/newer", "b", "b/before", "file", "link"]);
    Ok(())
}

fn an_opaque_root() -> Done {
    let (_t, tree) = check(&[&BASE(), &[root(), Entry::opaque("."), Entry::file("only", "x"), root()]]);
    assert_eq!(tree.paths(), ["", "only"]);
    let (_t, tree) = check(&[&BASE(), &[Entry::file("only", "x"), Entry::opaque(""), root()]]);
    assert_eq!(tree.paths(), ["", "only"]);
    Ok(())
}

fn kinds_that_change() -> Done {
    let (_t, tree) = check(&[
        &BASE(),
        &[
            Entry::file("a", "no directory now"),
            Entry::symlink("b", "a"),
            Entry::dir("file").time(1, 0),
            Entry::file("file/in", "x"),
            Entry::dir("file").time(1, 0),
            Entry::fifo("link"),
            root(),
        ],
        &[
            Entry::dir("a").time(2, 0),
            Entry::file("a/again", "x"),
            Entry::dir("a").time(2, 0),
            Entry::dir("b").time(3, 0),
            Entry::symlink("file", "b"),
            root(),
        ],
        &[Entry::file("b/last", "x"), Entry::dir("b").time(4, 0), root()],
    ]);
    assert_eq!(tree.paths(), ["", "a", "a/again", "b", "b/last", "file", "link"]);
    Ok(())
}

fn hard_links_over_layers() -> Done {
    let (_t, tree) = check_but(
        &[
            &BASE(),
            &[
                Entry::dir("c").time(1, 0),
                Entry::hard_link("c/one-of-below", "a/one"),
                Entry::hard_link("c/two-of-below", "a/two"),
                Entry::file("c/own", "x"),
                Entry::hard_link("c/own-too", "c/own"),
                Entry::hard_link("c/own-three", "c/own-too"),
                Entry::dir("c").time(1, 0),
                root(),
            ],
            &[
                Entry::hard_link("own-of-below", "c/own"),
                Entry::whiteout("c", "own"),
                Entry::dir("c").time(2, 0),
                root(),
            ],
        ],
        links,
    );
    assert_eq!(tree.at("c/one-of-below").content, tree.at("a/one").content);
    Ok(())
}

fn implied_directories() -> Done {
    // What is changed in a directory says nothing of the directory.
    let (_t, tree) = check(&[
        &BASE(),
        &[Entry::file("a/sub/more", "x")],
        &[Entry::whiteout("a/sub", "deep")],
        &[Entry::file("b/more", "x"), Entry::file("a/sub/most", "x"), Entry::symlink("a/s", "one")],
    ]);
    assert_eq!((tree.at("a/sub").mode & 0o7777, tree.at("a/sub").mtime.0), (0o700, 12));
    Ok(())
}

/// Directories that no entry tells of at all: as every tool makes them, at whatever time.
fn implied_directories_of_their_own() -> Done {
    let t = Test::begin();
    let layout = Layout::new([
        Layer::of(&[root(), Entry::file("x/y/z/file", "x")]),
        Layer::of(&[Entry::file("x/y/w/file", "x").owner(5, 5)]),
    ]);
    let mut ours = merged(&t.bundle_of(&layout, "b"));
    let mut theirs = t.umoci(&format!("oci:{}:latest", t.text("b.image")), "b");
    times_of_directories(&mut ours);
    times_of_directories(&mut theirs);
    same(&ours, &theirs);
    assert_eq!((ours.at("x/y").mode & 0o7777, ours.at("x/y/w").owner), (0o755, (0, 0)));
    Ok(())
}

fn below_a_linked_directory() -> Done {
    let (_t, tree) = check(&[
        &[
            root(),
            Entry::dir("usr").time(1, 0),
            Entry::dir("usr/bin").time(2, 0),
            Entry::dir("usr/lib").time(3, 0),
            Entry::file("usr/bin/tool", "tool"),
            Entry::symlink("bin", "usr/bin"),
            Entry::symlink("lib", "/usr/lib"),
            Entry::symlink("loop", "bin"),
        ],
        &[
            Entry::file("bin/new", "new"),
            Entry::file("lib/new", "new"),
            Entry::file("loop/newer", "newer"),
            Entry::whiteout("bin", "tool"),
        ],
        &[Entry::hard_link("lib/linked", "bin/new"), Entry::file("usr/bin/direct", "x")],
    ]);
    let paths = tree.paths();
    for path in ["usr/bin/new", "usr/bin/newer", "usr/lib/new", "usr/lib/linked", "usr/bin/direct"] {
        assert!(paths.contains(&path.to_owned()), "no {path}: {paths:?}");
    }
    assert!(!paths.contains(&"usr/bin/tool".to_owned()));
    Ok(())
}

fn the_root_itself() -> Done {
    let odd = || Entry::dir(".").mode(0o1700).owner(3, 4).time(99, 5).xattr("user.note", "root");
    let (_t, tree) =
        check(&[&[odd(), Entry::file("a", "x"), odd()], &[Entry::file("b", "x")], &[Entry::file("c", "x")]]);
    assert_eq!((tree.at("").mode & 0o7777, tree.at("").owner, tree.at("").mtime), (0o1700, (3, 4), (99, 5)));
    Ok(())
}

fn files_that_come_twice() -> Done {
    let (_t, tree) = check(&[&[
        root(),
        Entry::file("a", "first"),
        Entry::file("a", "second").mode(0o600),
        Entry::symlink("b", "a"),
        Entry::file("b", "no link"),
        Entry::dir("c").time(1, 0),
        Entry::dir("c").mode(0o700).time(2, 0),
        root(),
    ]]);
    assert_eq!(tree.at("a").size, 6);
    Ok(())
}

fn a_hundred_and_twenty_eight_layers() -> Done {
    let layers: Vec<Vec<Entry>> = (0..128)
        .map(|n| {
            let mut layer =
                vec![Entry::file(format!("d/file-{n}"), format!("{n}")), Entry::file("d/last", format!("{n}"))];
            if n > 0 && n % 3 == 0 {
                layer.push(Entry::whiteout("d", &format!("file-{}", n - 1)));
            }
            layer.extend([Entry::dir("d").time(n, 0), root()]);
            layer
        })
        .collect();
    let layers: Vec<&[Entry]> = layers.iter().map(Vec::as_slice).collect();
    let (t, _) = check(&layers);
    // And a container can be made of them.
    let layout = Layout::new([super::busybox()].into_iter().chain(layers.iter().map(|it| Layer::of(it))));
    let layout = layout.with("Cmd", serde_json::json!(["cat", "/d/last"]));
    t.bundle_of(&layout, "run");
    assert_eq!(t.run("run").text(), "127");
    Ok(())
}

fn layers_by_chance() -> Done {
    for seed in 1..=150 {
        let layers = super::chance::layers(&mut Random::new(seed));
        // Said if it fails.
        let _seed = Seed(seed);
        check_but(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>(), links);
    }
    Ok(())
}

struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("  seed {}", self.0);
        }
    }
}
