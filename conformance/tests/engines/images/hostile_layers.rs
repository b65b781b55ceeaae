//! Layers that lie: attributes, headers, devices, what unpacks to more than a disk holds, streams that are cut or wrong.

use conformance::layout::{self, Layer, Layout};
use conformance::tarball::{Entry, open_tar, tar};
use conformance::test::Done;

use super::hostile::{Want, Watch};

crate::cases! {
    hostile_attributes,
    hostile_headers,
    hostile_devices,
    hostile_sizes,
    hostile_numbers_of_entries,
    hostile_compression,
    hostile_truncation,
    hostile_digests,
}

use Want::{Contained, Either, Refused};

fn hostile_attributes() -> Done {
    let mut watch = Watch::begin();
    for prefix in ["trusted", "user"] {
        for (name, value) in [
            ("opaque", "y"),
            ("opaque", "x"),
            ("redirect", "/canary"),
            ("redirect", "../../canary"),
            ("metacopy", ""),
            ("origin", "x"),
            ("whiteout", "y"),
            ("overlay.opaque", "y"),
            ("impure", "y"),
            ("nlink", "U+1"),
            ("protattr", "x"),
            ("uuid", "0123456789abcdef"),
            ("upper", "x"),
        ] {
            let name = format!("{prefix}.overlay.{name}");
            let layers = [
                vec![Entry::dir("d"), Entry::file("d/kept", "kept"), Entry::file("f", "kept")],
                vec![
                    Entry::dir("d").xattr(&name, value),
                    Entry::file("f", "new").xattr(&name, value),
                    Entry::file("g", "").xattr(&name, value),
                ],
                vec![Entry::dir(".").xattr(&name, value)],
            ];
            let layers: Vec<&[Entry]> = layers.iter().map(Vec::as_slice).collect();
            watch.tries_layers(&name, &layers, Either);
            let t = &watch.t;
            let layout = Layout::new(layers.iter().map(|it| Layer::of(it)));
            let image = t.write(&layout.files(), "image");
            if t.create(&image, &[], "overlaid").run().success() {
                let tree = super::merged(&t.path("overlaid"));
                assert_eq!(tree.at("d/kept").size, 4, "{name}: hides what is below");
                assert_eq!(tree.at("f").size, 3, "{name}: another file");
                t.proa(&["bundle", "rm", &t.text("overlaid")]).run().ok();
            }
            std::fs::remove_dir_all(image).expect("cannot remove");
        }
    }
    for (name, value) in [
        ("", "x"),
        ("noprefix", "x"),
        ("user.", "x"),
        ("security.capability", "junk"),
        ("security.selinux", "junk"),
        ("security.evm", "x"),
        ("system.posix_acl_access", "junk"),
        ("system.posix_acl_default", ""),
        ("user.a\0b", "x"),
        ("user.\u{1b}[31m", "x"),
    ] {
        watch.tries_layers(&format!("{name:?}"), &[&[Entry::file("f", "").xattr(name, value)]], Either);
    }
    watch.tries_layers("a large one", &[&[Entry::file("f", "").xattr("user.large", vec![b'x'; 1 << 20])]], Either);
    watch.tries_layers(
        "a long name",
        &[&[Entry::file("f", "").xattr(&format!("user.{}", "n".repeat(5000)), "x")]],
        Either,
    );
    watch.end()
}

fn hostile_headers() -> Done {
    let mut watch = Watch::begin();
    let files = |tar: Vec<u8>| Layout::new([Layer::plain(tar)]).files();
    for (key, value) in [
        ("size", "99999999999999999999"),
        ("size", "-1"),
        ("size", "1e3"),
        ("uid", "-1"),
        ("uid", "4294967295"),
        ("gid", "99999999999"),
        ("mtime", "nan"),
        ("mtime", "9e99"),
        ("mtime", "-99999999999999999999"),
        ("mtime", "1.-5"),
        ("GNU.sparse.major", "9"),
        ("GNU.sparse.realsize", "99999999999999"),
        ("GNU.sparse.map", "0,5,1,1"),
        ("GNU.sparse.map", "9223372036854775807,9223372036854775807"),
        ("GNU.sparse.name", "../../../../canary/file"),
        ("comment", "x"),
        ("hdrcharset", "BINARY"),
        ("linkpath", "/canary"),
    ] {
        let entry = Entry::file("x", "content").record(key, value);
        watch.tries_files(&format!("{key}={value}"), &files(tar(&[entry])), Either);
    }
    watch.tries_files("an odd kind", &files(tar(&[Entry::new(b'Z', "x").data("y")])), Either);
    watch.tries_files(
        "a global header",
        &files(tar(&[Entry::new(b'g', "x").data("9 path=x\n"), Entry::file("a", "")])),
        Either,
    );
    watch.tries_files(
        "records that are none",
        &files(tar(&[Entry::new(b'x', "x").data("no records"), Entry::file("a", "")])),
        Refused,
    );
    for data in ["0 =\n", "5 a=\n", "99 a=b\n", "3 a", "18446744073709551616 a=b\n", "-5 a=b\n", "6 =ab\n"] {
        watch.tries_files(data, &files(tar(&[Entry::new(b'x', "x").data(data), Entry::file("a", "")])), Either);
    }
    watch.tries_files("records to the end", &files(tar(&[Entry::new(b'x', "x").data("9 path=x\n")])), Either);
    watch.tries_files("a long name to the end", &files(tar(&[Entry::new(b'L', "x").data("long\0")])), Either);
    watch.tries_files(
        "a long name of a gigabyte",
        &files(open_tar(&[Entry::new(b'L', "x").data("long").size(1 << 30)])),
        Refused,
    );
    watch.tries_files(
        "records of a gigabyte",
        &files(open_tar(&[Entry::new(b'x', "x").data("9 path=x\n").size(1 << 30)])),
        Refused,
    );
    watch.tries_files("a size beyond the end", &files(tar(&[Entry::file("x", "short").size(1 << 40)])), Refused);
    watch.tries_files(
        "a size near the limit of numbers",
        &files(tar(&[Entry::file("x", "short").size(u64::MAX >> 1)])),
        Refused,
    );
    let mut broken = tar(&[Entry::file("a", "x"), Entry::file("b", "y")]);
    broken[1024] ^= 1;
    watch.tries_files("a wrong checksum", &files(broken), Refused);
    watch.tries_files("no tar", &files(vec![b'x'; 10_000]), Refused);
    watch.tries_files("nothing", &files(Vec::new()), Either);
    watch.tries_files("a tar without an end", &files(open_tar(&[Entry::file("a", "x")])), Either);
    watch.tries_files(
        "something behind the end",
        &files([tar(&[Entry::file("a", "x")]), vec![b'x'; 5000]].concat()),
        Either,
    );
    watch.end()
}

fn hostile_devices() -> Done {
    let mut watch = Watch::begin();
    watch.tries_layers("a disk", &[&[Entry::block_device("disk", 254, 0).mode(0o666)]], Contained);
    watch.tries_layers("large numbers", &[&[Entry::device("x", 4095, 1_048_575)]], Contained);
    watch.tries_layers("larger numbers", &[&[Entry::device("x", 1 << 20, u32::MAX)]], Either);
    // The tree of a bundle is open to nobody but root, and a container without the device's rule cannot use it.
    let t = &watch.t;
    let layout = Layout::new([super::busybox(), Layer::of(&[Entry::block_device("disk", 254, 0).mode(0o666)])]);
    let layout = layout.with("Cmd", serde_json::json!(["sh", "-c", "cat /disk 2>&1 | head -c 100"]));
    t.bundle_of(&layout, "disk");
    assert!(t.run("disk").text().contains("Operation not permitted"));
    watch.end()
}

fn hostile_sizes() -> Done {
    let mut watch = Watch::begin();
    let zeros = vec![0u8; 64 << 20];
    let bomb = tar(&[Entry::file("zeros", &zeros)]);
    drop(zeros);
    for (what, layer) in [("gzip", Layer::plain(bomb.clone()).gzip()), ("zstd", Layer::plain(bomb).zstd())] {
        let files = Layout::new([layer]).files();
        let image = watch.t.write(&files, what);
        watch.tries(what, &image, &["--max-size", "16M"], Refused);
        watch.tries(what, &image, &["--max-size", "80M"], Contained);
    }
    // It is the whole image that counts, and what is said of a hole.
    let part = |name: &str| Layer::of(&[Entry::file(name, vec![1; 3 << 20])]);
    let image = watch.t.write(&Layout::new((0..8).map(|n| part(&format!("f{n}")))).files(), "parts");
    watch.tries("eight layers", &image, &["--max-size", "16M"], Refused);
    watch.tries("eight layers that fit", &image, &["--max-size", "32M"], Contained);
    let hole = Entry::new(b'0', "PaxHeaders/GNUSparseFile.0/x").data("0\n".to_owned() + &"\0".repeat(510));
    let hole = hole.record("GNU.sparse.major", "1").record("GNU.sparse.minor", "0").record("GNU.sparse.name", "hole");
    let hole = hole.record("GNU.sparse.realsize", (1u64 << 50).to_string());
    let image = watch.t.write(&Layout::new([Layer::of(&[hole])]).files(), "hole");
    watch.tries("a hole of a petabyte", &image, &["--max-size", "16M"], Either);
    watch.end()
}

fn hostile_numbers_of_entries() -> Done {
    let mut watch = Watch::begin();
    let many: Vec<Entry> = (0..20_000).map(|n| Entry::file(format!("d/{n}"), "")).collect();
    watch.tries_layers("many files", &[&many], Contained);
    let many: Vec<Entry> = (0..20_000).map(|_| Entry::file("same", "x")).collect();
    watch.tries_layers("one file many times", &[&many], Contained);
    let mut records = Entry::file("x", "");
    for n in 0..20_000 {
        records = records.record(format!("comment{n}"), "x".repeat(40));
    }
    watch.tries_layers("many records", &[&[records]], Either);
    watch.end()
}

fn hostile_compression() -> Done {
    let mut watch = Watch::begin();
    let good = tar(&[Entry::file("a", "content".repeat(1000))]);
    let with = |form, blob: Vec<u8>| Layout::new([Layer { form, blob, diff_id: layout::digest(&good) }]).files();
    let (gzip, zstd) = (layout::gzip(&good), layout::zstd(&good));
    for (form, packed, magic) in [("tar+gzip", &gzip, 3), ("tar+zstd", &zstd, 4)] {
        watch.tries_files(&format!("{form}: garbage"), &with(form, vec![b'x'; 4096]), Refused);
        watch.tries_files(
            &format!("{form}: garbage after its magic"),
            &with(form, [&packed[..magic], &[0xa5; 4096]].concat()),
            Refused,
        );
        watch.tries_files(&format!("{form}: the magic alone"), &with(form, packed[..magic].to_vec()), Refused);
        watch.tries_files(
            &format!("{form}: garbage behind it"),
            &with(form, [&packed[..], &[0xa5; 4096]].concat()),
            Either,
        );
        watch.tries_files(&format!("{form}: nothing"), &with(form, Vec::new()), Refused);
        for at in [magic, 8, packed.len() / 2, packed.len() - 6, packed.len() - 1] {
            let mut broken = packed.clone();
            broken[at] ^= 0x55;
            watch.tries_files(&format!("{form}: wrong at {at}"), &with(form, broken), Either);
        }
    }
    // A media type that is not true.
    watch.tries_files("gzip that is zstd", &with("tar+gzip", zstd), Either);
    watch.tries_files("zstd that is gzip", &with("tar+zstd", gzip.clone()), Either);
    watch.tries_files("a tar that is gzip", &with("tar", gzip), Either);
    watch.tries_files("gzip that is a tar", &with("tar+gzip", good.clone()), Either);
    // Windows as large as a memory.
    let mut wide = layout::zstd(&good);
    wide[5] = 0xff;
    watch.tries_files("a window of terabytes", &with("tar+zstd", wide), Either);
    watch.end()
}

fn hostile_truncation() -> Done {
    let mut watch = Watch::begin();
    let mut random = conformance::random::Random::new(7);
    let noise: Vec<u8> = (0..5000).flat_map(|_| random.number().to_le_bytes()).collect();
    let layer = Layer::of(&[Entry::file("a", &noise[..20_000]), Entry::file("b", &noise)]);
    let archive = layout::archive(&Layout::new([layer.clone().gzip()]).files());
    let image = watch.t.text("cut.tar");
    for end in (0..archive.len() - 1024).step_by(1024) {
        std::fs::write(&image, &archive[..end]).expect("cannot write");
        watch.tries(&format!("an archive cut at {end}"), &image, &[], Refused);
    }
    for (form, blob) in
        [("tar", layer.blob.clone()), ("tar+gzip", layout::gzip(&layer.blob)), ("tar+zstd", layout::zstd(&layer.blob))]
    {
        for end in (0..blob.len() - 1024).step_by(4096) {
            let cut = Layer { form, blob: blob[..end].to_vec(), diff_id: layer.diff_id.clone() };
            watch.tries_files(&format!("{form} cut at {end}"), &Layout::new([cut]).files(), Refused);
        }
    }
    watch.end()
}

fn hostile_digests() -> Done {
    let mut watch = Watch::begin();
    let layer = || Layer::of(&[Entry::file("a", "content")]).gzip();
    let wrong = format!("sha256:{}", "0".repeat(64));
    watch.tries_files("a wrong diff id", &Layout::new([Layer { diff_id: wrong.clone(), ..layer() }]).files(), Refused);
    watch.tries_files(
        "the blob's digest as diff id",
        &Layout::new([Layer { diff_id: layout::digest(&layer().blob), ..layer() }]).files(),
        Refused,
    );
    for change in [0, 1, 2] {
        let mut files = Layout::new([layer()]).files();
        let path = layout::blob_path(&layout::digest(&layer().blob));
        let blob = files.get_mut(&path).expect("the layer");
        match change {
            0 => blob.push(0),
            1 => drop(blob.pop()),
            _ => blob[20] ^= 1,
        }
        watch.tries_files(&format!("another blob: {change}"), &files, Refused);
    }
    for (what, size) in [
        ("no size", serde_json::json!(0)),
        ("another size", 5.into()),
        ("a huge size", u64::MAX.into()),
        ("a negative size", (-1).into()),
    ] {
        let files = Layout::new([layer()]).files_with(|manifest| manifest["layers"][0]["size"] = size);
        watch.tries_files(what, &files, Refused);
    }
    // The same layer twice, once true.
    let lie = Layer { diff_id: wrong, ..layer() };
    watch.tries_files("one of two", &Layout::new([layer(), lie]).files(), Refused);
    watch.end()
}
