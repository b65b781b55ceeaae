//! Many containers that come and go, with shims, first processes and runtimes killed at random; and many execs in one
//! container. Nothing may be left, and nothing may grow.
//!
//! `CHURN_CONTAINERS` and `CHURN_EXECS` change the numbers, `CHURN_SEED` repeats a run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use conformance::bundle::write_script;
use conformance::image::BUSYBOX;
use conformance::look;
use conformance::random::Random;
use conformance::test::Done;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bare::{Shim, bundle, story};
use super::ctr::ctr;
use super::daemon::world;
use super::events;
use super::fixture::{Test, runtime_options, task_status};
use super::memory::Memory;
use super::oracle;

/// The small version, in the default suite.
pub(crate) mod small {
    crate::cases![a_hundred_containers_with_random_kills, five_hundred_execs_leave_nothing];

    fn a_hundred_containers_with_random_kills() -> conformance::test::Done {
        super::containers(100)
    }

    fn five_hundred_execs_leave_nothing() -> conformance::test::Done {
        super::execs(500)
    }
}

crate::cases![containers_with_random_kills, execs_leave_nothing];

fn number(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn containers_with_random_kills() -> Done {
    containers(number("CHURN_CONTAINERS", 1000))
}

fn execs_leave_nothing() -> Done {
    execs(number("CHURN_EXECS", 10_000))
}

/// What is done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    RunsToItsEnd,
    InitIsKilled,
    ShimIsKilled,
    RuntimeIsKilled,
    ExecRunsWhenInitIsKilled,
    ClientIsKilled,
}

const FATES: &[Fate] = &[
    Fate::RuntimeIsKilled,
    Fate::ClientIsKilled,
    Fate::RunsToItsEnd,
    Fate::InitIsKilled,
    Fate::ShimIsKilled,
    Fate::ExecRunsWhenInitIsKilled,
];

/// A runtime whose `create` is killed after some milliseconds.
fn mortal(t: &Test, milliseconds: u64) -> PathBuf {
    let program = t.dir.join(format!("mortal-{milliseconds}"));
    if !program.exists() {
        let real = world().runtime.display();
        let script = format!(
            "for word; do [ \"$word\" != create ] || killed=1; done\n[ -n \"$killed\" ] || exec {real} \"$@\"\n\
             {real} \"$@\" & pid=$!\nsleep 0.{milliseconds:03}\nkill -9 $pid 2>/dev/null\nwait $pid"
        );
        // Another thread may look at it half written.
        let new = t.dir.join(format!("mortal-{milliseconds}.{:?}", std::thread::current().id()));
        write_script(&new, &script);
        std::fs::rename(&new, &program).expect("cannot rename");
    }
    program
}

fn containers(count: usize) -> Done {
    let t = Test::begin();
    let before = oracle::sockets();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    let seed = number("CHURN_SEED", now as usize) as u64;
    let (next, told) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<Fate, (usize, Duration)>::new()));
    let fates = Mutex::new(BTreeMap::<String, Fate>::new());
    // All made before the threads: what a wrapper is written by must not be open when another thread forks.
    let mortals: Vec<PathBuf> = (0..8).map(|step| mortal(&t, 2 + 4 * step)).collect();
    let ids: Vec<String> = (0..count).map(|_| t.id()).collect();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (next, told, fates, mortals, ids, dir) = (&next, &told, &fates, &mortals, &ids, &t.dir);
            scope.spawn(move || {
                let mut random = Random::new(seed.wrapping_add(thread));
                while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (fate, begun) = (*random.pick(fates_of_this_shim()), Instant::now());
                    fates.lock().expect("a lock").insert(id.clone(), fate);
                    let mortal = random.pick::<PathBuf>(mortals).clone();
                    live(id, fate, dir, &mortal, &mut random);
                    let mut told = told.lock().expect("a lock");
                    let entry = told.entry(fate).or_default();
                    *entry = (entry.0 + 1, entry.1 + begun.elapsed());
                }
            });
        }
    });
    for (fate, (times, time)) in told.into_inner().expect("a lock") {
        println!("  {fate:?}: {times}, {:.0} ms each", time.as_secs_f64() * 1000.0 / times as f64);
    }
    if world().is_control() {
        // Known faults of containerd's own shim: a killed one's socket is left.
        for socket in oracle::sockets().iter().filter(|socket| !before.contains(socket)) {
            std::fs::remove_file(socket).expect("cannot remove");
        }
    }
    // Every exit was told, and once.
    for id in &ids {
        let story = events::story(id);
        let exits = story.iter().filter(|event| event.starts_with("exit init")).count();
        let started = story.iter().filter(|event| *event == "start").count();
        assert!(exits <= 1, "seed {seed}: {id}: {story:?}");
        assert!(exits == 1 || started == 0, "seed {seed}: no exit of {id}: {story:?}");
    }
    let fates = fates.into_inner().expect("a lock");
    let whose = |leak: &String| {
        let id = ids.iter().find(|id| leak.split([' ', '/']).any(|word| word == **id));
        format!("  {:?}: {leak}", id.and_then(|id| fates.get(id)))
    };
    let leaks: Vec<String> = t.leaks(Duration::from_secs(20)).iter().map(whose).collect();
    assert!(leaks.is_empty(), "seed {seed}, left behind:\n{}", leaks.join("\n"));
    t.end()
}

/// runc leaves cgroups behind when it is killed, and containerd's own shim now and then itself when a client is: that is
/// not asked of them.
fn fates_of_this_shim() -> &'static [Fate] {
    if world().is_control() { &FATES[2..] } else { FATES }
}

/// One container's life.
fn live(id: &str, fate: Fate, dir: &Path, mortal: &Path, random: &mut Random) {
    let runtime = (fate == Fate::RuntimeIsKilled).then_some(mortal);
    let call = |verb: &[&str], words: &[&str]| {
        let call = ctr(verb).words(&runtime_options(dir, runtime, "")).words(&["--null-io", BUSYBOX, id]);
        call.words(words).limit(Duration::from_secs(60))
    };
    let doze = |random: &mut Random| std::thread::sleep(Duration::from_millis(random.below(40) as u64));
    match fate {
        Fate::RunsToItsEnd => {
            call(&["run", "--rm"], &["sh", "-c", "exit 3"]).run().exits(3);
            return;
        }
        Fate::RuntimeIsKilled => _ = call(&["run", "-d"], &["sleep", "1000"]).run(),
        Fate::ClientIsKilled => {
            let run = call(&["run"], &["sleep", "1000"]).spawn();
            std::thread::sleep(Duration::from_millis(50 + random.below(200) as u64));
            run.kill();
            // What it had asked for may still be on its way, and long on a busy machine.
            let mut last = None;
            look::eventually_within(Duration::from_secs(20), || {
                std::thread::sleep(Duration::from_millis(500));
                let now = (task_status(id), oracle::shims_of(id));
                last.replace(now.clone()) == Some(now)
            });
        }
        _ => {
            call(&["run", "-d"], &["sleep", "1000"]).run().ok();
            if fate == Fate::ExecRunsWhenInitIsKilled {
                let fifos = world().base().join("fifos").display().to_string();
                ctr(&["task", "exec", "-d", "--fifo-dir", &fifos, "--exec-id", "x", id, "sleep", "1000"]).run().ok();
            }
            doze(random);
            if fate == Fate::ShimIsKilled {
                for shim in oracle::shims_of(id) {
                    // It may have ended by itself, but then the container has too.
                    kill(Pid::from_raw(shim), Signal::SIGKILL).ok();
                }
                let gone = || task_status(id).is_none();
                assert!(look::eventually_within(Duration::from_secs(30), gone), "{id}: {:?}", task_status(id));
            } else {
                ctr(&["task", "kill", "-s", "SIGKILL", id]).run().ok();
            }
        }
    }
    doze(random);
    if task_status(id).is_some() {
        ctr(&["task", "rm", "-f", id]).limit(Duration::from_secs(60)).run();
    }
    let deleted = || ctr(&["c", "rm", id]).run().code == 0 || !super::fixture::has_container(id);
    assert!(look::eventually_within(Duration::from_secs(20), deleted), "{id} ({fate:?}) cannot be removed");
}

fn execs(count: usize) -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    let pid = shim.pid(&id);
    let round = |from: usize, to: usize| {
        let next = AtomicUsize::new(from);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (next, task) = (&next, shim.task(&id));
                scope.spawn(move || {
                    loop {
                        let turn = next.fetch_add(1, Ordering::Relaxed);
                        if turn >= to {
                            break;
                        }
                        let name = format!("x{turn}");
                        task.exec(&name, &["true"]).expect("Exec");
                        task.start(&name).expect("Start");
                        assert_eq!(task.wait(&name).expect("Wait"), 0);
                        task.delete(&name).expect("Delete");
                    }
                });
            }
        });
    };
    // What is made once for all is there after some.
    round(0, count / 10);
    let (before, fds) = (Memory::of(pid), look::fds(pid).len());
    round(count / 10, count);
    let after = Memory::of(pid);
    println!("  after {} execs: {before}; after {count}: {after}; {fds} descriptors", count / 10);
    let open = || look::fds(pid).len();
    // A collector of garbage goes up and down by more than that, and Go keeps pipes for later use.
    let (slack, more) = if world().is_control() { (8192, 64) } else { (256, 0) };
    assert!(look::eventually_within(Duration::from_secs(3), || open() <= fds + more), "{fds} to {}", open());
    assert!(after.private_dirty <= before.private_dirty + slack, "it grows: {before}; {after}");
    let exits = || story(&id).iter().filter(|event| event.starts_with("exit x")).count();
    assert!(look::eventually_within(Duration::from_secs(10), || exits() == count), "{} exits of {count}", exits());
    task.finish();
    shim.shutdown(&id);
    t.end()
}
