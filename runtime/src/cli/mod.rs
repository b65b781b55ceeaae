//! The command line: one thin file per command, over tables that help, completion and man pages are made from too.

mod bundle;
mod checkpoint;
mod create;
mod delete;
mod events;
pub(crate) mod exec;
mod features;
mod flags;
mod generated;
mod help;
mod image;
mod kill;
mod list;
mod network;
mod pause;
mod plan;
mod ps;
mod restore;
mod run;
pub(crate) mod spec;
mod start;
mod state;
mod table;
mod update;
mod volume;

use crate::error::{Context, Error, Result};
use crate::logging;
use crate::plan::{CgroupManager, is_in_user_namespace};
use crate::state::{Record, StateDir, StateRoot};
use flags::{Outcome, Parsed};
use log::LevelFilter;
use rustix::io::Errno;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

/// What every command gets.
struct App<'a> {
    parsed: Parsed<'a>,
    root: PathBuf,
    /// `--root` was given: it has to be there for commands that only read.
    root_given: bool,
    cgroup_manager: CgroupManager,
    /// `--rootless`, unless it is left to us.
    rootless: Option<bool>,
}

/// Runs the command line; the status for the shell.
///
/// `words` are those of `args` without the program's name.
pub(crate) fn main(words: &[&str], args: &[&CStr]) -> i32 {
    match flags::parse(words) {
        Ok(Outcome::Run(parsed)) => command(parsed, args),
        Ok(Outcome::Help(command)) => finish(print(&help::text(command))),
        Ok(Outcome::Version) => finish(print(&version())),
        Err(error) => {
            start_log_for(words);
            logging::fail(&error.to_string());
            i32::from(error.exit_code())
        }
    }
}

/// For a command line that cannot be parsed: who drives proa reads the log it asked for.
fn start_log_for(words: &[&str]) {
    let value = |name: &str| {
        let at = words.iter().position(|word| word.trim_start_matches('-').split('=').next() == Some(name))?;
        words[at].split_once('=').map(|(_, value)| value).or_else(|| words.get(at + 1).copied())
    };
    let json = value("log-format") == Some("json");
    // If that fails too, there is standard error.
    logging::start(&logging::Settings { file: value("log"), json, level: LevelFilter::Warn }).ok();
}

fn command(parsed: Parsed<'_>, args: &[&CStr]) -> i32 {
    let exec = parsed.command.name == "exec";
    // Before anything is opened, the log too.
    let entered = create::enter_safely(&parsed, args);
    let app = match App::new(parsed) {
        Ok(app) => app,
        Err(message) => {
            logging::fail(&message);
            return 1;
        }
    };
    match entered.and_then(|()| app.dispatch()) {
        Ok(status) => {
            logging::finish();
            status
        }
        Err(error) => {
            logging::fail(&error.to_string());
            // As runc: an exec that fails by itself is told from a program that exits with 1.
            if exec { 255 } else { 1 }
        }
    }
}

fn finish(done: Result<()>) -> i32 {
    match done {
        Ok(()) => 0,
        Err(error) => {
            logging::fail(&error.to_string());
            1
        }
    }
}

impl<'a> App<'a> {
    fn new(parsed: Parsed<'a>) -> std::result::Result<App<'a>, String> {
        let global = &parsed.global;
        let json = match global.get("log-format") {
            None | Some("text" | "") => false,
            Some("json") => true,
            Some(other) => return Err(format!("--log-format {other:?} is neither text nor json")),
        };
        let level = match (global.has("debug"), global.get("log-level")) {
            (true, _) | (_, Some("debug")) => LevelFilter::Debug,
            (_, None | Some("warning" | "warn" | "info")) => LevelFilter::Warn,
            (_, Some("error")) => LevelFilter::Error,
            (_, Some(other)) => return Err(format!("--log-level {other:?} is none of error, warning, debug")),
        };
        logging::start(&logging::Settings { file: global.get("log"), json, level })?;
        let rootless = match global.get("rootless") {
            None | Some("auto") => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(other) => return Err(format!("--rootless {other:?} is none of true, false, auto")),
        };
        let systemd = global.has("systemd-cgroup");
        let cgroup_manager = match global.get("cgroup-manager") {
            None | Some("cgroupfs") if systemd => CgroupManager::Systemd,
            None | Some("cgroupfs") => CgroupManager::Cgroupfs,
            Some("systemd") => CgroupManager::Systemd,
            Some("disabled") => CgroupManager::Disabled,
            Some(other) => return Err(format!("--cgroup-manager {other:?} is none of cgroupfs, systemd, disabled")),
        };
        let root = match global.get("root").filter(|root| !root.is_empty()) {
            Some(root) => std::path::absolute(root).map_err(|error| format!("--root {root:?}: {error}"))?,
            None => default_root(),
        };
        if root == Path::new("/") {
            return Err("--root must not be /".into());
        }
        let root_given = global.get("root").is_some();
        Ok(App { parsed, root, root_given, cgroup_manager, rootless })
    }

    /// Calls the command through a pointer, so that none is inlined here: each would pay for the stack of the greediest,
    /// a page fault for every 4 KiB.
    fn dispatch(&self) -> Result<i32> {
        let command: fn(&App<'_>) -> Result<i32> = match self.parsed.command.name {
            "create" => |app| create::command(app).map(|()| 0),
            "run" => run::command,
            "start" => |app| start::command(app).map(|()| 0),
            "exec" => exec::command,
            "state" => |app| state::command(app).map(|()| 0),
            "kill" => |app| kill::command(app).map(|()| 0),
            "delete" => |app| delete::command(app).map(|()| 0),
            "list" => |app| list::command(app).map(|()| 0),
            "ps" => |app| ps::command(app).map(|()| 0),
            "pause" => |app| pause::pause(app).map(|()| 0),
            "resume" => |app| pause::resume(app).map(|()| 0),
            "update" => |app| update::command(app).map(|()| 0),
            "checkpoint" => |app| checkpoint::command(app).map(|()| 0),
            "restore" => restore::command,
            "events" => |app| events::command(app).map(|()| 0),
            "bundle create" => bundle::create,
            "bundle ls" => bundle::ls,
            "bundle rm" => bundle::rm,
            "image import" => image::import,
            "image ls" => image::ls,
            "image rm" => image::rm,
            "image prune" => image::prune,
            "volume create" => volume::create,
            "volume ls" => volume::ls,
            "volume inspect" => volume::inspect,
            "volume rm" => volume::rm,
            "volume prune" => volume::prune,
            "network ls" => |app| network::ls(app).map(|()| 0),
            "network prune" => |app| network::prune(app).map(|()| 0),
            "network hooks" => |app| network::hooks(app).map(|()| 0),
            "cni" => |app| network::cni(app).map(|()| 0),
            "spec" => |app| spec::command(app).map(|()| 0),
            "features" => |_| features::command().map(|()| 0),
            "plan" => |app| plan::command(app).map(|()| 0),
            "completion" => |app| app.generated(generated::completion(app.arg(0)), "shell").map(|()| 0),
            "man" => |app| app.generated(generated::man_page(&app.parsed.args), "command").map(|()| 0),
            later => {
                return Err(Error::Usage(format!("the command {later} is not supported by this version of proa")));
            }
        };
        command(self)
    }

    fn generated(&self, text: Option<&str>, kind: &str) -> Result<()> {
        match text {
            Some(text) => print(text),
            None => Err(Error::Usage(format!("no such {kind}: {:?}", self.parsed.args.join(" ")))),
        }
    }

    fn arg(&self, index: usize) -> &'a str {
        self.parsed.args.get(index).copied().unwrap_or_default()
    }

    fn flag(&self, name: &str) -> bool {
        self.parsed.values.has(name)
    }

    /// The value of a flag; an empty one counts as none.
    fn value(&self, name: &str) -> Option<&'a str> {
        self.parsed.values.get(name).filter(|value| !value.is_empty())
    }

    /// The container named first on the command line.
    fn container(&self) -> Result<(StateRoot, StateDir)> {
        let id = self.arg(0);
        crate::state::check_id(id)?;
        let root = StateRoot::open(&self.root)?.ok_or_else(|| Error::NoContainer(id.to_owned()))?;
        let dir = root.container(id)?;
        Ok((root, dir))
    }
}

/// The text of a container's record, which the record borrows from.
fn record_text(dir: &StateDir) -> Result<String> {
    dir.read()?.ok_or_else(|| Error::NoContainer(dir.id.clone()))
}

/// Calls `with` for a container that exists.
fn with_record<T>(app: &App<'_>, with: impl FnOnce(&StateRoot, &StateDir, &Record<'_>) -> Result<T>) -> Result<T> {
    let (root, dir) = app.container()?;
    let text = record_text(&dir)?;
    let record = dir.parse(&text)?;
    let done = with(&root, &dir, &record);
    // The command is over: the kernel closes them.
    std::mem::forget((root, dir));
    done
}

/// /run/proa for root, else below the user's runtime directory. Root of a user namespace is such a user, but where USER
/// says that it is root for the whole of a session.
fn default_root() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    let root = || rustix::process::geteuid().is_root();
    let named_root = || std::env::var_os("USER").is_some_and(|user| user == "root");
    match runtime {
        Some(dir) if !root() || (is_in_user_namespace() && !named_root()) => Path::new(&dir).join("proa"),
        _ => PathBuf::from("/run/proa"),
    }
}

/// The newest version of the runtime-spec that is followed, and the oldest.
const SPEC_VERSIONS: (&str, &str) = ("1.0.0", "1.3.0");
const COMMIT: &str = match option_env!("PROA_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

fn version() -> String {
    format!("proa version {}\ncommit: {COMMIT}\nspec: {}\n", env!("CARGO_PKG_VERSION"), SPEC_VERSIONS.1)
}

/// Writes all of it to standard output. A reader that has gone away is no error of ours.
fn print(text: &str) -> Result<()> {
    is_read(text).map(drop)
}

/// A text that somebody else may have chosen, without what a terminal would take for a command.
fn printable(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// The same as [`print`]; false if the reader has gone away.
fn is_read(text: &str) -> Result<bool> {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(Errno::PIPE) => return Ok(false),
            done => return done.map(|_| true).context(|| "write to standard output".to_owned()),
        }
    }
    Ok(true)
}

/// `value` as JSON on a line.
fn json_line(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map(|text| text + "\n").map_err(|error| Error::Usage(error.to_string()))
}

/// `value` as a file of JSON.
pub(crate) fn pretty_text(value: &impl serde::Serialize) -> Result<String> {
    pretty(value, "\t").map(|text| text + "\n")
}

/// `value` as JSON with this indent.
fn pretty(value: &impl serde::Serialize, indent: &str) -> Result<String> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    value
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        .map_err(|error| Error::Usage(error.to_string()))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
