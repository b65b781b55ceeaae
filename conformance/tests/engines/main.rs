//! Container engines with the runtime and the shim under test: each is started for real, driven by its own client, and
//! what it made is looked at from outside.
//!
//! ```text
//! conformance/settings/engines -- env RUNTIME=proa SHIM=containerd-shim-proa-v2 engines ENGINE [FILTER...] [--list]
//! ```
//!
//! Runs inside the root of `settings/engines`, which holds the engines: never on the machine itself. `RUNTIME` and `SHIM`
//! are absolute paths; both default to the release build of the checkout. A test that cannot say anything is skipped with
//! its reason, and counted. The last line but the list of skips is `N passed, N failed, N skipped`.

mod checkpoint;
mod cli;
mod command;
mod containerd;
mod cri;
mod docker;
mod images;
mod network;
mod podman;
mod snippet;

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Instant;

use conformance::test::{Done, Skip};

/// A test of an engine.
pub(crate) struct Case {
    name: &'static str,
    test: fn() -> Done,
}

/// Lists a file's tests.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::Case] = &[$(crate::Case { name: stringify!($name), test: $name }),*];
    };
}
pub(crate) use cases;

/// An engine: how it is started, and its tests. What `begin` returns ends it when dropped.
struct Engine {
    name: &'static str,
    begin: fn() -> Box<dyn Any>,
    topics: fn() -> Vec<&'static [Case]>,
}

const ENGINES: &[Engine] = &[
    Engine { name: "podman", begin: podman::begin, topics: podman::topics },
    Engine { name: "docker", begin: docker::with_path, topics: docker::topics },
    Engine { name: "docker-shim", begin: docker::with_shim, topics: docker::topics },
    Engine { name: "containerd", begin: containerd::begin, topics: || containerd::TOPICS.to_vec() },
    Engine { name: "containerd-churn", begin: containerd::begin, topics: || containerd::CHURN.to_vec() },
    Engine { name: "containerd-bench", begin: containerd::begin, topics: || containerd::BENCH.to_vec() },
    Engine { name: "images", begin: images::begin, topics: || images::TOPICS.to_vec() },
    Engine { name: "images-bench", begin: images::begin, topics: || images::BENCH.to_vec() },
    Engine { name: "cri", begin: cri::begin, topics: || cri::TOPICS.to_vec() },
    Engine { name: "checkpoint", begin: checkpoint::begin, topics: || checkpoint::TOPICS.to_vec() },
    Engine { name: "checkpoint-bench", begin: checkpoint::begin, topics: || checkpoint::BENCH.to_vec() },
    Engine { name: "network", begin: network::begin, topics: || network::TOPICS.to_vec() },
];

/// What a test has left on the machine, asked after each; an engine that knows how to look sets it when it begins.
pub(crate) static AFTER: OnceLock<fn() -> Vec<String>> = OnceLock::new();

/// Ends the test program unless this is the root of settings/engines, or a machine of settings/vm with engines in it,
/// whose files and networks may be changed.
pub(crate) fn be_in_the_root() {
    let made_by_us = Path::new("/etc/systemd/system/job.target").exists();
    assert!(made_by_us, "run this by conformance/settings/engines");
}

/// Copies a program to where users have it.
pub(crate) fn install(program: &Path, to: &str) {
    std::fs::copy(program, to).unwrap_or_else(|error| panic!("cannot copy {} to {to}: {error}", program.display()));
}

/// The runtime under test.
pub(crate) fn runtime() -> PathBuf {
    given("RUNTIME", "proa")
}

/// The shim under test.
pub(crate) fn shim() -> PathBuf {
    given("SHIM", "containerd-shim-proa-v2")
}

fn given(variable: &str, built: &str) -> PathBuf {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release")).join(built);
    std::env::var_os(variable).map_or_else(default, PathBuf::from)
}

fn main() -> ExitCode {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let list = words.iter().position(|w| w == "--list").map(|at| words.remove(at)).is_some();
    let Some(engine) = words.first().and_then(|name| ENGINES.iter().find(|e| e.name == name)) else {
        eprintln!("engines: name one of {}", ENGINES.iter().map(|e| e.name).collect::<Vec<_>>().join(", "));
        return ExitCode::FAILURE;
    };
    let topics = (engine.topics)();
    let wanted = |case: &&Case| words.len() == 1 || words[1..].iter().any(|word| case.name.contains(word.as_str()));
    let cases: Vec<&Case> = topics.iter().copied().flatten().filter(wanted).collect();
    if list {
        cases.iter().for_each(|case| println!("{}", case.name));
        return ExitCode::SUCCESS;
    }
    let running = (engine.begin)();
    let (mut passed, mut failed, mut skips) = (0, Vec::new(), Vec::new());
    for case in cases {
        let begun = Instant::now();
        let done = panic::catch_unwind(AssertUnwindSafe(case.test));
        let left = AFTER.get().map(|left| left()).unwrap_or_default();
        left.iter().for_each(|thing| println!("  left by {}: {thing}", case.name));
        let word = match done {
            Ok(_) if !left.is_empty() => {
                failed.push(case.name);
                "FAILED"
            }
            Ok(Ok(())) => {
                passed += 1;
                "ok"
            }
            Ok(Err(Skip(reason))) => {
                skips.push((case.name, reason));
                "skipped"
            }
            Err(_) => {
                failed.push(case.name);
                "FAILED"
            }
        };
        println!("{word:8}{} ({:.1} s)", case.name, begun.elapsed().as_secs_f64());
    }
    drop(running);
    println!("{passed} passed, {} failed, {} skipped", failed.len(), skips.len());
    skips.iter().for_each(|(name, reason)| println!("  skipped {name}: {reason}"));
    failed.iter().for_each(|name| println!("  failed {name}"));
    if failed.is_empty() && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
