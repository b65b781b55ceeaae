//! Images of a user without privileges, with and without subordinate ids.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use conformance::layout::{Layer, Layout};
use conformance::tarball::Entry;
use conformance::test::Done;
use serde_json::json;

use super::{PROA, busybox, names};
use crate::command::Call;

crate::cases! {
    a_user_with_subordinate_ids,
    a_user_with_one_id,
    layers_a_user_cannot_keep_whole,
    a_user_and_hostile_links,
    a_user_cannot_use_what_is_roots,
}

/// A directory of the user's, removed at the end.
struct Home(PathBuf);

impl Home {
    fn begin(name: &str) -> Self {
        let dir = PathBuf::from(format!("/home/user/{name}"));
        fs::create_dir(&dir).expect("cannot make a directory");
        chown(&dir, Some(1000), Some(1000)).expect("cannot chown");
        Self(dir)
    }

    fn text(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn proa(&self, words: &[&str]) -> Call {
        Call::new("as-user", &[&[PROA], words].concat()).env("PROA_STORE", &self.text("store"))
    }

    fn image(&self, layout: &Layout, name: &str) -> String {
        conformance::layout::write_dir(&layout.files(), &self.0.join(name));
        self.text(name)
    }

    fn run(&self, bundle: &str) -> crate::command::Said {
        self.proa(&["run", "--bundle", &self.text(bundle), bundle]).run()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn layout(script: &str) -> Layout {
    let entries = [
        Entry::dir("d").mode(0o711).owner(7, 8).time(5, 0),
        Entry::file("d/of-guest", "x").owner(1000, 1000).mode(0o600),
        Entry::file("setuid", "x").mode(0o4755),
        Entry::file("noted", "x").xattr("user.note", "n"),
        Entry::file("gone", "x"),
        Entry::dir("hidden"),
        Entry::file("hidden/below", "x"),
        Entry::dir("d").mode(0o711).owner(7, 8).time(5, 0),
    ];
    let above =
        [Entry::whiteout("", "gone"), Entry::dir("hidden"), Entry::opaque("hidden"), Entry::file("hidden/above", "x")];
    Layout::new([busybox(), Layer::of(&entries).gzip(), Layer::of(&above)]).with("Cmd", json!(["sh", "-ec", script]))
}

const LOOK: &str = "ls -d /gone 2>/dev/null || echo gone; ls /hidden; echo new >/d/new; rm -r /hidden; mkdir /hidden; ls /hidden; cat /d/new";

fn a_user_with_subordinate_ids() -> Done {
    let home = Home::begin("many");
    let script =
        format!("stat -c %u:%g:%a /d /d/of-guest /setuid; chown 33:44 /noted; stat -c %u:%g /noted; id -u; {LOOK}");
    let image = home.image(&layout(&script), "image");
    home.proa(&["image", "import", "-q", &image]).run().ok();
    home.proa(&["bundle", "create", "-q", "--image", "image:latest", &home.text("b")]).run().ok();
    home.proa(&["plan", "--bundle", &home.text("b")]).run().ok();
    let said = home.run("b").ok();
    assert_eq!(said.out.trim(), "7:8:711\n1000:1000:600\n0:0:4755\n33:44\n0\ngone\nabove\nnew");
    assert_eq!(fs::metadata(home.0.join("b/writable/upper/noted")).expect("the file").uid(), 100_032);
    assert!(home.proa(&["image", "ls"]).run().text().contains("image:latest"));
    assert!(home.proa(&["bundle", "ls"]).run().text().contains(&home.text("b")));
    home.proa(&["bundle", "rm", &home.text("b")]).run().ok();
    assert!(!home.0.join("b").exists());
    home.proa(&["image", "prune", "--all"]).run().ok();
    for part in ["layers", "chains", "images", "bundles", "tmp"] {
        assert_eq!(names(&home.0.join("store").join(part)), [""; 0], "left in {part}");
    }
    Ok(())
}

/// The lists of subordinate ids are empty while this is there.
struct NoIds([String; 2]);

const LISTS: [&str; 2] = ["/etc/subuid", "/etc/subgid"];

impl NoIds {
    fn begin() -> Self {
        let texts = LISTS.map(|path| fs::read_to_string(path).expect("a list of subordinate ids"));
        LISTS.iter().for_each(|path| fs::write(path, "").expect("cannot write"));
        Self(texts)
    }
}

impl Drop for NoIds {
    fn drop(&mut self) {
        LISTS.iter().zip(&self.0).for_each(|(path, text)| fs::write(path, text).expect("cannot write"));
    }
}

fn a_user_with_one_id() -> Done {
    let home = Home::begin("one");
    let _none = NoIds::begin();
    // Owners are lost, and a warning may say so; all else is as it should be.
    let image = home.image(&layout(&format!("stat -c %u:%a /d /d/of-guest; id -u; {LOOK}")), "image");
    home.proa(&["bundle", "create", "-q", "--image", &image, &home.text("b")]).run().ok();
    let said = home.run("b").ok();
    assert_eq!(said.out.trim(), "0:711\n0:600\n0\ngone\nabove\nnew");
    home.proa(&["bundle", "rm", &home.text("b")]).run().ok();
    home.proa(&["image", "prune", "--all"]).run().ok();
    assert_eq!(names(&home.0.join("store/layers")), [""; 0]);
    Ok(())
}

/// Devices and attributes that take privileges: refused by name, or left out; never another file.
fn layers_a_user_cannot_keep_whole() -> Done {
    let home = Home::begin("less");
    for (name, entry) in [
        ("null", Entry::device("thing", 1, 3)),
        ("disk", Entry::block_device("thing", 8, 0)),
        ("trusted", Entry::file("thing", "x").xattr("trusted.note", "x")),
        (
            "capability",
            Entry::file("thing", "x")
                .xattr("security.capability", [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ),
        ("overlay", Entry::file("thing", "x").xattr("user.overlay.whiteout", "y")),
        ("unmapped", Entry::file("thing", "x").owner(3_000_000_000, 0)),
    ] {
        let layers = [busybox(), Layer::of(&[Entry::file("other", "x"), entry])];
        let layout = Layout::new(layers).with("Cmd", json!(["sh", "-c", "ls -l /thing; cat /other"]));
        let image = home.image(&layout, name);
        let bundle = format!("{name}.b");
        let said = home.proa(&["bundle", "create", "-q", "--image", &image, &home.text(&bundle)]).run();
        if said.success() {
            let ran = home.run(&bundle).ok();
            assert!(ran.out.trim().ends_with('x'), "{name}: {}", ran.out);
            if name == "null" || name == "disk" {
                assert!(!ran.out.starts_with('c') && !ran.out.starts_with('b'), "{name}: {}", ran.out);
            } else {
                assert!(ran.out.starts_with('-'), "{name}: {} {}", ran.out, ran.err);
            }
            home.proa(&["bundle", "rm", &home.text(&bundle)]).run().ok();
        } else {
            let said = said.exits(1);
            assert_eq!(said.err.trim_end().lines().count(), 1, "{name}: {}", said.err);
            assert!(said.err.contains("thing"), "{name}: {}", said.err);
        }
        home.proa(&["image", "prune", "--all"]).run().ok();
        assert_eq!(names(&home.0.join("store/tmp")), [""; 0], "{name}");
    }
    Ok(())
}

fn a_user_and_hostile_links() -> Done {
    let home = Home::begin("lies");
    fs::write("/home/user/canary", "sings").expect("cannot write");
    chown("/home/user/canary", Some(1000), Some(1000)).expect("cannot chown");
    for (number, entries) in [
        vec![Entry::symlink("s", "/home/user"), Entry::file("s/canary", "lie")],
        vec![Entry::symlink("s", "../../../../../../../home/user"), Entry::file("s/canary", "lie")],
        vec![Entry::file("../../../../../canary", "lie")],
        vec![Entry::hard_link("h", "/home/user/canary"), Entry::file("h", "lie")],
        vec![Entry::hard_link("h", "../../../../../canary"), Entry::file("h", "lie")],
        vec![Entry::symlink("s", "/home/user"), Entry::whiteout("s", "canary")],
    ]
    .iter()
    .enumerate()
    {
        let image = home.image(&Layout::new([busybox(), Layer::of(entries)]), &format!("i{number}"));
        home.proa(&["bundle", "create", "-q", "--image", &image, &home.text("b")]).run();
        assert_eq!(fs::read_to_string("/home/user/canary").expect("the canary"), "sings", "{entries:?}");
        if home.0.join("b").exists() {
            home.proa(&["bundle", "rm", &home.text("b")]).run().ok();
        }
    }
    Ok(())
}

fn a_user_cannot_use_what_is_roots() -> Done {
    let home = Home::begin("roots");
    let image = home.image(&layout("true"), "image");
    let t = super::Test::begin();
    t.create(&image, &[], "b").run().ok();
    let as_user = |words: &[&str]| home.proa(words).env("PROA_STORE", &t.text("store")).run();
    for words in [
        &["image", "ls"][..],
        &["bundle", "rm", &t.text("b")],
        &["image", "prune", "--all"],
        &["bundle", "create", "-q", "--image", "image:latest", &home.text("b")],
        &["bundle", "create", "-q", "--image", &image, "--network", "lo", &home.text("b")],
    ] {
        let said = as_user(words).exits(1);
        assert_eq!(said.err.trim_end().lines().count(), 1, "{words:?}: {}", said.err);
    }
    assert!(t.path("b/config.json").exists());
    Ok(())
}
