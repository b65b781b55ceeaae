//! Images without a daemon: what proa makes of them, beside what umoci makes of the same; images that lie; what bundles
//! share and what they do not; commands that are killed.

mod bench;
mod chance;
mod config;
mod forms;
mod hostile;
mod hostile_archives;
mod hostile_documents;
mod hostile_layers;
mod hostile_names;
mod kills;
mod layers;
mod made;
mod rootless;
mod sharing;
mod writable;

use std::any::Any;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use conformance::layout::{self, Files, Layer, Layout};
use conformance::look;
use conformance::test::set_apart;
use conformance::tree::Tree;
use serde_json::Value;
use tempfile::TempDir;

use crate::Case;
use crate::command::{Call, Said};

/// Every file of tests.
pub(crate) const TOPICS: &[&[Case]] = &[
    layers::CASES,
    made::CASES,
    forms::CASES,
    hostile_names::CASES,
    hostile_layers::CASES,
    hostile_documents::CASES,
    hostile_archives::CASES,
    sharing::CASES,
    writable::CASES,
    rootless::CASES,
    config::CASES,
    kills::CASES,
];

/// What is measured, not passed.
pub(crate) const BENCH: &[&[Case]] = &[bench::CASES];

const PROA: &str = "/usr/local/bin/proa";
const LAYERS: &str = "io.github.proa.root.layers";
const WRITABLE: &str = "io.github.proa.root.writable";

pub(crate) fn begin() -> Box<dyn Any> {
    crate::be_in_the_root();
    set_apart("run this as root");
    crate::install(&crate::runtime(), PROA);
    fs::set_permissions(PROA, fs::Permissions::from_mode(0o755)).expect("cannot chmod");
    Box::new(())
}

/// A directory, a store and a directory of states in it.
struct Test {
    dir: TempDir,
}

impl Test {
    fn begin() -> Self {
        // A tmpfs, which can be the upper layer of an overlay and keeps all attributes.
        let dir = tempfile::Builder::new().prefix("images-").tempdir_in("/tmp").expect("no temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("cannot chmod");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The layers, images and bundles of this test.
    fn store(&self) -> PathBuf {
        self.path("store")
    }

    /// proa with the test's store and states.
    fn proa(&self, words: &[&str]) -> Call {
        let root = self.text("state");
        let all: Vec<&str> = ["--root", &root].into_iter().chain(words.iter().copied()).collect();
        Call::new(PROA, &all).env("PROA_STORE", &self.text("store"))
    }

    /// `bundle create`, with further words before the directory.
    fn create(&self, image: &str, words: &[&str], bundle: &str) -> Call {
        let path = self.text(bundle);
        let all: Vec<&str> =
            ["bundle", "create", "-q", "--image", image].into_iter().chain(words.iter().copied()).collect();
        self.proa(&[&all[..], &[&path]].concat())
    }

    /// A bundle of an image that was made by hand.
    #[track_caller]
    fn bundle_of(&self, layout: &Layout, bundle: &str) -> PathBuf {
        let image = self.write(&layout.files(), &format!("{bundle}.image"));
        self.create(&image, &[], bundle).run().ok();
        self.path(bundle)
    }

    /// A layout as a directory.
    fn write(&self, files: &Files, name: &str) -> String {
        layout::write_dir(files, &self.path(name));
        self.text(name)
    }

    /// What umoci makes of an image that some other program, or skopeo, can name by `transport`.
    #[track_caller]
    fn umoci(&self, transport: &str, name: &str) -> Tree {
        let copy = format!("oci:{}:latest", self.text(&format!("{name}.copy")));
        // umoci wants a tag.
        let tagged = |image: &&str| image.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let image = match transport.strip_prefix("oci:").filter(tagged) {
            Some(image) => image.to_owned(),
            None => {
                call("skopeo", &["copy", "-q", "--insecure-policy", transport, &copy]).ok();
                copy["oci:".len()..].to_owned()
            }
        };
        let bundle = self.text(&format!("{name}.umoci"));
        call("umoci", &["unpack", "--image", &image, &bundle]).ok();
        Tree::of(&self.path(&format!("{name}.umoci/rootfs")))
    }

    /// The tree of a bundle equals that of umoci.
    #[track_caller]
    fn same(&self, bundle: &str, transport: &str) {
        let (mut ours, theirs) = (merged(&self.path(bundle)), self.umoci(transport, bundle));
        if theirs.at("").mtime == (0, 0) {
            // umoci's time for a root that no entry tells of, which is no better than any other.
            ours.0.values_mut().next().expect("a root").mtime = (0, 0);
        }
        same(&ours, &theirs);
    }

    /// Nothing is being made in the store.
    #[track_caller]
    fn is_tidy(&self) {
        let left = names(&self.store().join("tmp"));
        assert!(left.is_empty(), "left in the store's tmp: {left:?}");
    }

    /// A container of a bundle runs to its end.
    fn run(&self, bundle: &str) -> Said {
        let path = self.text(bundle);
        self.proa(&["run", "--bundle", &path, &format!("c-{bundle}")]).run()
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        // Containers that a failed test has left.
        for id in names(&self.path("state")) {
            self.proa(&["delete", "--force", &id]).run();
        }
    }
}

/// Runs a program that is not under test.
#[track_caller]
fn call(program: &str, words: &[&str]) -> Said {
    Call::new(program, words).run()
}

/// A script of bash that has to succeed.
#[track_caller]
fn script(text: &str) -> String {
    call("bash", &["-euc", text]).text()
}

#[track_caller]
fn same(ours: &Tree, theirs: &Tree) {
    let lines = ours.differences(theirs);
    assert!(lines.is_empty(), "{} differences:\n{}", lines.len(), lines[..lines.len().min(20)].join("\n"));
}

/// The names in a directory, none if it is not there.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn json(path: &Path) -> Value {
    let text = fs::read(path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The layers of a bundle's root, the topmost first.
fn layers_of(bundle: &Path) -> Vec<PathBuf> {
    let layers = json(&bundle.join("config.json"))["annotations"][LAYERS].as_str().expect("layers").to_owned();
    layers.split(':').map(PathBuf::from).collect()
}

/// The root of a bundle as a container finds it: its layers, and what was written, one over the other.
#[track_caller]
fn merged(bundle: &Path) -> Tree {
    let mut layers = layers_of(bundle);
    layers.insert(0, bundle.join("writable/upper"));
    let mounted = Mounted::new(&layers);
    Tree::of(&mounted.0)
}

/// An overlay for reading, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    #[track_caller]
    fn new(layers: &[PathBuf]) -> Self {
        let point = tempfile::Builder::new().prefix("merged-").tempdir_in("/tmp").expect("no directory").keep();
        let words: Vec<String> = layers.iter().map(|layer| format!("lowerdir+={}", layer.display())).collect();
        call("mount", &["-t", "overlay", "overlay", "-o", &words.join(","), &point.display().to_string()]).ok();
        Self(point)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH).ok();
        fs::remove_dir(&self.0).ok();
    }
}

/// The mounts that there are, by their places.
fn mounts() -> Vec<PathBuf> {
    let mut points: Vec<PathBuf> =
        look::mounts(std::process::id() as i32).into_iter().map(|it| it.mount_point).collect();
    points.sort();
    points
}

/// The layer of busybox.
fn busybox() -> Layer {
    Layer::plain(conformance::image::layer())
}
