//! What a shim costs, in memory and in time, beside containerd's own with runc in the same run.

use std::time::{Duration, Instant};

use conformance::image::BUSYBOX;
use conformance::test::Done;

use super::ctr::ctr;
use super::daemon::world;
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

fn time_of_a_run() -> Done {
    let t = Test::begin();
    const TURNS: usize = 40;
    let sides = sides();
    let mut times = vec![Vec::new(); sides.len()];
    for turn in 0..=TURNS {
        // In turns, so that what else the machine does meets all alike.
        for (side, times) in sides.iter().zip(&mut times) {
            let call = ctr(&["run", "--rm", "--null-io"]).words(&side.options).words(&[BUSYBOX, &t.id(), "true"]);
            let begun = Instant::now();
            call.ok();
            // The first one is for the caches.
            if turn > 0 {
                times.push(begun.elapsed());
            }
        }
    }
    println!("  {:24} {:>10} {:>10}", "ctr run --rm IMAGE true", "median", "minimum");
    for (side, times) in sides.iter().zip(&mut times) {
        times.sort();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
        println!("  {:24} {:>7.1} ms {:>7.1} ms", side.name, milliseconds(times[TURNS / 2]), milliseconds(times[0]));
    }
    t.end_within(Duration::from_secs(20))
}
