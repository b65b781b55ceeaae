//! One fault at a time, at every system call that a command of the runtime makes: the call fails, or the process is
//! killed there. The command then has to work or to say what failed, and `delete --force` to leave nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use conformance::bundle::{Bundle, Template};
use conformance::inject::{self, Call, End, Fault, Point};
use conformance::leaks::{self, Scope, Snapshot};
use conformance::{calls, look, reaper, runtime, sys};
use nix::errno::Errno;
use nix::libc;
use serde_json::json;

/// Fails each system call of each command in turn, and kills proa and the container's first process at each
#[derive(Parser)]
struct Options {
    /// Commands to try
    #[arg(default_values = COMMANDS, value_parser = clap::builder::PossibleValuesParser::new(COMMANDS))]
    commands: Vec<String>,
    /// Every how many points, with one error for each
    #[arg(long, default_value_t = 1)]
    every: usize,
    /// Only this kind of fault: an error such as EIO, or kill
    #[arg(long)]
    fault: Option<String>,
    /// Calls that fail do so from then on
    #[arg(long)]
    lasting: bool,
    /// Only this point, as reports name it: PROCESS.CALL
    #[arg(long)]
    point: Option<String>,
}

const COMMANDS: [&str; 5] = ["create", "start", "exec", "delete", "run"];

/// How long a command may take. The longest waits of proa's own are a few seconds.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|word| word == "--inject") {
        return tracer(&arguments[2..]);
    }
    let options = Options::parse();
    sys::become_subreaper().expect("cannot become a subreaper");
    let tag = format!("fa{}", std::process::id());
    let base = tempfile::Builder::new().prefix(&tag).tempdir().expect("no temporary directory");
    let template = Template::prepare(base.path());
    let bench = Bench::new(base.path(), &template, tag);
    let mut verdict = ExitCode::SUCCESS;
    for command in &options.commands {
        if !bench.every_point(command, &options) {
            verdict = ExitCode::FAILURE;
        }
    }
    verdict
}

/// `--inject REPORT ALSO FAULT PROGRAM...`: traces PROGRAM, with its fault, and writes down what happened.
fn tracer(arguments: &[String]) -> ExitCode {
    let [report, also, fault, program, rest @ ..] = arguments else { return ExitCode::from(125) };
    let mut command = Command::new(program);
    command.args(rest);
    let traced = match inject::run(&mut command, also.parse().ok(), parse_fault(fault)) {
        Ok(traced) => traced,
        Err(errno) => {
            eprintln!("faults: cannot trace {program}: {errno}");
            return ExitCode::from(125);
        }
    };
    let end = match traced.end {
        End::Exited(code) => format!("exit {code}"),
        End::Signaled(signal) => format!("signal {}", signal as i32),
    };
    let calls: String = traced
        .calls
        .iter()
        .map(|call| format!("{}.{} {}\n", call.point.process, call.point.call, call.number))
        .collect();
    fs::write(report, format!("{end} {}\n{calls}", u8::from(traced.hit))).expect("cannot write the report");
    ExitCode::SUCCESS
}

fn parse_point(text: &str) -> Option<Point> {
    let (process, call) = text.split_once('.')?;
    Some(Point { process: process.parse().ok()?, call: call.parse().ok()? })
}

fn parse_fault(text: &str) -> Option<(Point, Fault)> {
    let (point, fault) = text.split_once(':')?;
    let fault = match fault {
        "kill" => Fault::Kill,
        number if number.ends_with('+') => Fault::Lasting(Errno::from_raw(number.trim_end_matches('+').parse().ok()?)),
        number => Fault::Error(Errno::from_raw(number.parse().ok()?)),
    };
    Some((parse_point(point)?, fault))
}

fn name_of(fault: Fault) -> String {
    match fault {
        Fault::Kill => "kill".to_owned(),
        Fault::Error(errno) => format!("{errno:?}"),
        Fault::Lasting(errno) => format!("{errno:?}+"),
    }
}

/// How a command ended under the tracer.
struct Outcome {
    /// None: it did not.
    end: Option<(String, i32)>,
    hit: bool,
    calls: Vec<Call>,
    stdout: String,
    stderr: String,
}

struct Bench {
    program: PathBuf,
    root: PathBuf,
    /// A container that says hello and stays.
    stays: PathBuf,
    /// One that says hello and ends.
    ends: PathBuf,
    scope: Scope,
    before: Snapshot,
}

impl Bench {
    fn new(base: &Path, template: &Template, tag: String) -> Self {
        let bundle = |name: &str, script: &str| {
            let mut bundle = Bundle::new(base.join(name), template);
            bundle.sh(script).process("rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}]));
            bundle.process("oomScoreAdj", json!(100)).linux("sysctl", json!({"net.ipv4.ip_forward": "0"}));
            if look::own_controller("pids").is_some() {
                bundle.config["linux"]["resources"]["pids"] = json!({"limit": 50});
            }
            bundle.write();
            bundle.path
        };
        let (stays, ends) = (bundle("stays", "echo hello; exec sleep 1000"), bundle("ends", "echo hello"));
        let scope = Scope { base: base.to_owned(), tag };
        let root = base.join("root");
        fs::create_dir(&root).expect("cannot make a directory");
        Bench { program: runtime::program(), root, stays, ends, before: scope.snapshot(), scope }
    }

    /// All points of one command; whether it withstood every fault.
    fn every_point(&self, command: &str, options: &Options) -> bool {
        let began = Instant::now();
        let calls = match self.attempt(command, 0, None) {
            Ok(calls) => calls,
            Err(problem) => {
                println!("FAULT {command} without a fault: {problem}");
                return false;
            }
        };
        let only = options.point.as_deref().map(|text| parse_point(text).expect("--point is PROCESS.CALL"));
        let (mut tried, mut missed, mut survived) = (0, 0, 0);
        let mut by_kind: BTreeMap<String, usize> = BTreeMap::new();
        let mut problems = BTreeSet::new();
        for (at, call) in calls.iter().enumerate() {
            if only.is_some_and(|only| only != call.point) {
                continue;
            }
            let mut faults = calls::faults(call.number);
            if options.lasting {
                // A call that is broken off for ever is made for ever.
                let lasting = |fault: Fault| match fault {
                    Fault::Error(errno) if errno != Errno::EINTR => Some(Fault::Lasting(errno)),
                    _ => None,
                };
                faults = faults.into_iter().filter_map(lasting).collect();
            }
            if let Some(name) = &options.fault {
                faults.retain(|fault| name_of(*fault) == *name);
            }
            if options.every > 1 {
                // Each call meets another of its faults.
                if at % options.every != 0 || faults.is_empty() {
                    continue;
                }
                faults = vec![faults[at / options.every % faults.len()]];
            }
            for fault in faults {
                tried += 1;
                match self.attempt(command, tried, Some((call.point, fault))) {
                    Ok(calls) if calls.is_empty() => missed += 1,
                    Ok(_) => {
                        survived += 1;
                        *by_kind.entry(name_of(fault)).or_default() += 1;
                    }
                    Err(problem) => {
                        let Point { process, call: number } = call.point;
                        let name = calls::name(call.number);
                        let text = format!("{command} {process}.{number} {name} {}: {problem}", name_of(fault));
                        println!("FAULT {text}");
                        problems.insert(text);
                        for left in leaks::sweep(&self.scope.base, &self.scope.tag) {
                            println!("      {left}");
                        }
                        fs::remove_dir_all(&self.root).ok();
                        fs::create_dir(&self.root).expect("cannot make a directory");
                    }
                }
            }
        }
        let kinds: Vec<_> = by_kind.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        println!(
            "{command}: {} calls, {tried} points tried, {survived} survived, {missed} not reached, {} faults, {:.0?} ({})",
            calls.len(),
            problems.len(),
            began.elapsed(),
            kinds.join(", "),
        );
        if survived == 0 {
            println!("FAULT {command}: nothing was tried");
        }
        problems.is_empty() && survived > 0
    }

    /// One life of a container, with a fault in one command of it. The calls that command made; none if it did not come
    /// to the fault.
    fn attempt(&self, command: &str, number: usize, fault: Option<(Point, Fault)>) -> Result<Vec<Call>, String> {
        let id = format!("{}-{command}{number}", self.scope.tag);
        let out = self.root.with_file_name("container.out");
        let also = self.prepare(command, &id, &out)?;
        let outcome = self.traced(command, &id, also, fault, &out);
        self.judge(command, &id, &outcome, fault, &out)?;
        self.must(&["list", "--quiet"], None)?;
        self.must(&["delete", "--force", &id], None)?;
        let left = self.scope.leaks(&self.before, &self.root);
        if !left.is_empty() {
            return Err(format!("left behind: {}; it had said {:?}", left.join(", "), outcome.stderr.trim()));
        }
        if fault.is_some() && !outcome.hit { Ok(Vec::new()) } else { Ok(outcome.calls) }
    }

    /// Brings the container to where the command begins; its first process, where that is to be traced too.
    fn prepare(&self, command: &str, id: &str, out: &Path) -> Result<Option<i32>, String> {
        let stays = self.stays.to_string_lossy().into_owned();
        if !matches!(command, "create" | "run") {
            self.must(&["create", "--bundle", &stays, id], Some(out))?;
        }
        if matches!(command, "exec" | "delete") {
            self.must(&["start", id], None)?;
            hello(out)?;
        }
        if command == "delete" {
            self.must(&["kill", id, "KILL"], None)?;
            let stopped = || self.status(id).as_deref() == Some("stopped");
            if !look::eventually_within(PATIENCE, stopped) {
                return Err("a killed container does not stop".to_owned());
            }
        }
        Ok(if command == "start" { self.state(id).and_then(|state| Some(state["pid"].as_i64()? as i32)) } else { None })
    }

    fn traced(&self, command: &str, id: &str, also: Option<i32>, fault: Option<(Point, Fault)>, out: &Path) -> Outcome {
        let (report, errors) = (out.with_file_name("report"), out.with_file_name("errors"));
        fs::remove_file(&report).ok();
        let own = std::env::current_exe().expect("no path of this program");
        let mut call = Command::new(own);
        call.arg("--inject").arg(&report).arg(also.map_or("-".to_owned(), |pid| pid.to_string()));
        call.arg(match fault {
            None => "-".to_owned(),
            Some((point, Fault::Kill)) => format!("{}.{}:kill", point.process, point.call),
            Some((point, Fault::Error(errno))) => format!("{}.{}:{}", point.process, point.call, errno as i32),
            Some((point, Fault::Lasting(errno))) => format!("{}.{}:{}+", point.process, point.call, errno as i32),
        });
        call.arg(&self.program).arg("--root").arg(&self.root).arg(command);
        match command {
            "create" => call.arg("--bundle").arg(&self.stays).arg(id),
            "run" => call.arg("--bundle").arg(&self.ends).arg(id),
            "exec" => call.args([id, "/bin/echo", "inside"]),
            _ => call.arg(id),
        };
        let own_out = if matches!(command, "create" | "run") { out.to_owned() } else { out.with_file_name("out") };
        let file = |path: &Path| fs::File::create(path).expect("cannot make a file");
        call.stdin(Stdio::null()).stdout(file(&own_out)).stderr(file(&errors));
        let ended = ends(&mut call);
        let text = fs::read_to_string(&report).unwrap_or_default();
        let mut lines = text.lines();
        let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let (end, hit) = match words[..] {
            [how, number, hit] if ended => (Some((how.to_owned(), number.parse().unwrap_or(-1))), hit == "1"),
            _ => (None, false),
        };
        let read = |line: &str| {
            let (point, number) = line.split_once(' ')?;
            Some(Call { point: parse_point(point)?, number: number.parse().ok()? })
        };
        let words = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        Outcome { end, hit, calls: lines.filter_map(read).collect(), stdout: words(&own_out), stderr: words(&errors) }
    }

    /// Whether the command has worked as it says, or says why not.
    fn judge(
        &self,
        command: &str,
        id: &str,
        outcome: &Outcome,
        fault: Option<(Point, Fault)>,
        out: &Path,
    ) -> Result<(), String> {
        let said = outcome.stderr.trim();
        let child_fault = matches!(fault, Some((Point { process: 1.., .. }, _)));
        let writes = |number| [libc::SYS_write, libc::SYS_writev].contains(&number);
        let cannot_write = match fault {
            Some((point, Fault::Lasting(_))) => {
                outcome.calls.iter().any(|call| call.point == point && writes(call.number))
            }
            _ => false,
        };
        let killed = matches!(fault, Some((Point { process: 0, .. }, Fault::Kill)));
        match &outcome.end {
            None => Err(format!("no end within {PATIENCE:?}; it had said {said:?}")),
            Some((how, number)) if how == "signal" => match *number {
                9 if killed => Ok(()),
                number => Err(format!("ended by signal {number}; it had said {said:?}")),
            },
            // As of a program that is killed.
            Some((_, 137)) if child_fault && matches!(fault, Some((_, Fault::Kill))) => Ok(()),
            // The first process is on its own by then, and whatever becomes of it is the container's end.
            Some((_, 0)) if child_fault && matches!(command, "create" | "start") && self.has_stopped(id) => Ok(()),
            Some((_, 0)) => self.has_worked(command, id, outcome, out),
            // Who cannot write cannot say so.
            Some((_, 1..)) if cannot_write => Ok(()),
            Some((_, code)) if fault.is_none() => Err(format!("exit code {code} without a fault: {said:?}")),
            Some((_, code)) => {
                let last = said.lines().last().unwrap_or_default();
                if !last.starts_with("proa: ") || said.contains("panicked") {
                    return Err(format!("exit code {code} without a word why: {said:?}"));
                }
                // What could not be made must be gone without anybody's asking.
                if command == "create" && !killed && !matches!(fault, Some((_, Fault::Lasting(_)))) {
                    let left = self.scope.leaks(&self.before, &self.root);
                    if !left.is_empty() {
                        return Err(format!("failed ({last:?}) and left: {}", left.join(", ")));
                    }
                }
                Ok(())
            }
        }
    }

    fn has_worked(&self, command: &str, id: &str, outcome: &Outcome, out: &Path) -> Result<(), String> {
        let expect = |right: bool, what: &str| {
            if right {
                return Ok(());
            }
            Err(format!("exit code 0, but {what}; stdout {:?}, stderr {:?}", outcome.stdout, outcome.stderr.trim()))
        };
        match command {
            "create" => {
                expect(self.status(id).as_deref() == Some("created"), "it is not created")?;
                self.must(&["start", id], None)?;
                hello(out)
            }
            "start" => hello(out),
            "exec" => expect(outcome.stdout == "inside\n", "the program has not run"),
            "delete" => expect(self.state(id).is_none(), "it is still there"),
            _ => expect(outcome.stdout == "hello\n", "the program has not run"),
        }
    }

    /// Whether it has, or does so in a moment.
    fn has_stopped(&self, id: &str) -> bool {
        look::eventually_within(Duration::from_millis(100), || self.status(id).as_deref() == Some("stopped"))
    }

    fn state(&self, id: &str) -> Option<serde_json::Value> {
        let output = Command::new(&self.program).arg("--root").arg(&self.root).args(["state", id]).output().ok()?;
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("state is not JSON"))
    }

    fn status(&self, id: &str) -> Option<String> {
        Some(self.state(id)?["status"].as_str()?.to_owned())
    }

    /// A command without a fault, which must succeed in time.
    fn must(&self, arguments: &[&str], out: Option<&Path>) -> Result<(), String> {
        let errors = self.root.with_file_name("errors-of-others");
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).args(arguments).stdin(Stdio::null());
        let file = |path: &Path| Stdio::from(fs::File::create(path).expect("cannot make a file"));
        command.stdout(out.map_or_else(Stdio::null, file)).stderr(file(&errors));
        let mut child = command.spawn().expect("cannot run the runtime");
        match ended(&mut child) {
            Some(status) if status.success() => Ok(()),
            other => {
                child.kill().ok();
                child.wait().ok();
                let said = fs::read_to_string(&errors).unwrap_or_default();
                Err(format!("afterwards {} failed ({other:?}): {:?}", arguments.join(" "), said.trim()))
            }
        }
    }
}

/// Waits for the container's word.
fn hello(out: &Path) -> Result<(), String> {
    let said = || fs::read_to_string(out).is_ok_and(|text| text == "hello\n");
    if look::eventually_within(PATIENCE, said) {
        Ok(())
    } else {
        Err("the container's program does not run".to_owned())
    }
}

/// Runs a command to its end, or kills it with what it traces.
fn ends(command: &mut Command) -> bool {
    let mut child = command.spawn().expect("cannot run the tracer");
    let ended = ended(&mut child).is_some();
    if !ended {
        // The traced go on when their tracer has ended, and are told apart from nothing else here.
        let traced = look::descendants(child.id() as i32);
        child.kill().ok();
        child.wait().ok();
        for pid in traced {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
    ended
}

/// Waits for the end of a child, and reaps what falls to this process meanwhile: a process that was entered into a
/// container keeps that from ending until it is.
fn ended(child: &mut Child) -> Option<ExitStatus> {
    let pid = child.id() as i32;
    reaper::keep(pid);
    let mut status = None;
    look::eventually_within(PATIENCE, || {
        reaper::collect();
        status = child.try_wait().expect("cannot wait");
        status.is_some()
    });
    reaper::release(pid);
    status
}
