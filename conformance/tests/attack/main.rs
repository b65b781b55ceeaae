//! The attacks on runtimes that are known, each as somebody has played it, against the runtime under test and against
//! others that are known to give way (controls), until one does: an attack that nobody gives way to proves nothing.
//!
//! ```text
//! RUNTIME=proa attack [ROW...] [--control PATH]...
//! ```
//!
//! An attack panics with `BREACH: ` and what it has reached. Anything else that goes wrong is an error, which fails the
//! run too, but is no proof. No attack does more than show that it could.

mod files;
mod mounts;
mod processes;
mod snapshot;
mod values;

use std::cell::RefCell;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use conformance::runtime;
use conformance::test::{Done, Skip, Suite, Test, set_apart};

use snapshot::Snapshot;

/// One attack.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    /// Short, unique.
    name: &'static str,
    /// Published as.
    ids: &'static str,
    attack: fn(&Test<'_>, &Canary) -> Done,
}

/// Lists attacks: `"CVE-1-2 CVE-3-4" => function`.
#[macro_export]
macro_rules! attacks {
    ($($ids:literal => $name:ident),* $(,)?) => {
        pub(crate) const ROWS: &[$crate::Row] =
            &[$($crate::Row { name: stringify!($name), ids: $ids, attack: $name }),*];
    };
}

/// Breaks the attack off with what it has reached, unless the runtime has withstood it.
#[track_caller]
pub(crate) fn safe(withstood: bool, reached: impl FnOnce() -> String) {
    assert!(withstood, "BREACH: {}", reached());
}

/// A directory of the host, outside of all root file systems: nothing in it may change or be seen.
pub(crate) struct Canary {
    /// The directory.
    pub(crate) dir: PathBuf,
}

/// What is in its file `secret`.
pub(crate) const SECRET: &str = "only the host knows this";

impl Canary {
    fn new(t: &Test<'_>) -> Self {
        let dir = t.make_dir("canary");
        for name in ["secret", "null", "ptmx", "console", "fd", "zero", "tty"] {
            fs::write(dir.join(name), SECRET).expect("cannot write");
        }
        fs::create_dir(dir.join("below")).expect("cannot make a directory");
        Self { dir }
    }

    /// Its path.
    pub(crate) fn text(&self) -> String {
        self.dir.to_string_lossy().into_owned()
    }
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

enum Verdict {
    Safe,
    Skipped(String),
    Breach(String),
    Error(String),
}

fn main() -> ExitCode {
    env_logger::init();
    let (mut names, mut controls) = (Vec::new(), Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--control" => controls.push(PathBuf::from(arguments.next().expect("--control wants a path"))),
            name => names.push(name.to_owned()),
        }
    }
    set_apart("attacks need root");
    panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("a panic").to_owned();
        let place = info.location().map(|place| format!(" ({place})")).unwrap_or_default();
        PANIC.with(|last| *last.borrow_mut() = text + &place);
    }));
    let all = [mounts::ROWS, files::ROWS, processes::ROWS, values::ROWS].concat();
    let rows: Vec<&Row> = all
        .iter()
        .filter(|row| names.is_empty() || names.iter().any(|name| row.name.contains(name.as_str())))
        .collect();
    let under_test = Bed::new(&runtime::program());
    let controls: Vec<Bed> = controls.iter().map(|path| Bed::new(path)).collect();
    let mut counts = [0; 5];
    for row in rows {
        let (place, word, more) = match under_test.play(row) {
            Verdict::Safe => {
                let gave_way = controls.iter().find_map(|control| match control.play(row) {
                    Verdict::Breach(what) => Some(format!("{} gave way: {what}", control.name)),
                    _ => None,
                });
                match gave_way {
                    None => (1, "unproven", "withstood, by all that were tried".to_owned()),
                    Some(proof) => (0, "withstood", proof),
                }
            }
            Verdict::Skipped(reason) => (2, "skipped", reason),
            Verdict::Breach(what) => (3, "BREACH", what),
            Verdict::Error(what) => (4, "ERROR", what),
        };
        counts[place] += 1;
        println!("{word:<10} {:<38} {:<40} {more}", row.name, row.ids);
    }
    let [proven, unproven, skipped, breaches, errors] = counts;
    println!("{proven} withstood, {unproven} unproven, {skipped} skipped, {breaches} breaches, {errors} errors");
    if breaches + errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A runtime and the place it is tried in.
struct Bed {
    name: String,
    suite: Suite,
    program: PathBuf,
}

impl Bed {
    fn new(original: &Path) -> Self {
        let original = fs::canonicalize(original).unwrap_or_else(|error| panic!("{}: {error}", original.display()));
        let file = original.file_name().expect("a runtime is a file").to_string_lossy().into_owned();
        // Some attacks would write to it.
        let dir = tempfile::Builder::new().prefix("attacked-").tempdir().expect("no temporary directory").keep();
        let program = dir.join(&file);
        fs::copy(&original, &program).expect("cannot copy the runtime");
        let version = std::process::Command::new(&program).arg("--version").output().map(|output| output.stdout);
        let version = String::from_utf8_lossy(&version.unwrap_or_default()).lines().next().unwrap_or("").to_owned();
        let number = version.rsplit(' ').next().unwrap_or("?").to_owned();
        Self { name: format!("{file} {number}"), suite: Suite::new(program.clone()), program }
    }

    fn play(&self, row: &Row) -> Verdict {
        let before = Snapshot::take(&self.program);
        let test = self.suite.begin();
        let canary = Canary::new(&test);
        let tree = snapshot::tree(&canary.dir);
        let played = panic::catch_unwind(AssertUnwindSafe(|| {
            works(&test);
            (row.attack)(&test, &canary)
        }));
        let finished = panic::catch_unwind(AssertUnwindSafe(|| test.finish()));
        let changed = before.differences(&Snapshot::take(&self.program), &tree, &snapshot::tree(&canary.dir));
        let transcript = test.runtime.transcript();
        drop(test);
        let left = self.suite.clean_up();
        log::debug!("{transcript}");
        let said = PANIC.with(|last| last.take());
        match (played, finished) {
            _ if !changed.is_empty() => Verdict::Breach(format!("changed on the host: {}", changed.join(", "))),
            (Err(_), _) => match said.strip_prefix("BREACH: ") {
                Some(what) => Verdict::Breach(what.to_owned()),
                None => Verdict::Error(said.replace('\n', "; ")),
            },
            (Ok(Err(Skip(reason))), _) => Verdict::Skipped(reason),
            (Ok(Ok(())), Ok(leaks)) if leaks.is_empty() && left.is_empty() => Verdict::Safe,
            (Ok(Ok(())), Ok(leaks)) => Verdict::Error(format!("left behind: {} {}", leaks.join(", "), left.join(", "))),
            (Ok(Ok(())), Err(_)) => Verdict::Error(said),
        }
    }
}

/// A runtime that runs nothing withstands everything.
fn works(t: &Test<'_>) {
    let text = t.run(&t.sh_bundle("echo it runs")).stdout();
    assert_eq!(text, "it runs\n", "an ordinary container");
    let c = t.sleeper();
    assert_eq!(c.exec(&["/bin/echo", "it runs"]).output().stdout(), "it runs\n", "an ordinary exec");
    c.call("delete").options(&["--force"]).output().ok();
}

impl Drop for Bed {
    fn drop(&mut self) {
        fs::remove_dir_all(self.program.parent().expect("it is in a directory")).ok();
    }
}
