//! Layers and images that mean ill: nothing leaves the root, nothing forges overlay's marks, and what is refused is
//! refused with one line and leaves nothing.

use crate::make::{Entry, OCI, Packed, Scratch, Tar, dir, entry, file, hard_link, image, pack, packed_image, symlink};
use crate::{import, import_with, refused, refused_image, unpacked};
use rootfs::image::{Digest, Platform};
use rootfs::store::{Limits, Silent, Store};
use serde_json::json;
use std::fs;

#[test]
fn names_stay_in_the_root() {
    let outside = Scratch::new();
    fs::write(outside.join("file"), "untouched").unwrap();
    let path = outside.0.to_str().unwrap();
    let up = "../".repeat(20);
    let (climbing, absolute) = (format!("{up}{path}/climbed"), format!("{path}/absolute"));
    let through = format!("{up}{path}");
    let tree = unpacked(&[&Tar::of(&[
        dir("d"),
        file(&climbing, "x"),
        file(&absolute, "x"),
        file("d/../../../e", "x"),
        symlink("out", path),
        file("out/planted", "x"),
        symlink("d/up", &through),
        file("d/up/planted2", "x"),
        file("d/up/file", "overwritten"),
        file("out/.wh.file", ""),
        symlink("root", "/"),
        file("root/in", "x"),
        symlink("l1", "l2"),
        symlink("inside", "/proc/self/root"),
        file("inside/p", "x"),
    ])]);
    assert_eq!(tree["e"].content, "x");
    assert_eq!(tree["in"].content, "x");
    let inside = &path[1..];
    for name in ["climbed", "absolute", "planted", "planted2"] {
        assert_eq!(tree[&format!("{inside}/{name}")].content, "x", "{name}");
    }
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "untouched");
    assert_eq!(fs::read_dir(&outside.0).unwrap().count(), 1);
}

#[test]
fn hard_links_stay_in_the_root() {
    for target in ["/etc/passwd", "../../../../etc/passwd", "out/passwd", "missing", ".wh.x", "d"] {
        let why =
            refused(&[&Tar::of(&[dir("d"), symlink("out", "/etc"), file(".wh.x", ""), hard_link("d/x", target)])]);
        assert!(why.contains("hard link") && why.contains("d/x"), "{target}: {why}");
    }
    // To a link, not to what it leads to.
    let tree = unpacked(&[&Tar::of(&[symlink("l", "/etc/passwd"), hard_link("m", "l"), file("m", "x")])]);
    assert_eq!((tree["l"].kind, &*tree["m"].content), ("link", "x"));
}

#[test]
fn overlays_marks_are_not_forged() {
    let xattrs: Vec<(&str, &[u8])> = vec![
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.metacopy", b""),
        ("SCHILY.xattr.user.fine", b"x"),
    ];
    let below = Tar::of(&[dir("d"), file("d/a", ""), file("z", "kept")]);
    let device = Entry { device: (0, 0), ..entry(b'3', "z") };
    let tree = unpacked(&[
        &below,
        &Tar::of(&[
            Entry { pax: xattrs.clone(), ..dir("d") },
            device.clone(),
            Entry { pax: xattrs, ..file("d/f", "") },
        ]),
    ]);
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["", "d", "d/a", "d/f", "z"]);
    assert_eq!(tree["z"].content, "kept");
    for name in ["d", "d/f"] {
        assert_eq!(
            tree[name].xattrs.keys().filter(|name| !name.contains("overlay")).collect::<Vec<_>>(),
            ["user.fine"]
        );
    }
    // The same where the layer is applied to those below.
    let tree = unpacked(&[&below, &Tar::of(&[file("implied/x", ""), device])]);
    assert_eq!(tree["z"].content, "kept");
}

#[test]
fn whiteouts_of_no_name() {
    for name in [".wh.", "d/.wh.", ".wh..", "d/.wh...", ".wh.a/b"] {
        assert!(refused(&[&Tar::of(&[dir("d"), file(name, "")])]).contains("whiteout"), "{name}");
    }
    let tree = unpacked(&[
        &Tar::of(&[file("a", "")]),
        &Tar::of(&[file(".wh..wh.plnk", ""), dir(".wh..wh.orph"), file(".wh..wh.orph/x", "")]),
    ]);
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["", "a"]);
    // The root cannot be hidden, nor what is above it.
    let tree = unpacked(&[&Tar::of(&[file("a", "")]), &Tar::of(&[file("../.wh.a", ""), file("/.wh.b", "")])]);
    assert_eq!(tree.keys().collect::<Vec<_>>(), [""]);
}

#[test]
fn what_is_in_the_root_s_place() {
    for it in [symlink("./", "/etc"), file(".", "x"), symlink("d/..", "/etc")] {
        let why = refused(&[&Tar::of(&[it])]);
        assert!(why.contains("the root is no directory"), "{why}");
    }
}

#[test]
fn archives_that_are_wrong() {
    let good = Tar::of(&[dir("d"), file("d/a", &"x".repeat(5000))]);
    let cut = |length: usize| Tar(good.0[..length].to_vec());
    for length in [100, 700, 1024 + 100, 1536, 3000, 1536 + 5000] {
        let why = refused(&[&cut(length)]);
        assert!(why.contains("truncated"), "{length}: {why}");
    }
    let with = |tail: &[u8]| Tar([&good.0[..], tail].concat());
    assert!(refused(&[&with(b"garbage")]).contains("follows the end"));
    unpacked(&[&with(&[0; 4096])]);
    assert!(refused(&[&Tar(b"no tar archive at all".repeat(100))]).contains("checksum"));
    let mut changed = good.clone();
    changed.0[0] ^= 1;
    assert!(refused(&[&changed]).contains("checksum"));
    assert!(refused(&[&Tar::of(&[entry(b'V', "volume")])]).contains("type 'V'"));
    let path = "p/".repeat(3000);
    assert!(refused(&[&Tar::of(&[dir(&path)])]).contains("512 directories deep"));
    assert!(refused(&[&Tar::of(&[file(&"n".repeat(300), "")])]).contains("too long"));
}

#[test]
fn headers_that_are_wrong() {
    let pax = |records: &[u8]| {
        let mut tar = Tar::default();
        tar.header(b'x', b"pax", b"", &file("x", ""), records.len() as u64);
        tar.data(records);
        tar.add(&file("a", ""));
        refused(&[&tar.end()])
    };
    for records in
        [&b"garbage"[..], b"99 path=a\n", b"9 path=a\n\n", b"0 a=b\n", b"99999999999999999999 a=b\n", b"5 =b\n"]
    {
        assert!(pax(records).contains("malformed"), "{records:?}");
    }
    for records in [&b"10 size=x\n"[..], b"12 mtime=1x\n", b"11 uid=-1\n", b"14 path=a\0bcd\n"] {
        pax(records);
    }
    for map in ["0,1,0,1", "5,1,0,1", "0,9999999", "0", "18446744073709551615,1"] {
        let records: Vec<(&str, &[u8])> = vec![("GNU.sparse.size", b"100"), ("GNU.sparse.map", map.as_bytes())];
        assert!(refused(&[&Tar::of(&[Entry { pax: records, ..file("a", "xx") }])]).contains("sparse"), "{map}");
    }
    let records: Vec<(&str, &[u8])> = vec![("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9")];
    refused(&[&Tar::of(&[Entry { pax: records, data: &[b'1'; 2048], ..file("a", "") }])]);
    // Sizes that nobody can mean.
    for (kind, size) in [(b'x', 1 << 40), (b'L', 1 << 30), (b'0', 1 << 62), (b'0', u64::MAX), (b'x', (1 << 20) + 1)] {
        let mut tar = Tar::default();
        tar.header(kind, b"a", b"", &file("a", ""), size);
        tar.0.resize(4096, 0);
        refused(&[&tar]);
    }
    let mut lonely = Tar::default();
    lonely.header(b'L', b"a", b"", &file("a", ""), 2);
    lonely.data(b"b\0");
    assert!(refused(&[&lonely.end()]).contains("truncated"));
    for owner in [(u64::from(u32::MAX), 0), (0, u64::from(u32::MAX))] {
        for it in [file("a", ""), dir("."), dir("a/..")] {
            assert!(refused(&[&Tar::of(&[Entry { owner, ..it }])]).contains("owner"));
        }
    }
}

#[test]
fn bombs() {
    let scratch = Scratch::new();
    let zeros = "\0".repeat(1 << 20);
    let big = Tar::of(&(0..30).map(|_| file("a", &zeros)).collect::<Vec<_>>());
    image(&scratch.join("bytes"), &[&big]);
    let limits = Limits { bytes: 20 << 20, ..Limits::default() };
    let why = refused_image(&scratch.join("store"), &scratch.join("bytes"), &limits);
    assert!(why.contains("more than 20971520 bytes"), "{why}");
    let many = Tar::of(&(0..1000).map(|_| dir("d")).collect::<Vec<_>>());
    image(&scratch.join("entries"), &[&many]);
    let limits = Limits { entries: 999, ..Limits::default() };
    let why = refused_image(&scratch.join("store"), &scratch.join("entries"), &limits);
    assert!(why.contains("more than 999 entries"), "{why}");
    // A link has overlay copy what it is to.
    let large = "\x01".repeat(8 << 20);
    let below = Tar::of(&[file("a", &large)]);
    let above = Tar::of(&[hard_link("b", "a"), hard_link("c", "a"), hard_link("d", "b")]);
    image(&scratch.join("links"), &[&below, &above]);
    let limits = |mebibytes: u64| Limits { bytes: mebibytes << 20, ..Limits::default() };
    let why = refused_image(&scratch.join("store"), &scratch.join("links"), &limits(16));
    assert!(why.contains("more than 16777216 bytes"), "{why}");
    let stored = import_with(&scratch.join("store"), &scratch.join("links"), &limits(17), &Silent).map(drop);
    let size = Store::open(&scratch.join("store")).unwrap().images().unwrap()[0].size;
    assert!(stored.is_ok() && (16 << 20..17 << 20).contains(&size), "{stored:?} {size}");
    // As deep as an entry may lie, and deeper by a link; it has to be removable too.
    let deep = "d/".repeat(500);
    let mut entries: Vec<Entry<'_>> = (1..=500).map(|depth| dir(&deep[..2 * depth])).collect();
    entries.push(symlink("l", &deep));
    let deeper: Vec<String> = (1..=500).map(|depth| format!("l/{}", "e/".repeat(depth))).collect();
    entries.extend(deeper.iter().map(|name| dir(name)));
    entries.push(file(".wh.", ""));
    assert!(refused(&[&Tar::of(&entries)]).contains("whiteout"));
}

#[test]
fn blobs_that_are_not_what_they_should_be() {
    let tar = Tar::of(&[dir("d"), file("d/a", "content")]);
    for packed in [Packed::Plain, Packed::Gzip, Packed::Zstd] {
        let blob = Digest::of(&pack(&tar.0, packed));
        let spoil = |change: &dyn Fn(&mut Vec<u8>)| {
            let scratch = Scratch::new();
            let layout = packed_image(&scratch.join("image"), &[&tar], packed);
            let path = layout.path.join("blobs/sha256").join(blob.hex());
            let mut content = fs::read(&path).unwrap();
            change(&mut content);
            fs::write(&path, content).unwrap();
            refused_image(&scratch.join("store"), &layout.path, &Limits::default())
        };
        let length = pack(&tar.0, packed).len();
        for at in [length / 2, length - 5, 12] {
            let why = spoil(&|content| content[at] ^= 0x55);
            // Of a plain archive the header may be found first.
            assert!(why.contains("digest") || why.contains("header"), "{at}: {why}");
        }
        assert!(spoil(&|content| content.truncate(length / 2)).contains("bytes in place of"));
        assert!(spoil(&|content| content.extend([0; 10])).contains("bytes in place of"));
    }
}

#[test]
fn layers_whose_digests_are_right_and_whose_content_is_not() {
    let tar = Tar::of(&[file("a", "content")]);
    let host = Platform::host();
    let build = |blob: &[u8], diff_id: String| {
        let scratch = Scratch::new();
        let mut layout = image(&scratch.join("image"), &[]);
        let layer = layout.blob(blob, &format!("{OCI}.layer.v1.tar+gzip"));
        let config = json!({"os": host.os, "architecture": host.architecture, "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
        let manifest = layout.manifest_of(config, &[layer]);
        layout.manifests.clear();
        layout.add(manifest, None);
        refused_image(&scratch.join("store"), &layout.path, &Limits::default())
    };
    let id = Digest::of(&tar.0).to_string();
    let gzip = pack(&tar.0, Packed::Gzip);
    assert!(build(&gzip, Digest::of(b"another").to_string()).contains("uncompressed content has digest"));
    assert!(build(&[&gzip[..], b"trailing"].concat(), id.clone()).contains("compressed data"));
    assert!(build(&gzip[..gzip.len() - 9], id.clone()).contains("compressed data"));
    assert!(build(&pack(&tar.0, Packed::Zstd)[..20], id.clone()).contains("compressed data"));
    assert!(build(b"", id.clone()).contains("digest"));
    assert!(build(&gzip, "md5:abc".into()).contains("is not a digest"));
    assert!(build(&gzip, "sha256:../../../../etc".into()).contains("is not a digest"));
}

#[test]
fn one_bad_layer_of_many_leaves_nothing() {
    let good: Vec<Tar> = (0..6).map(|number| Tar::of(&[file(&format!("f{number}"), &"x".repeat(100_000))])).collect();
    let bad = Tar(good[0].0[..2000].to_vec());
    let mut layers: Vec<&Tar> = good.iter().collect();
    layers.insert(3, &bad);
    assert!(refused(&layers).contains("truncated"));
}

#[test]
fn files_of_a_layout_that_are_none() {
    let scratch = Scratch::new();
    let tar = Tar::of(&[file("a", "")]);
    let layout = packed_image(&scratch.join("image"), &[&tar], Packed::Plain);
    let blob = layout.path.join("blobs/sha256").join(Digest::of(&tar.0).hex());
    fs::remove_file(&blob).unwrap();
    // A fifo would wait for ever.
    rustix::fs::mknodat(rustix::fs::CWD, &blob, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let why = import(&scratch.join("store"), &layout.path).unwrap_err().to_string();
    assert!(why.contains("no regular file"), "{why}");
    fs::remove_file(&blob).unwrap();
    let why = import(&scratch.join("store"), &layout.path).unwrap_err().to_string();
    assert!(why.contains("is not in the image"), "{why}");
}
