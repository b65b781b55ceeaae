//! Commands that are killed at any moment: the next one works, what the store has is whole, and nothing is left but
//! what the next one sweeps.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use conformance::layout::{Layer, Layout};
use conformance::random::Random;
use conformance::tarball::Entry;
use conformance::test::Done;
use conformance::tree::{Node, Tree};

use super::{PROA, Test, layers_of, merged, mounts, names, same};

crate::cases! {
    killed_imports,
    killed_creations,
    killed_removals,
    killed_prunes,
    killed_at_once,
}

/// How often each command is killed.
const KILLS: usize = 40;

/// A store with one image whose trees are known.
struct Killed {
    t: Test,
    image: String,
    good: Tree,
    /// Of each layer by its name in the store.
    layers: BTreeMap<String, Tree>,
    mounts: Vec<PathBuf>,
    random: Random,
    /// Commands that a kill has ended, and not they themselves.
    in_the_middle: usize,
}

impl Killed {
    fn begin(seed: u64) -> Self {
        let t = Test::begin();
        let layer = |n: usize| {
            let files = (0..150).map(|k| Entry::file(format!("d{n}/f{k}"), vec![(n + k) as u8; 3000 + k]));
            Layer::of(&[Entry::dir("."), Entry::dir(format!("d{n}"))].into_iter().chain(files).collect::<Vec<_>>())
        };
        // The last cannot be understood without those below.
        let last = Layer::of(&[
            Entry::file("d0/f0", "new"),
            Entry::whiteout("d1", "f1"),
            Entry::hard_link("d2/again", "d2/f2"),
        ]);
        let layout = Layout::new([layer(0).gzip(), layer(1), layer(2).zstd(), last]);
        let image = t.write(&layout.files(), "image");
        t.create(&image, &[], "good").run().ok();
        let mut killed = Self {
            good: merged(&t.path("good")),
            layers: BTreeMap::new(),
            mounts: mounts(),
            random: Random::new(seed),
            in_the_middle: 0,
            image,
            t,
        };
        killed.layers = killed.trees();
        assert_eq!(layers_of(&killed.t.path("good")).len(), 4);
        killed.remove_all();
        killed
    }

    /// The trees of all layers that are there, without their places in the store's own words.
    fn trees(&self) -> BTreeMap<String, Tree> {
        let mut found = BTreeMap::new();
        for kind in ["layers", "chains"] {
            let dir = self.t.store().join(kind);
            for name in names(&dir) {
                let mut tree = Tree::of(&dir.join(&name).join("diff"));
                tree.0.values_mut().for_each(|node| node.inode = 0);
                // What no entry tells of, and what hides another, has the time at which it was made.
                let untold = |node: &&mut Node| matches!(node.mode & 0o170_000, 0o040_000 | 0o020_000);
                tree.0.values_mut().filter(untold).for_each(|node| node.mtime = (0, 0));
                found.insert(format!("{kind}/{name}"), tree);
            }
        }
        found
    }

    /// What is there is whole.
    #[track_caller]
    fn is_whole(&self, turn: usize) {
        for (name, tree) in self.trees() {
            let lines =
                self.layers.get(&name).unwrap_or_else(|| panic!("{turn}: {name} is strange")).differences(&tree);
            assert!(lines.is_empty(), "{turn}: {name} is not whole: {}", lines.join("\n"));
        }
        assert_eq!(mounts(), self.mounts, "{turn}: mounts are left");
    }

    fn remove_all(&self) {
        for name in names(self.t.dir.path()).iter().filter(|name| !["image", "store", "state"].contains(&name.as_str()))
        {
            std::fs::remove_dir_all(self.t.path(name)).expect("cannot remove");
        }
        self.t.proa(&["image", "prune", "--all", "-q"]).run().ok();
        for part in ["layers", "chains", "images", "bundles", "tmp"] {
            assert_eq!(names(&self.t.store().join(part)), [""; 0], "a prune leaves {part}");
        }
    }

    /// Kills a command with all its threads at a moment of the time that it takes when it is not.
    fn kill(&mut self, words: &[&str], takes: Duration) {
        let mut command = Command::new(PROA);
        command
            .args(words)
            .env("PROA_STORE", self.t.store())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().expect("cannot run proa");
        let delay = takes.as_micros() as usize * 11 / 10;
        std::thread::sleep(Duration::from_micros(self.random.below(delay.max(1)) as u64));
        child.kill().expect("cannot kill");
        let status = child.wait().expect("cannot wait");
        self.in_the_middle += usize::from(status.signal() == Some(9));
    }

    fn end(self) -> Done {
        assert!(self.in_the_middle > 0, "no command was killed in the middle");
        Ok(())
    }

    /// How long a command takes here and now.
    fn time(&self, words: &[&str]) -> Duration {
        let begun = Instant::now();
        self.t.proa(words).run().ok();
        begun.elapsed()
    }

    /// A bundle can be made, and is what it should be.
    #[track_caller]
    fn goes_on(&self, turn: usize) {
        let name = format!("after-{turn}");
        self.t.create(&self.image, &[], &name).run().ok();
        same(&merged(&self.t.path(&name)), &self.good);
        assert_eq!(names(&self.t.store().join("tmp")), [""; 0], "{turn}: left in tmp by the next command");
        self.is_whole(turn);
    }
}

fn killed_imports() -> Done {
    let mut killed = Killed::begin(1);
    let image = killed.image.clone();
    let words = ["image", "import", "-q", &image];
    let takes = killed.time(&words);
    for turn in 0..KILLS {
        killed.remove_all();
        killed.kill(&words, takes);
        killed.is_whole(turn);
        killed.goes_on(turn);
    }
    killed.end()
}

fn killed_creations() -> Done {
    let mut killed = Killed::begin(2);
    let (image, bundle) = (killed.image.clone(), killed.t.text("bundle"));
    let words = ["bundle", "create", "-q", "--image", &image, &bundle];
    let takes = killed.time(&words);
    killed.remove_all();
    for turn in 0..KILLS {
        if turn % 2 == 0 {
            killed.remove_all();
        }
        killed.kill(&words, takes);
        killed.is_whole(turn);
        // It is one with a config.json, or none that stands in no way.
        let bundle_path = killed.t.path("bundle");
        let listed = killed.t.proa(&["bundle", "ls"]).run().text().contains(&bundle);
        assert_eq!(listed, bundle_path.join("config.json").exists(), "{turn}");
        if listed {
            same(&merged(&bundle_path), &killed.good);
            killed.t.proa(&["bundle", "rm", &bundle]).run().ok();
        } else if bundle_path.exists() {
            // Half a bundle is removed by the command that removes bundles, or by hand.
            if !killed.t.proa(&["bundle", "rm", &bundle]).run().success() {
                std::fs::remove_dir_all(&bundle_path).expect("cannot remove");
            }
        }
        assert!(!bundle_path.exists());
        killed.goes_on(turn);
    }
    killed.remove_all();
    killed.end()
}

fn killed_removals() -> Done {
    let mut killed = Killed::begin(3);
    let (image, bundle) = (killed.image.clone(), killed.t.text("bundle"));
    let create = ["bundle", "create", "-q", "--image", &image, &bundle];
    let words = ["bundle", "rm", &bundle];
    let fill = |killed: &Killed| {
        for n in 0..200 {
            let dir = killed.t.path(&format!("bundle/writable/upper/w{n}"));
            std::fs::create_dir(&dir).expect("cannot make a directory");
            std::fs::write(dir.join("file"), "written").expect("cannot write");
        }
    };
    killed.t.proa(&create).run().ok();
    fill(&killed);
    let takes = killed.time(&words);
    for turn in 0..KILLS {
        killed.t.proa(&create).run().ok();
        fill(&killed);
        killed.kill(&words, takes);
        killed.is_whole(turn);
        // The same command again ends what the first began.
        if killed.t.path("bundle").exists() {
            killed.t.proa(&words).run().ok();
        }
        assert!(!killed.t.path("bundle").exists(), "{turn}: the bundle is there");
        assert!(!killed.t.proa(&["bundle", "ls"]).run().text().contains(&format!("{bundle}\n")), "{turn}");
        if turn % 5 == 0 {
            killed.goes_on(turn);
        }
    }
    killed.remove_all();
    killed.end()
}

fn killed_prunes() -> Done {
    let mut killed = Killed::begin(4);
    let image = killed.image.clone();
    let words = ["image", "prune", "--all", "-q"];
    killed.t.proa(&["image", "import", "-q", &image]).run().ok();
    let takes = killed.time(&words);
    for turn in 0..KILLS {
        killed.t.proa(&["image", "import", "-q", &image]).run().ok();
        killed.kill(&words, takes);
        killed.is_whole(turn);
        if turn % 2 == 0 {
            killed.goes_on(turn);
            killed.remove_all();
        }
    }
    killed.remove_all();
    killed.end()
}

/// Several commands at once, some of them killed.
fn killed_at_once() -> Done {
    let mut killed = Killed::begin(5);
    let image = killed.image.clone();
    let takes = killed.time(&["image", "import", "-q", &image]);
    for turn in 0..KILLS / 2 {
        killed.remove_all();
        let spawn = |words: &[&str]| {
            let mut command = Command::new(PROA);
            command.args(words).env("PROA_STORE", killed.t.store()).stdin(Stdio::null()).stdout(Stdio::null());
            command.spawn().expect("cannot run proa")
        };
        let (one, two) = (killed.t.text("one"), killed.t.text("two"));
        let mut kept = spawn(&["bundle", "create", "-q", "--image", &image, &one]);
        let mut lost = [
            spawn(&["bundle", "create", "-q", "--image", &image, &two]),
            spawn(&["image", "import", "-q", &image]),
            spawn(&["image", "prune", "--all", "-q"]),
        ];
        for child in &mut lost {
            std::thread::sleep(Duration::from_micros(killed.random.below(takes.as_micros() as usize / 2 + 1) as u64));
            child.kill().expect("cannot kill");
            killed.in_the_middle += usize::from(child.wait().expect("cannot wait").signal() == Some(9));
        }
        assert!(kept.wait().expect("a child").success(), "{turn}: the others' end is its own");
        same(&merged(&killed.t.path("one")), &killed.good);
        killed.goes_on(turn);
    }
    killed.end()
}
