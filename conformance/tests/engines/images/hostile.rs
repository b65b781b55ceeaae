//! What images that lie must not do, looked at from outside: one line and status 1, or all that they ask for happens
//! below their own root. A directory outside stays as it is, nothing is left, and a good image can be unpacked after.
//!
//! Not here: the lies, which are in `hostile_layers` and `hostile_documents`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use conformance::layout::{Layer, Layout};
use conformance::tarball::Entry;
use conformance::test::Done;
use conformance::tree::Tree;

use super::{Mounted, Test, layers_of, merged, mounts, names, same};
use crate::command::Said;

/// What has to come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    Refused,
    /// It is made, and says nothing of the outside.
    Contained,
    Either,
}

/// Directories where a lie would show: a canary, and those that lies name, which are looked at less often.
const WATCHED: &[&str] = &["/canary", "/etc", "/root", "/home"];
/// After how many lies all of them are looked at, and a good image is unpacked.
const OFTEN: usize = 40;

/// A machine that is watched.
pub(super) struct Watch {
    pub(super) t: Test,
    before: Vec<Tree>,
    beside: Vec<String>,
    mounts: Vec<std::path::PathBuf>,
    good: Tree,
    turn: usize,
}

fn good() -> Layout {
    Layout::new([
        Layer::of(&[Entry::dir(".").time(1, 0), Entry::dir("d").time(2, 0), Entry::file("d/good", "good").owner(1, 2)])
            .gzip(),
        Layer::of(&[Entry::whiteout("d", "other"), Entry::file("more", "x")]),
    ])
}

impl Watch {
    pub(super) fn begin() -> Self {
        fs::create_dir_all("/canary/dir").expect("cannot make a directory");
        fs::write("/canary/file", "sings").expect("cannot write");
        fs::write("/canary/dir/file", "sings").expect("cannot write");
        fs::set_permissions("/canary", fs::Permissions::from_mode(0o755)).expect("cannot chmod");
        let t = Test::begin();
        t.bundle_of(&good(), "good");
        let good = merged(&t.path("good"));
        t.proa(&["bundle", "rm", &t.text("good")]).run().ok();
        t.proa(&["image", "prune", "--all"]).run().ok();
        assert_eq!(names(&t.store().join("layers")), [""; 0], "a prune leaves layers");
        Self { before: watched(), beside: names(t.dir.path()), mounts: mounts(), good, turn: 0, t }
    }

    /// An image by the words of `--image`, with further words of `bundle create`, is given to proa.
    #[track_caller]
    pub(super) fn tries(&mut self, what: &str, image: &str, words: &[&str], want: Want) {
        self.turn += 1;
        let bundle = format!("bundle-{}", self.turn);
        self.beside = names(self.t.dir.path());
        let said = self.t.create(image, words, &bundle).run();
        self.ends(what, &bundle, said, want);
    }

    /// An image with these files of a layout.
    #[track_caller]
    pub(super) fn tries_files(&mut self, what: &str, files: &conformance::layout::Files, want: Want) {
        let image = self.t.write(files, &format!("image-{}", self.turn + 1));
        self.tries(what, &image, &[], want);
        fs::remove_dir_all(image).expect("cannot remove");
    }

    /// An image with these layers.
    #[track_caller]
    pub(super) fn tries_layers(&mut self, what: &str, layers: &[&[Entry]], want: Want) {
        let layout = Layout::new(layers.iter().map(|it| Layer::of(it)));
        self.tries_files(what, &layout.files(), want);
    }

    #[track_caller]
    fn ends(&self, what: &str, bundle: &str, said: Said, want: Want) {
        let made = said.success();
        match want {
            Want::Refused => assert!(!made, "{what}: was taken"),
            Want::Contained => assert!(made, "{what}: was refused: {}", said.err),
            Want::Either => {}
        }
        if made {
            self.t.proa(&["plan", "--bundle", &self.t.text(bundle)]).run().ok();
            // Its paths may be too long for a walk.
            let path = self.t.path(bundle);
            let layers = [vec![path.join("writable/upper")], layers_of(&path)].concat();
            drop(Mounted::new(&layers));
        } else {
            let said = said.exits(1);
            assert_eq!(said.out, "", "{what}: writes to standard output");
            assert_eq!(said.err.trim_end().lines().count(), 1, "{what}: not one line: {:?}", said.err);
            assert!(said.err.len() < 1500, "{what}: {} bytes of an error", said.err.len());
            assert!(!said.err.trim_end().chars().any(char::is_control), "{what}: {:?}", said.err);
            assert!(!said.err.contains("panicked"), "{what}: {}", said.err);
            assert!(!self.t.path(bundle).exists(), "{what}: a bundle is left");
        }
        self.is_untouched(what, 1);
        if made {
            self.t.proa(&["bundle", "rm", &self.t.text(bundle)]).run().ok();
        }
        let store = self.t.store();
        if made || !names(&store.join("images")).is_empty() || !names(&store.join("layers")).is_empty() {
            self.t.proa(&["image", "prune", "--all"]).run().ok();
        }
        for part in ["layers", "chains", "images", "bundles", "tmp"] {
            assert_eq!(names(&store.join(part)), [""; 0], "{what}: left in the store's {part}");
        }
        if self.turn.is_multiple_of(OFTEN) {
            self.is_well(what);
        }
    }

    /// All lies have been told.
    #[track_caller]
    pub(super) fn end(mut self) -> Done {
        self.beside = names(self.t.dir.path());
        self.is_well("at the end");
        println!("  {} images", self.turn);
        Ok(())
    }

    #[track_caller]
    fn is_well(&self, what: &str) {
        self.is_untouched(what, WATCHED.len());
        self.t.bundle_of(&good(), "good");
        same(&merged(&self.t.path("good")), &self.good);
        self.t.proa(&["bundle", "rm", &self.t.text("good")]).run().ok();
        self.t.proa(&["image", "prune", "--all"]).run().ok();
        fs::remove_dir_all(self.t.path("good.image")).expect("cannot remove");
    }

    #[track_caller]
    fn is_untouched(&self, what: &str, count: usize) {
        for (path, before) in WATCHED.iter().zip(&self.before).take(count) {
            let after = Tree::of(Path::new(path));
            assert_eq!(before.differences(&after), [""; 0], "{what}: {path} is another");
            let inodes = |tree: &Tree| tree.0.values().map(|node| node.inode).collect::<Vec<_>>();
            assert_eq!(inodes(before), inodes(&after), "{what}: files of {path} are others");
        }
        let mut beside = names(self.t.dir.path());
        beside.retain(|name| !name.starts_with("bundle-") && name != "store" && name != "state");
        let mut known = self.beside.clone();
        known.retain(|name| !name.starts_with("bundle-") && name != "store" && name != "state");
        assert_eq!(beside, known, "{what}: something is beside the store");
        let parts = ["bundles", "chains", "images", "layers", "lock", "store.json", "tmp", "volumes"];
        let strange: Vec<String> =
            names(&self.t.store()).into_iter().filter(|name| !parts.contains(&name.as_str())).collect();
        assert!(strange.is_empty(), "{what}: in the store: {strange:?}");
        assert_eq!(mounts(), self.mounts, "{what}: mounts are left");
    }
}

fn watched() -> Vec<Tree> {
    WATCHED.iter().map(|path| Tree::of(Path::new(path))).collect()
}
