//! The runtimes that a case is tried on, side by side, and the table of what came of it.

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use conformance::runtime::Output;
use conformance::test::{Done, Skip, Suite, Test};

/// What came of a row with one runtime, in words for the table.
pub(crate) type Outcome = Result<String, Skip>;

/// A row: its name, and what is tried.
pub(crate) type Row<'a> = (&'a str, &'a dyn Fn(&Test<'_>) -> Outcome);

struct Side {
    name: String,
    under_test: bool,
    suite: Suite,
}

static SIDES: OnceLock<Vec<Side>> = OnceLock::new();
static TABLE: Mutex<Vec<[String; 3]>> = Mutex::new(Vec::new());
/// How many characters of the calls of a failure are shown.
const TRANSCRIPT: usize = 2500;
/// The message of the last panic.
static MESSAGE: Mutex<String> = Mutex::new(String::new());
/// Whether a failure is only told in the table.
static QUIET: AtomicBool = AtomicBool::new(false);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Prints the whole table when it is dropped.
pub(crate) struct Summary;

impl Drop for Summary {
    fn drop(&mut self) {
        let table = lock(&TABLE);
        let mut names: Vec<&str> = table.iter().map(|[row, ..]| row.as_str()).collect();
        names.dedup();
        let sides: Vec<&str> = SIDES.get().into_iter().flatten().map(|side| side.name.as_str()).collect();
        println!("all outcomes, each in a word:\n  | {:<60} | {} |", "", sides.join(" | "));
        for name in names {
            let of = |side: &&str| {
                let found = table.iter().find(|[row, runtime, _]| row == name && runtime == side);
                found.map_or("-", |[_, _, outcome]| outcome.split([':', ' ', ',']).next().unwrap_or_default())
            };
            println!("  | {name:<60} | {} |", sides.iter().map(of).collect::<Vec<_>>().join(" | "));
        }
    }
}

/// Finds the runtimes.
pub(crate) fn begin() -> Summary {
    let under_test = crate::runtime();
    let peers = if std::env::var_os("PEERS").is_some_and(|value| value.is_empty()) {
        [].as_slice()
    } else {
        &["/usr/sbin/runc", "/usr/bin/crun"]
    };
    let mut programs: Vec<PathBuf> = peers.iter().map(PathBuf::from).collect();
    programs.retain(|program| *program != under_test);
    programs.push(under_test.clone());
    let sides = programs.into_iter().map(|program| Side {
        name: program.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        under_test: program == under_test,
        suite: Suite::new(program),
    });
    assert!(SIDES.set(sides.collect()).is_ok(), "only one engine is begun");
    panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("a panic without a message");
        let place = info.location().map(|place| format!("{}:{}", file_name(place.file()), place.line()));
        if !QUIET.load(Ordering::Relaxed) {
            println!("  {}: {text}", place.as_deref().unwrap_or_default());
        }
        *lock(&MESSAGE) = format!("{text} ({})", place.unwrap_or_default());
    }));
    Summary
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Tries each row on each runtime, and prints what came of it. Fails if the one under test fails a row.
pub(crate) fn rows(rows: &[Row<'_>]) -> Done {
    let (mut failed, mut passed, mut skips) = (Vec::new(), 0, Vec::new());
    let mut table = Vec::new();
    for (name, trial) in rows {
        for side in SIDES.get().expect("begun") {
            let outcome = try_on(side, trial);
            let text = match outcome {
                Ok(Ok(text)) => {
                    passed += u32::from(side.under_test);
                    text
                }
                Ok(Err(Skip(reason))) => {
                    let text = format!("untried: {reason}");
                    skips.extend(side.under_test.then_some(reason));
                    text
                }
                Err(problem) => {
                    failed.extend(side.under_test.then(|| format!("{name}: {problem}")));
                    format!("FAILED: {}", gist(&problem))
                }
            };
            table.push([(*name).to_owned(), side.name.clone(), one_line(&text)]);
        }
    }
    print(&table);
    lock(&TABLE).extend(table);
    assert!(failed.is_empty(), "{}", failed.join("\n  "));
    if passed == 0 { Err(Skip(skips.join("; "))) } else { Ok(()) }
}

/// The outcome; or how the trial failed, or what it left.
fn try_on(side: &Side, trial: &dyn Fn(&Test<'_>) -> Outcome) -> Result<Outcome, String> {
    QUIET.store(!side.under_test, Ordering::Relaxed);
    let mut test = side.suite.begin();
    // The usual place: crun restores nothing with another one.
    test.runtime.root = Path::new("/run").join(&side.name);
    let done = panic::catch_unwind(AssertUnwindSafe(|| trial(&test)));
    let mut outcome = match done {
        Ok(outcome) => Ok(outcome),
        Err(_) => Err(lock(&MESSAGE).clone()),
    };
    let left = panic::catch_unwind(AssertUnwindSafe(|| test.finish())).unwrap_or_else(|_| vec![lock(&MESSAGE).clone()]);
    if let (Ok(Ok(text)), false) = (&outcome, left.is_empty()) {
        let text = format!("{text}, and left: {}", left.join("; "));
        // Others are only told of, where they do not even say that all is well.
        outcome = if test.is_proa() || text.starts_with("ok") { Err(text) } else { Ok(Ok(text)) };
    }
    QUIET.store(false, Ordering::Relaxed);
    if side.under_test && outcome.is_err() {
        let calls = test.runtime.transcript();
        let last = calls.char_indices().rev().nth(TRANSCRIPT).map_or(0, |(at, _)| at);
        println!("{}", &calls[last..]);
        logs(&test.dir);
    }
    let states = test.runtime.root.clone();
    drop(test);
    let mut unclean = side.suite.clean_up();
    unclean.extend(clear(&states));
    if !unclean.is_empty() {
        println!("  {}: {}", side.name, unclean.join("; "));
    }
    outcome
}

/// Removes what is left in a runtime's state directory, also what is mounted there.
fn clear(states: &Path) -> Vec<String> {
    for mount in conformance::look::mounts(std::process::id() as i32).iter().rev() {
        if mount.mount_point.starts_with(states) {
            // If it stays, the directory cannot be removed, which is told.
            nix::mount::umount2(&mount.mount_point, nix::mount::MntFlags::MNT_DETACH).ok();
        }
    }
    let gone = std::fs::remove_dir_all(states);
    gone.err().filter(|_| states.exists()).map(|error| format!("{}: {error}", states.display())).into_iter().collect()
}

/// What CRIU complained of, in the logs below `dir`.
fn logs(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) && !path.ends_with("rootfs") {
            logs(&path);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
            let bad: Vec<_> = text.lines().filter(|line| line.contains("Error") || line.contains("error")).collect();
            for line in &bad[bad.len().saturating_sub(8)..] {
                println!("  {}: {line}", path.strip_prefix("/tmp").unwrap_or(&path).display());
            }
        }
    }
}

fn print(table: &[[String; 3]]) {
    for [row, runtime, outcome] in table {
        println!("  | {row:<60} | {runtime:<5} | {outcome} |");
    }
}

/// A text without its line breaks and without the names of temporary directories.
fn one_line(text: &str) -> String {
    let short =
        |word: &str| if let Some(at) = word.find("/tmp/cf") { word[..at].to_owned() + "/..." } else { word.to_owned() };
    let line = text.split_whitespace().map(short).collect::<Vec<_>>().join(" ").replace('|', "/");
    if line.chars().count() > 260 { line.chars().take(257).collect::<String>() + "..." } else { line }
}

/// Without the command that failed, and without what runc and crun quote of CRIU's log but its errors.
fn gist(text: &str) -> String {
    let Some((before, said)) = text.split_once("failed: exit status: ") else { return text.to_owned() };
    let command = before.split(" --root ").nth(1).and_then(|rest| rest.split(' ').nth(1)).unwrap_or(before);
    format!("{command}: {}", errors(said.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':')))
}

/// The errors among what a runtime said.
fn errors(said: &str) -> String {
    let known = ["Can't setup RLIMIT_NOFILE", "recv req error", "FAILED", "Dump core"];
    let of_criu = |line: &&str| line.contains("Error (") && !known.iter().any(|word| line.contains(word));
    let mut found: Vec<&str> = said.lines().filter(of_criu).collect();
    found.extend(said.lines().filter(|line| line.contains("level=error")));
    if found.is_empty() {
        found = said.lines().filter(|line| !line.trim().is_empty()).take(1).collect();
    }
    let words = |line: &&str| line.rsplit_once("msg=").map_or(*line, |(_, message)| message).trim().to_owned();
    found.iter().map(words).collect::<Vec<_>>().join(" / ")
}

/// The word for what worked.
pub(crate) fn ok() -> Outcome {
    Ok("ok".to_owned())
}

/// How a runtime refused what it was asked for.
pub(crate) fn refusal(output: &Output) -> String {
    format!("refused: {}", errors(&output.stderr()))
}

/// proa refused this with one line that has these words in it (any one of them), and left nothing, or only what there
/// was before; of others it is told what they did.
#[track_caller]
pub(crate) fn refused(t: &Test<'_>, output: &Output, words: &[&str]) -> Outcome {
    if t.is_proa() {
        let said = output.stderr();
        assert!(!output.status.success(), "{} succeeded", output.command);
        assert!(output.status.code().is_some(), "{} was killed", output.command);
        assert_eq!(said.trim().lines().count(), 1, "an error is one line: {said}");
        let found = words.iter().any(|word| said.to_lowercase().contains(&word.to_lowercase()));
        assert!(found || words.is_empty(), "says none of {words:?} but {said:?}");
    }
    Ok(if output.status.success() { "succeeded".to_owned() } else { refusal(output) })
}
