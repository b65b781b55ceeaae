//! What a shim costs, in memory and in time, beside containerd's own with runc in the same run.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use conformance::image::BUSYBOX;
use conformance::test::Done;

use super::ctr::ctr;
use super::daemon::world;
use super::events;
use super::fixture::Test;
use super::memory::Memory;
use super::oracle;

crate::cases![memory_of_one_and_of_a_hundred, time_of_a_run];

/// A shim and how `ctr` is told to use it.
struct Side {
    name: String,
    options: Vec<String>,
}

fn sides() -> Vec<Side> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let runc = words(&["--runtime", "io.containerd.runc.v2", "--runc-binary", "/usr/sbin/runc"]);
    let mut sides = vec![Side { name: "runc-v2 + runc".to_owned(), options: runc }];
    let world = world();
    if world.is_control() {
        let binary = world.runtime.display().to_string();
        if !binary.ends_with("/runc") {
            let options = words(&["--runtime", "io.containerd.runc.v2", "--runc-binary", &binary]);
            sides.push(Side { name: "runc-v2 + the runtime".to_owned(), options });
        }
    } else {
        sides.push(Side { name: world.shim.clone(), options: words(&["--runtime", &world.shim]) });
    }
    sides
}

fn memory_of_one_and_of_a_hundred() -> Done {
    let t = Test::begin();
    // A binary that was just built has dirty pages in the page cache: they would be counted.
    nix::unistd::sync();
    println!("  {:24} {:>10} {:>8} {:>8} {:>14}", "KiB per shim", "containers", "RSS", "PSS", "private dirty");
    for side in sides() {
        for count in [1, 100] {
            let ids: Vec<String> = (0..count).map(|_| t.id()).collect();
            for id in &ids {
                ctr(&["run", "-d", "--null-io"]).words(&side.options).words(&[BUSYBOX, id, "sleep", "10000"]).ok();
            }
            // What a start needs is given back after a while, if at all.
            std::thread::sleep(Duration::from_secs(2));
            let all: Vec<Memory> = ids.iter().flat_map(|id| oracle::shims_of(id)).map(Memory::of).collect();
            assert_eq!(all.len(), count, "not every container has one shim");
            let mean = Memory::mean(&all);
            println!("  {:24} {count:>10} {:>8} {:>8} {:>14}", side.name, mean.rss, mean.pss, mean.private_dirty);
            for id in &ids {
                ctr(&["task", "rm", "-f", id]).run();
                ctr(&["c", "rm", id]).ok();
            }
        }
    }
    t.end_within(Duration::from_secs(20))
}

/// What a run is made of, by the events that end each part. The last ends with the command: containerd's own shim does
/// not always tell of a task's deletion.
const PHASES: [(&str, Option<&str>); 4] = [
    ("until created", Some("create")),
    ("until started", Some("start")),
    ("until it ends", Some("exit init")),
    ("until ctr ends", None),
];

/// The milliseconds of each phase of a run, from a moment in seconds of the day.
fn phases(id: &str, begun: f64, took: Duration) -> [f64; PHASES.len()] {
    let mut last = begun;
    PHASES.map(|(_, event)| {
        let time = event.map_or(begun + took.as_secs_f64(), |event| events::wait(id, event).time);
        let taken = (time - last).rem_euclid(86_400.0);
        last = time;
        taken * 1000.0
    })
}

fn second_of_the_day() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs_f64() % 86_400.0
}

fn time_of_a_run() -> Done {
    let t = Test::begin();
    const TURNS: usize = 40;
    let sides = sides();
    let mut times = vec![Vec::new(); sides.len()];
    let mut parts = vec![[const { Vec::new() }; PHASES.len()]; sides.len()];
    for turn in 0..=TURNS {
        // In turns, so that what else the machine does meets all alike.
        for ((side, times), parts) in sides.iter().zip(&mut times).zip(&mut parts) {
            let id = t.id();
            let call = ctr(&["run", "--rm", "--null-io"]).words(&side.options).words(&[BUSYBOX, &id, "true"]);
            let (begun, second) = (Instant::now(), second_of_the_day());
            call.ok();
            let took = begun.elapsed();
            // The first one is for the caches.
            if turn > 0 {
                times.push(took);
                phases(&id, second, took).into_iter().zip(parts).for_each(|(part, all)| all.push(part));
            }
        }
    }
    println!("  {:24} {:>10} {:>10}", "ctr run --rm IMAGE true", "median", "minimum");
    for (side, times) in sides.iter().zip(&mut times) {
        times.sort();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        println!("  {:24} {:>7.1} ms {:>7.1} ms", side.name, milliseconds(times[TURNS / 2]), milliseconds(times[0]));
    }
    println!("  of it, medians in ms    {}", PHASES.map(|(name, _)| format!(" {name:>14}")).concat());
    for (side, parts) in sides.iter().zip(&mut parts) {
        let median = |all: &mut Vec<f64>| {
            all.sort_by(f64::total_cmp);
            format!(" {:>14.1}", all[TURNS / 2])
        };
        println!("  {:24}{}", side.name, parts.each_mut().map(median).concat());
    }
    t.end_within(Duration::from_secs(20))
}
