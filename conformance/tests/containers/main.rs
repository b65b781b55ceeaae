//! Runs real containers by the runtime that `RUNTIME` names (else the
//! workspace's release build), one test at a time, and looks for leaks after
//! each. Needs root, Linux, and Debian's busybox-static.
//!
//!     cargo test -p conformance --test containers -- [FILTER] [--skip X] [--exact] [--list]
//!
//! `--list` needs neither root nor a runtime; it fails when musts.tsv, the table of
//! what is proven by which test, is not true of the tests.
//!
//! A test that cannot say anything on this machine or this runtime is skipped
//! with its reason, and counted. The last line but the list of skips is
//! `N passed, N failed, N skipped`.

mod cgroups;
mod cgroups_nested;
mod cli;
mod commands;
mod copy_up;
mod devices;
mod errors;
mod events;
mod exec;
mod fallbacks;
mod fds;
mod features;
mod hook_failures;
mod hooks;
mod host_mounts;
mod hostile;
mod ids;
mod labels;
mod landlock;
mod layers;
mod lifecycle;
mod limits;
mod limits_bite;
mod mapped_ids;
mod misc;
mod mount_options;
mod mount_targets;
mod mounts;
mod musts_hooks;
mod musts_mounts;
mod musts_random;
mod musts_state;
mod musts_values;
mod namespaces;
mod net_devices;
mod oracle;
mod paths;
mod privileges;
mod process;
mod regressions;
mod resources;
mod resources_io;
mod resources_reader;
mod root;
mod rootless;
mod scheduling;
mod seccomp;
mod seccomp_listener;
mod state_faults;
mod systemd;
mod systemd_bus;
mod systemd_limits;
mod terminal;
mod time_namespaces;
mod update;

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use conformance::musts::{self, Known};
use conformance::runtime;
use conformance::test::{Done, Skip, Suite, Test, set_apart};
use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// A test: the rows of the specification it proves, its name, itself.
struct Case {
    ids: &'static str,
    name: &'static str,
    test: fn(&Test<'_>) -> Done,
}

/// Lists a file's tests: `"R-31" => start_refused_unless_created,`. The id is that of
/// a row of musts.tsv that the test proves; several have commas between them.
macro_rules! cases {
    ($($ids:literal => $name:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::Case] =
            &[$(crate::Case { ids: $ids, name: stringify!($name), test: $name }),*];
    };
}
pub(crate) use cases;

/// Every file of tests, in the order they are run.
const TOPICS: &[(&str, &[Case])] = &[
    ("oracle", oracle::CASES),
    ("lifecycle", lifecycle::CASES),
    ("cli", cli::CASES),
    ("features", features::CASES),
    ("commands", commands::CASES),
    ("errors", errors::CASES),
    ("exec", exec::CASES),
    ("process", process::CASES),
    ("fds", fds::CASES),
    ("terminal", terminal::CASES),
    ("mounts", mounts::CASES),
    ("mount_targets", mount_targets::CASES),
    ("mount_options", mount_options::CASES),
    ("copy_up", copy_up::CASES),
    ("root", root::CASES),
    ("layers", layers::CASES),
    ("rootless", rootless::CASES),
    ("devices", devices::CASES),
    ("paths", paths::CASES),
    ("namespaces", namespaces::CASES),
    ("time_namespaces", time_namespaces::CASES),
    ("host_mounts", host_mounts::CASES),
    ("ids", ids::CASES),
    ("hooks", hooks::CASES),
    ("hook_failures", hook_failures::CASES),
    ("cgroups", cgroups::CASES),
    ("cgroups_nested", cgroups_nested::CASES),
    ("labels", labels::CASES),
    ("landlock", landlock::CASES),
    ("resources", resources::CASES),
    ("resources_io", resources_io::CASES),
    ("resources_reader", resources_reader::CASES),
    ("limits", limits::CASES),
    ("limits_bite", limits_bite::CASES),
    ("mapped_ids", mapped_ids::CASES),
    ("update", update::CASES),
    ("events", events::CASES),
    ("systemd", systemd::CASES),
    ("systemd_limits", systemd_limits::CASES),
    ("systemd_bus", systemd_bus::CASES),
    ("misc", misc::CASES),
    ("scheduling", scheduling::CASES),
    ("net_devices", net_devices::CASES),
    ("seccomp", seccomp::CASES),
    ("seccomp_listener", seccomp_listener::CASES),
    ("state_faults", state_faults::CASES),
    ("fallbacks", fallbacks::CASES),
    ("privileges", privileges::CASES),
    ("musts_state", musts_state::CASES),
    ("musts_hooks", musts_hooks::CASES),
    ("musts_mounts", musts_mounts::CASES),
    ("musts_values", musts_values::CASES),
    ("musts_random", musts_random::CASES),
    ("regressions", regressions::CASES),
    ("hostile", hostile::CASES),
];

thread_local! {
    /// Where and why the running test has panicked.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

fn main() -> ExitCode {
    env_logger::init();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let skips = Arc::new(Mutex::new(Vec::new()));
    if arguments.list {
        let listed = libtest_mimic::run(&arguments, trials(None, &skips)).exit_code();
        return if table_is_true() { listed } else { ExitCode::FAILURE };
    }
    set_apart("the suite needs root");
    let suite = Arc::new(Suite::new(runtime::program()));
    panic::set_hook(Box::new(|info| PANIC.with(|text| *text.borrow_mut() = info.to_string())));
    let conclusion = libtest_mimic::run(&arguments, trials(Some(&suite), &skips));
    let skips = skips.lock().map(|list| list.clone()).unwrap_or_default();
    if !skips.is_empty() {
        println!("skipped:");
    }
    for (name, reason) in &skips {
        println!("  {name}: {reason}");
    }
    println!("{} passed, {} failed, {} skipped", conclusion.num_passed, conclusion.num_failed, conclusion.num_ignored);
    if conclusion.has_failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Whether musts.tsv is true of these tests; says on standard error what is not.
fn table_is_true() -> bool {
    let tests: Vec<_> = TOPICS
        .iter()
        .flat_map(|(topic, cases)| cases.iter().map(move |case| (topic, case)))
        .map(|(topic, case)| Known { ids: case.ids.to_owned(), name: format!("{topic}::{}", case.name) })
        .collect();
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let faults = musts::faults(include_str!("../../musts.tsv"), &tests, workspace.as_ref());
    for fault in &faults {
        eprintln!("musts.tsv: {fault}");
    }
    faults.is_empty()
}

type Skips = Arc<Mutex<Vec<(String, String)>>>;

fn trials(suite: Option<&Arc<Suite>>, skips: &Skips) -> Vec<Trial> {
    let all = TOPICS.iter().flat_map(|(topic, cases)| cases.iter().map(move |case| (topic, case)));
    all.map(|(topic, case)| {
        let ids = if case.ids.is_empty() { String::new() } else { format!("{}_", case.ids) };
        let name = format!("{topic}::{ids}{}", case.name);
        let (suite, skips, test, title) = (suite.cloned(), skips.clone(), case.test, name.clone());
        Trial::ignorable_test(name, move || {
            let suite = suite.ok_or("only listed")?;
            let outcome = carry_out(&suite, test)?;
            let Err(Skip(reason)) = outcome else { return Ok(Completion::Completed) };
            if let Ok(mut list) = skips.lock() {
                list.push((title, reason.clone()));
            }
            Ok(Completion::ignored_with(reason))
        })
    })
    .collect()
}

/// Runs one test, ends what it left, and fails it for leaks too.
fn carry_out(suite: &Suite, body: fn(&Test<'_>) -> Done) -> Result<Done, Failed> {
    let test = suite.begin();
    let attempt =
        |job: &dyn Fn() -> Done| panic::catch_unwind(AssertUnwindSafe(job)).map_err(|_| PANIC.with(|text| text.take()));
    let outcome = attempt(&|| body(&test));
    let mut faults = Vec::new();
    let skipped = match outcome {
        Ok(done) => done,
        Err(fault) => {
            faults.push(fault);
            Ok(())
        }
    };
    // After a failure leaks are likely, and say nothing new.
    if faults.is_empty() {
        let leaks = RefCell::new(Vec::new());
        let finish = || {
            *leaks.borrow_mut() = test.finish();
            Ok(())
        };
        faults.extend(attempt(&finish).err());
        faults.extend(leaks.take().into_iter().map(|leak| format!("left behind: {leak}")));
    }
    let transcript = if faults.is_empty() { String::new() } else { test.runtime.transcript() };
    drop(test);
    faults.extend(suite.clean_up());
    if faults.is_empty() { Ok(skipped) } else { Err(format!("{}\n{transcript}", faults.join("\n")).into()) }
}
