//! What layers make: every kind of entry with its attributes, and how layers hide what is below them.

use crate::look::Tree;
use crate::make::{Entry, Tar, dir, entry, file, hard_link, symlink};
use crate::unpacked;

fn names(tree: &Tree) -> Vec<&str> {
    tree.keys().map(String::as_str).filter(|name| !name.is_empty()).collect()
}

#[test]
fn kinds_and_attributes() {
    let long = format!("d/{}/{}", "x".repeat(150), "y".repeat(200));
    let xattrs: Vec<(&str, &[u8])> = vec![
        ("mtime", b"1234567890.123456789"),
        ("SCHILY.xattr.user.it", b"value"),
        ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
    ];
    let tree = unpacked(&[&Tar::of(&[
        Entry { mode: 0o1777, owner: (5, 6), ..dir("./") },
        Entry { mtime: 7, ..dir("d") },
        Entry { mode: 0o4751, owner: (1000, 70_000), pax: xattrs, ..file("d/file", "content") },
        hard_link("d/hard", "/d/../d/file"),
        Entry { owner: (3, 4), pax: vec![("mtime", b"-1.5")], ..symlink("d/link", "/nowhere/../x") },
        Entry { mode: 0o600, owner: (1, 2), ..entry(b'6', "d/fifo") },
        Entry { device: (1, 3), mode: 0o666, ..entry(b'3', "d/null") },
        Entry { device: (7, 0), ..entry(b'4', "d/loop") },
        file(&long[..152], "not this"),
        dir(&long[..152]),
        file(&long, "long"),
        file("d/empty", ""),
        Entry { pax: vec![("path", b"d/\xff"), ("comment", b"x")], ..file("d/other", "name") },
        Entry { owner: (3_000_000, 9), mtime: 1 << 33, ..file("d/large", "") },
    ])]);
    assert_eq!((tree[""].mode, tree[""].owner), (0o1777, (5, 6)));
    assert_eq!(tree["d"].mtime, (7, 0));
    let it = &tree["d/file"];
    assert_eq!((it.kind, &*it.content, it.mode, it.owner), ("file", "content", 0o4751, (1000, 70_000)));
    assert_eq!(it.mtime, (1_234_567_890, 123_456_789));
    assert_eq!(it.xattrs["user.it"], "value");
    assert_eq!(it.xattrs["security.capability"].len(), 20);
    assert_eq!(tree["d/hard"].inode, it.inode);
    let link = &tree["d/link"];
    assert_eq!(
        (link.kind, &*link.content, link.owner, link.mtime),
        ("link", "/nowhere/../x", (3, 4), (-2, 500_000_000))
    );
    assert_eq!((tree["d/fifo"].kind, tree["d/fifo"].mode, tree["d/fifo"].owner), ("fifo", 0o600, (1, 2)));
    assert_eq!((tree["d/null"].kind, &*tree["d/null"].content, tree["d/null"].mode), ("char", "103", 0o666));
    assert_eq!((tree["d/loop"].kind, &*tree["d/loop"].content), ("block", "700"));
    assert_eq!(tree[&long].content, "long");
    assert_eq!(tree["d/empty"].content, "");
    assert_eq!(tree["d/\u{fffd}"].content, "name");
    assert_eq!((tree["d/large"].owner, tree["d/large"].mtime), ((3_000_000, 9), (1 << 33, 0)));
}

#[test]
fn a_global_header_and_what_others_add_change_nothing() {
    let mut tar = Tar::default();
    let global = b"30 mtime=1.5\n12 path=evil\n";
    tar.header(b'g', b"global", b"", &file("g", ""), global.len() as u64);
    tar.data(global);
    tar.add(&Entry { pax: vec![("LIBARCHIVE.xattr.user.x", b"eA"), ("SCHILY.dev", b"1")], ..file("a", "x") });
    let tree = unpacked(&[&tar.end()]);
    assert_eq!(names(&tree), ["a"]);
    assert_eq!(tree["a"].mtime, (1_600_000_000, 0));
    assert!(tree["a"].xattrs.is_empty());
}

#[test]
fn the_later_of_two_entries_wins() {
    let tree = unpacked(&[&Tar::of(&[
        file("a", "first"),
        file("a", "second"),
        dir("b"),
        file("b/x", ""),
        file("b", "in place of a directory"),
        file("c", ""),
        dir("c"),
        file("c/x", "in place of a file"),
        symlink("e", "a"),
        file("e", "in place of a link"),
        Entry { mode: 0o700, pax: vec![("SCHILY.xattr.user.x", b"1")], ..dir("f") },
        file("f/kept", ""),
        Entry { mode: 0o711, pax: vec![("SCHILY.xattr.user.y", b"2")], ..dir("f") },
        hard_link("a", "a"),
    ])]);
    assert_eq!(names(&tree), ["a", "b", "c", "c/x", "e", "f", "f/kept"]);
    assert_eq!((&*tree["a"].content, tree["b"].kind, tree["e"].kind), ("second", "file", "file"));
    assert_eq!(tree["f"].mode, 0o711);
    assert_eq!(tree["f"].xattrs.keys().collect::<Vec<_>>(), ["user.y"]);
}

#[test]
fn a_layer_hides_what_is_below() {
    let below = Tar::of(&[
        dir("d"),
        file("d/a", ""),
        file("d/b", ""),
        dir("d/e"),
        file("d/e/x", ""),
        dir("o"),
        file("o/a", ""),
        dir("o/s"),
        file("o/s/x", ""),
        dir("r"),
        file("r/x", ""),
        dir("f"),
        file("f/x", ""),
        file("g", ""),
    ]);
    let above = Tar::of(&[
        dir("d"),
        file("d/.wh.a", ""),
        file("d/.wh.e", ""),
        file("d/.wh.never", ""),
        dir("o"),
        file("o/new", ""),
        file("o/.wh..wh..opq", ""),
        // Hidden and made anew, in either order.
        file(".wh.r", ""),
        dir("r"),
        file("r/y", ""),
        dir("f"),
        file("f/y", ""),
        file(".wh.f", ""),
        file("g", "own"),
        file(".wh.g", ""),
    ]);
    let tree = unpacked(&[&below, &above]);
    assert_eq!(names(&tree), ["d", "d/b", "f", "f/y", "g", "o", "o/new", "r", "r/y"]);
    assert_eq!(tree["g"].content, "own");
}

#[test]
fn directories_that_replace_something_show_nothing_from_below() {
    let below = Tar::of(&[dir("a"), file("a/old", ""), dir("b"), file("b/old", ""), symlink("c", "a"), file("z", "")]);
    let above = Tar::of(&[
        file("a", ""),
        dir("a"),
        file(".wh.b", ""),
        file("b", ""),
        dir("b"),
        dir("c"),
        file("c/new", ""),
        dir("z"),
    ]);
    assert_eq!(names(&unpacked(&[&below, &above])), ["a", "b", "c", "c/new", "z"]);
}

#[test]
fn an_opaque_root_hides_all_layers_below() {
    let below = Tar::of(&[Entry { mode: 0o711, owner: (7, 7), ..dir(".") }, file("a", ""), dir("d"), file("d/x", "")]);
    let above = Tar::of(&[dir("d"), file("d/y", ""), file(".wh..wh..opq", ""), file(".wh.q", "")]);
    let tree = unpacked(&[&below, &above]);
    assert_eq!(names(&tree), ["d", "d/y"]);
    assert_eq!((tree[""].mode, tree[""].owner), (0o711, (7, 7)));
}

#[test]
fn marks_without_anything_to_hide_are_not_seen() {
    let bottom = Tar::of(&[dir("d"), file("d/.wh.a", ""), file("d/b", ""), file(".wh.c", "")]);
    assert_eq!(names(&unpacked(&[&bottom])), ["d", "d/b"]);
    let above = Tar::of(&[
        dir("n"),
        file("n/.wh.x", ""),
        file("n/y", ""),
        dir("d"),
        file("d/.wh..wh..opq", ""),
        file("d/.wh.b", ""),
    ]);
    assert_eq!(names(&unpacked(&[&bottom, &above])), ["d", "n", "n/y"]);
}

#[test]
fn layers_that_depend_on_those_below() {
    let below = Tar::of(&[
        Entry { mode: 0o700, owner: (9, 9), mtime: 77, ..dir("usr") },
        Entry { mode: 0o1777, mtime: 78, ..dir("usr/lib") },
        file("usr/lib/a", "old"),
        symlink("lib", "usr/lib"),
        symlink("dangling", "made/by/need"),
        dir("h"),
        file("h/x", ""),
        dir("h/own"),
        file("h/own/x", ""),
        file("o", ""),
    ]);
    // Through a link of the layer below, to a file of it, without the directories.
    let above = Tar::of(&[
        file("lib/b", "new"),
        hard_link("c", "usr/lib/a"),
        file("deep/er/x", ""),
        file("dangling/y", ""),
        file("h/own/y", ""),
        file(".wh.h", ""),
        file("usr/lib/.wh.a", ""),
        file("o/x", "below what was a file"),
    ]);
    let tree = unpacked(&[&below, &above]);
    let expected = [
        "c",
        "dangling",
        "deep",
        "deep/er",
        "deep/er/x",
        "h",
        "h/own",
        "h/own/y",
        "lib",
        "made",
        "made/by",
        "made/by/need",
        "made/by/need/y",
        "o",
        "o/x",
        "usr",
        "usr/lib",
        "usr/lib/b",
    ];
    assert_eq!(names(&tree), expected);
    assert_eq!((tree["usr"].mode, tree["usr"].owner, tree["usr"].mtime), (0o700, (9, 9), (77, 0)));
    assert_eq!((tree["usr/lib"].mode, tree["usr/lib"].mtime), (0o1777, (78, 0)));
    assert_eq!((&*tree["usr/lib/b"].content, &*tree["c"].content), ("new", "old"));
    assert_eq!((tree["deep/er"].mode, tree["deep/er"].owner), (0o755, (0, 0)));
}

#[test]
fn a_layer_more_than_once() {
    let (one, two) =
        (Tar::of(&[dir("d"), file("d/a", "1")]), Tar::of(&[dir("d"), file("d/.wh.a", ""), file("d/b", "2")]));
    let empty = Tar::default().end();
    let tree = unpacked(&[&empty, &one, &empty, &two, &one, &empty]);
    assert_eq!(names(&tree), ["d", "d/a", "d/b"]);
    assert!(unpacked(&[&empty]).len() == 1);
    assert_eq!(names(&unpacked(&[&one, &two, &one, &two])), ["d", "d/b"]);
}

#[test]
fn sparse_files_in_all_their_forms() {
    let piece = |offset: u64, length: u64| format!("{offset},{length}");
    let data = "x".repeat(512) + &"y".repeat(10);
    let map = format!("{},{}", piece(0, 512), piece(5000, 10));
    let size: &[u8] = b"6000";
    let old = [("GNU.sparse.size", size), ("GNU.sparse.name", b"s/01" as &[u8]), ("GNU.sparse.map", map.as_bytes())];
    let oldest: Vec<(&str, &[u8])> = vec![
        ("GNU.sparse.size", size),
        ("GNU.sparse.numblocks", b"2"),
        ("GNU.sparse.offset", b"0"),
        ("GNU.sparse.numbytes", b"512"),
        ("GNU.sparse.offset", b"5000"),
        ("GNU.sparse.numbytes", b"10"),
    ];
    let mut in_data = b"2\n0\n512\n5000\n10\n".to_vec();
    in_data.resize(512, 0);
    in_data.extend(data.as_bytes());
    let newest: Vec<(&str, &[u8])> = vec![
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"s/10"),
        ("GNU.sparse.realsize", size),
    ];
    let mut tar = Tar::default();
    tar.add(&dir("s"));
    tar.add(&Entry { pax: old.to_vec(), ..file("s/GNUSparseFile.1/01", &data) });
    tar.add(&Entry { pax: oldest, ..file("s/00", &data) });
    tar.add(&Entry { pax: newest, data: &in_data, ..file("s/GNUSparseFile.2/10", "") });
    let mut header = tar::Header::new_gnu();
    header.set_path("s/gnu").unwrap();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_size(522);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1);
    let gnu = header.as_gnu_mut().unwrap();
    gnu.set_real_size(6000);
    gnu.sparse[0].set_offset(0);
    gnu.sparse[0].set_length(512);
    gnu.set_is_extended(true);
    header.set_cksum();
    tar.0.extend(header.as_bytes());
    let mut more = tar::GnuExtSparseHeader::new();
    more.sparse_mut()[0].set_offset(5000);
    more.sparse_mut()[0].set_length(10);
    tar.0.extend(more.as_bytes());
    tar.data(data.as_bytes());
    let tree = unpacked(&[&tar.end()]);
    assert_eq!(names(&tree), ["s", "s/00", "s/01", "s/10", "s/gnu"]);
    let whole = "x".repeat(512) + &"\0".repeat(4488) + &"y".repeat(10) + &"\0".repeat(990);
    for name in ["s/00", "s/01", "s/10", "s/gnu"] {
        assert_eq!(tree[name].content, whole, "{name}");
    }
}
