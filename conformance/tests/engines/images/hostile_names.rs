//! Names that lead out of a layer: by themselves, by links, by what hides other names.

use conformance::tarball::Entry;
use conformance::test::Done;

use super::hostile::{Want, Watch};

use Want::{Contained, Either, Refused};

crate::cases! {
    hostile_names,
    hostile_symlinks,
    hostile_hard_links,
    hostile_whiteouts,
    hostile_entries_come_twice,
}

fn hostile_names() -> Done {
    let mut watch = Watch::begin();
    for (name, want) in [
        ("/canary/new", Contained),
        ("//canary//file", Contained),
        ("../canary/file", Either),
        ("../../../../../../../../canary/file", Either),
        ("a/../../../canary/file", Either),
        ("./../canary/file", Either),
        ("..", Either),
        ("a/..", Either),
        ("/", Either),
        ("", Either),
        (".", Either),
        ("a//./b/.", Either),
    ] {
        for entry in [Entry::file(name, "lie"), Entry::symlink(name, "/canary"), Entry::dir(name), Entry::fifo(name)] {
            let want = if matches!(name, "/canary/new" | "//canary//file") { want } else { Either };
            watch.tries_layers(&format!("{name:?}: {entry:?}"), &[std::slice::from_ref(&entry)], want);
            watch.tries_layers(&format!("{name:?} twice"), &[&[Entry::file("x", "")], &[entry]], want);
        }
    }
    for name in ["with\nnewline", "with\ttab", "with\x1b[31mcolour", "\r"] {
        watch.tries_layers(name, &[&[Entry::file(name, "x")]], Contained);
        watch.tries_layers(name, &[&[Entry::hard_link(name, "no/such")]], Refused);
    }
    for (what, entry) in [
        ("a NUL in a record", Entry::file("x", "").record("path", "a\0b")),
        ("a NUL in a link", Entry::symlink("x", "").record("linkpath", "a\0b")),
        ("an empty record", Entry::file("x", "").record("path", "")),
        ("a part that is too long", Entry::file("n".repeat(256), "x")),
        ("a path that is too long", Entry::file("d/".repeat(3000) + "x", "x")),
        ("a link that is too long", Entry::symlink("x", "d/".repeat(3000))),
        ("a deep path", Entry::dir("d/".repeat(2000) + "x")),
        ("a path of a megabyte", Entry::file("d/".repeat(500_000) + "x", "x").gnu()),
    ] {
        watch.tries_layers(what, &[&[entry]], Either);
    }
    watch.end()
}

fn hostile_symlinks() -> Done {
    let mut watch = Watch::begin();
    for target in
        ["/canary", "../../../../../../../canary", "/", "..", ".", "self", "/proc/self/root/canary", "/proc/1/cwd"]
    {
        let link = || Entry::symlink("self", target);
        let through = [
            Entry::file("self/file", "lie"),
            Entry::dir("self/dir").mode(0o777),
            Entry::file("self/../canary/file", "lie"),
            Entry::symlink("self/link", "x"),
            Entry::hard_link("self/hard", "self/file"),
            Entry::hard_link("hard", "self/file"),
            Entry::hard_link("hard", "self"),
            Entry::whiteout("self", "file"),
            Entry::opaque("self"),
            Entry::dir("self").mode(0o777),
            Entry::file("self", "a file now"),
            Entry::file("self/file", "").xattr("user.lie", "x"),
        ];
        for entry in through {
            let what = format!("through {target}: {entry:?}");
            watch.tries_layers(&what, &[&[link(), entry.clone()]], Either);
            watch.tries_layers(&format!("{what}, a layer above"), &[&[link()], std::slice::from_ref(&entry)], Either);
            watch.tries_layers(
                &format!("{what}, from below"),
                &[&[Entry::dir("self"), Entry::file("self/file", "")], &[link(), entry]],
                Either,
            );
        }
    }
    // A link in the place of a directory that has been opened.
    watch.tries_layers(
        "a directory becomes a link",
        &[&[Entry::dir("d"), Entry::file("d/a", ""), Entry::symlink("d", "/canary"), Entry::file("d/b", "lie")]],
        Either,
    );
    watch.tries_layers(
        "a parent becomes a link",
        &[&[
            Entry::file("p/d/a", ""),
            Entry::symlink("p", "/canary"),
            Entry::file("p/dir/b", "lie"),
            Entry::file("p/d/a", "lie"),
        ]],
        Either,
    );
    watch.tries_layers(
        "links in a circle",
        &[&[Entry::symlink("a", "b"), Entry::symlink("b", "a"), Entry::file("a/x", "")]],
        Either,
    );
    let chain: Vec<Entry> = (0..60)
        .map(|n| Entry::symlink(format!("l{n}"), format!("l{}", n + 1)))
        .chain([Entry::file("l0/x", "")])
        .collect();
    watch.tries_layers("a long chain of links", &[&chain], Either);
    watch.end()
}

fn hostile_hard_links() -> Done {
    let mut watch = Watch::begin();
    for target in [
        "/etc/shadow",
        "/canary/file",
        "../../../../../../canary/file",
        "../..",
        "..",
        ".",
        "/",
        "",
        "no/such",
        "./",
        "x/../../canary/file",
    ] {
        let link = || Entry::hard_link("link", target);
        watch.tries_layers(&format!("to {target:?}"), &[&[link()]], Refused);
        watch.tries_layers(
            &format!("to {target:?} and written"),
            &[&[link(), Entry::file("link", "lie").mode(0o777)]],
            Either,
        );
        watch.tries_layers(&format!("to {target:?} above"), &[&[Entry::file("x", "")], &[link()]], Refused);
    }
    watch.tries_layers("to itself", &[&[Entry::hard_link("a", "a")]], Refused);
    watch.tries_layers("to itself, which is there", &[&[Entry::file("a", "x"), Entry::hard_link("a", "a")]], Either);
    watch.tries_layers("to a directory", &[&[Entry::dir("d"), Entry::hard_link("a", "d")]], Refused);
    watch.tries_layers("to what comes later", &[&[Entry::hard_link("a", "b"), Entry::file("b", "")]], Refused);
    watch.tries_layers(
        "through a link",
        &[&[Entry::symlink("s", "/canary"), Entry::hard_link("a", "s/file")]],
        Refused,
    );
    watch.tries_layers(
        "to a whiteout",
        &[&[Entry::file("a", "")], &[Entry::whiteout("", "a"), Entry::hard_link("b", "a")]],
        Either,
    );
    watch.tries_layers("named as a whiteout", &[&[Entry::file("a", "x"), Entry::hard_link(".wh.b", "a")]], Either);
    let file = Entry::file("a", "x");
    watch.tries_layers(
        "to a link to outside",
        &[&[Entry::symlink("s", "/canary/file"), Entry::hard_link("a", "s"), Entry::file("a", "lie")]],
        Either,
    );
    watch.tries_layers("with a content", &[&[file, Entry::hard_link("b", "a").data("more")]], Either);
    watch.end()
}

fn hostile_whiteouts() -> Done {
    let mut watch = Watch::begin();
    for name in [
        ".wh.",
        ".wh..",
        ".wh...",
        "a/.wh.",
        "a/.wh..",
        "a/.wh...",
        "../.wh.canary",
        "/.wh.canary",
        ".wh.a/b",
        ".wh..wh.plnk",
        ".wh..wh.aufs",
        ".wh..wh.orph",
        ".wh..wh.plnk/1.2",
        ".wh..wh.",
        ".wh..wh..",
        ".wh..wh...opq",
        ".wh..wh..opq/x",
        ".wh..wh..opq",
        "a/.wh..wh..opq",
        "no/such/.wh..wh..opq",
        "no/such/.wh.x",
        "file/.wh.x",
        "file/.wh..wh..opq",
        ".wh..wh..wh.x",
    ] {
        for entry in [
            Entry::file(name, ""),
            Entry::file(name, "content"),
            Entry::dir(name),
            Entry::symlink(name, "/canary"),
            Entry::hard_link(name, "file"),
        ] {
            let below = [Entry::dir("a"), Entry::file("a/x", ""), Entry::file("file", "")];
            watch.tries_layers(&format!("{entry:?}"), &[&below, std::slice::from_ref(&entry)], Either);
            watch.tries_layers(&format!("{entry:?} alone"), &[&[&below[..], &[entry]].concat()], Either);
        }
    }
    // What overlayfs itself takes for a whiteout is a device of an image like any other.
    watch.tries_layers(
        "a whiteout of overlayfs",
        &[&[Entry::file("file", "")], &[Entry::device("file", 0, 0)]],
        Either,
    );
    watch.end()
}

fn hostile_entries_come_twice() -> Done {
    let mut watch = Watch::begin();
    let kinds: Vec<fn() -> Entry> = vec![
        || Entry::file("x", "file"),
        || Entry::dir("x"),
        || Entry::symlink("x", "/canary"),
        || Entry::fifo("x"),
        || Entry::device("x", 1, 3),
        || Entry::hard_link("x", "other"),
        || Entry::whiteout("", "x"),
    ];
    for first in &kinds {
        for second in &kinds {
            let entries = [Entry::file("other", "o"), first(), second(), Entry::file("x/below", "lie")];
            let what = format!("{:?}, then {:?}", entries[1], entries[2]);
            watch.tries_layers(&what, &[&entries[..3]], Contained);
            watch.tries_layers(&format!("{what}, then below"), &[&entries], Either);
        }
    }
    watch.end()
}
