//! Many containers at once, and commands that are killed at any moment: afterwards nothing may be left.
//!
//! Each of `--killed` containers has one of its commands ended by SIGKILL, at a moment between none and half again as
//! long as that command takes; then `delete --force` has to take back what there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use conformance::bundle::{Bundle, Template};
use conformance::random::Random;
use conformance::{look, runtime, sys};
use serde_json::json;

/// Creates and deletes containers in parallel, kills the runtime, and looks for what is left.
#[derive(Parser)]
struct Options {
    /// Containers that are created, started and deleted
    #[arg(long, default_value_t = 500)]
    parallel: usize,
    /// Processes that are executed in one container
    #[arg(long, default_value_t = 100)]
    execs: usize,
    /// Containers of which one command is killed
    #[arg(long, default_value_t = 200)]
    killed: usize,
    /// How many at a time
    #[arg(long, default_value_t = 8)]
    at_once: usize,
    /// Of the moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// With --systemd-cgroup
    #[arg(long)]
    systemd: bool,
}

struct Stress {
    options: Options,
    program: PathBuf,
    root: PathBuf,
    bundle: PathBuf,
    tag: String,
    faults: Mutex<Vec<String>>,
}

/// The commands of a container's life.
const COMMANDS: [&str; 3] = ["create", "start", "delete"];

fn main() -> ExitCode {
    let options = Options::parse();
    sys::become_subreaper().expect("cannot become a subreaper");
    let tag = format!("st{}", std::process::id());
    let base = tempfile::Builder::new().prefix(&tag).tempdir().expect("no temporary directory");
    let template = Template::prepare(base.path());
    let mut bundle = Bundle::new(base.path().join("bundle"), &template);
    bundle.args(&["/bin/sleep", "1000"]).linux("resources", json!({"devices": [{"allow": false, "access": "rwm"}]}));
    bundle.write();
    let root = base.path().join("root");
    let stress =
        Stress { program: runtime::program(), root, bundle: bundle.path, faults: Mutex::default(), tag, options };
    let (programs, mounts, dying) = (sys::bpf_programs(), mounts(), dying_cgroups());
    println!("seed {}, {} at a time", stress.options.seed, stress.options.at_once);
    let durations = stress.in_parallel();
    stress.execs();
    stress.killed(&durations);
    let left = stress.left(programs, mounts);
    // The kernel frees them later, from a queue; page cache can hold some for long.
    look::eventually_within(Duration::from_secs(10), || dying_cgroups() <= dying);
    println!("cgroups of which the kernel still has something: {dying} before, {} after", dying_cgroups());
    let faults = stress.faults.into_inner().unwrap_or_default();
    for fault in faults.iter().chain(&left) {
        println!("FAULT {fault}");
    }
    println!("{} faults, {} things left", faults.len(), left.len());
    if faults.is_empty() && left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Stress {
    fn command(&self, name: &str, id: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root);
        if self.options.systemd {
            command.arg("--systemd-cgroup");
        }
        command.arg(name);
        match name {
            "create" => command.arg("--bundle").arg(&self.bundle),
            "delete" => command.arg("--force"),
            _ => &mut command,
        };
        command.arg(id);
        if name == "exec" {
            command.arg("/bin/true");
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let errors = fs::File::options().create(true).append(true).open(self.errors(id)).expect("cannot write");
        command.stderr(errors);
        command
    }

    fn errors(&self, id: &str) -> PathBuf {
        self.bundle.with_file_name(format!("{id}.err"))
    }

    /// Runs a command that must succeed; how long it took.
    fn must(&self, name: &str, id: &str) -> Duration {
        let before = Instant::now();
        let done = self.command(name, id).status().is_ok_and(|status| status.success());
        if !done {
            let words = fs::read_to_string(self.errors(id)).unwrap_or_default();
            self.fault(format!("{name} {id}: {}", words.trim().replace('\n', "; ")));
        }
        before.elapsed()
    }

    fn fault(&self, text: String) {
        if let Ok(mut faults) = self.faults.lock() {
            faults.push(text);
        }
    }

    /// Calls `with` for each number below `count`, some at a time.
    fn each(&self, count: usize, with: impl Fn(usize) + Sync) {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..self.options.at_once.max(1) {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        with(number);
                    }
                });
            }
        });
    }

    /// The medians of the commands.
    fn in_parallel(&self) -> [Duration; 3] {
        let times: [Mutex<Vec<Duration>>; 3] = Default::default();
        let before = Instant::now();
        self.each(self.options.parallel, |number| {
            let id = format!("{}-p{number}", self.tag);
            for (command, list) in COMMANDS.iter().zip(&times) {
                let time = self.must(command, &id);
                list.lock().expect("a thread has panicked").push(time);
            }
        });
        let medians = times.map(|list| {
            let mut list = list.into_inner().unwrap_or_default();
            list.sort_unstable();
            list.get(list.len() / 2).copied().unwrap_or(Duration::from_millis(20))
        });
        let shown: Vec<_> = COMMANDS.iter().zip(&medians).map(|(name, time)| format!("{name} {time:.1?}")).collect();
        let (count, elapsed) = (self.options.parallel, before.elapsed());
        println!("{count} containers in {elapsed:.1?}; medians: {}", shown.join(", "));
        medians
    }

    fn execs(&self) {
        let id = format!("{}-e", self.tag);
        self.must("create", &id);
        self.must("start", &id);
        let before = Instant::now();
        self.each(self.options.execs, |_| {
            self.must("exec", &id);
        });
        let (count, elapsed) = (self.options.execs, before.elapsed());
        let output =
            Command::new(&self.program).arg("--root").arg(&self.root).args(["ps", "--format", "json", &id]).output();
        let pids: Vec<i32> =
            output.ok().and_then(|output| serde_json::from_slice(&output.stdout).ok()).unwrap_or_default();
        if pids.len() != 1 {
            self.fault(format!("processes of a container with one, after {count} exec: {pids:?}"));
        }
        self.must("delete", &id);
        println!("{count} exec in {elapsed:.1?}");
    }

    fn killed(&self, durations: &[Duration; 3]) {
        let survived = AtomicUsize::new(0);
        // Drawn before, so that each container has the same in every run, whichever thread it falls to.
        let mut random = Random::new(self.options.seed);
        let thousandths: Vec<u32> = (0..self.options.killed).map(|_| random.below(1500) as u32).collect();
        self.each(self.options.killed, |number| {
            let id = format!("{}-k{number}", self.tag);
            let victim = number % COMMANDS.len();
            let moment = durations[victim] * thousandths[number] / 1000;
            for command in &COMMANDS[..victim] {
                self.must(command, &id);
            }
            let mut child = self.command(COMMANDS[victim], &id).spawn().expect("cannot run the runtime");
            std::thread::sleep(moment);
            child.kill().ok();
            if child.wait().is_ok_and(|status| status.success()) {
                survived.fetch_add(1, Ordering::Relaxed);
            }
            self.must("delete", &id);
        });
        let done = survived.into_inner();
        println!("{} commands killed, {done} of which had ended before", self.options.killed);
    }

    /// What is there that was not before; some of it may take the kernel a while.
    fn left(&self, programs: Option<usize>, mounts_before: BTreeSet<String>) -> Vec<String> {
        let mut left = Vec::new();
        let gone = look::eventually_within(Duration::from_secs(20), || {
            conformance::reaper::collect();
            left.clear();
            let named = |path: &Path| path.to_string_lossy().contains(&self.tag);
            left.extend(
                look::cgroup_dirs().iter().filter(|dir| named(dir)).map(|dir| format!("cgroup {}", dir.display())),
            );
            let own = std::process::id() as i32;
            left.extend(look::descendants(own).iter().map(|pid| format!("process {pid}: {:?}", look::cmdline(*pid))));
            let states = fs::read_dir(&self.root).into_iter().flatten().filter_map(Result::ok);
            left.extend(states.map(|entry| format!("state {}", entry.path().display())));
            left.extend(mounts().difference(&mounts_before).map(|mount| format!("mount {mount}")));
            if let (Some(before), Some(now)) = (programs, sys::bpf_programs())
                && now > before
            {
                left.push(format!("{} BPF programs", now - before));
            }
            left.extend(units(&self.tag));
            left.is_empty()
        });
        if gone { Vec::new() } else { left }
    }
}

fn mounts() -> BTreeSet<String> {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines().map(str::to_owned).collect()
}

/// What is left of cgroups that were removed, until the kernel gets to it: memory that nobody has a name for.
fn dying_cgroups() -> u64 {
    let files = ["/sys/fs/cgroup/cgroup.stat", "/sys/fs/cgroup/unified/cgroup.stat"];
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("nr_dying_descendants "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Units of systemd, where it runs.
fn units(tag: &str) -> Vec<String> {
    if !Path::new("/run/systemd/system").exists() {
        return Vec::new();
    }
    let pattern = format!("*{tag}*");
    let output = Command::new("systemctl").args(["list-units", "--all", "--plain", "--no-legend", &pattern]).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().map(|line| format!("unit {line}")).collect()
}
