//! What a bundle costs, beside `umoci unpack` in the same run; what a root of layers costs a container's start.
//!
//! `BENCH_DIR` is a directory of a disk: in memory all is fast. Nothing is removed before the end: ext4 without a journal
//! goes through all inodes that were freed in the last minutes, again for each new file, which is all one then measures.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use conformance::layout::{self, Layer, Layout};
use conformance::random::Random;
use conformance::tarball::Entry;
use conformance::test::Done;
use serde_json::json;

use super::{PROA, busybox, json as read, names};
use crate::command::Call;

crate::cases![time_of_bundles, time_of_starts];

const LAYERS: usize = 4;
const FILES: usize = 10_000;
/// Bytes of a file, on average.
const SIZE: usize = 12_500;
const TURNS: usize = 5;
const STARTS: usize = 40;

fn dir() -> PathBuf {
    let dir = std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from).join("images");
    fs::create_dir_all(&dir).expect("cannot make a directory");
    dir
}

/// The image, made once: busybox below four layers of ten thousand files.
fn image() -> String {
    let path = dir().join("image");
    if !path.exists() {
        let layers = (0..LAYERS).map(|n| layer(n, FILES, SIZE).gzip());
        let layout = Layout::new([busybox().gzip()].into_iter().chain(layers)).with("Cmd", json!(["true"]));
        layout::write_dir(&layout.files(), &path);
    }
    path.display().to_string()
}

/// Files of text and of noise, half of each, in directories of fifty.
fn layer(number: usize, files: usize, size: usize) -> Layer {
    let mut random = Random::new(number as u64);
    let text: Vec<u8> = (0..100_000)
        .flat_map(|_| random.pick(&["runtime ", "layer ", "of ", "image ", "\n", "tree ", "0x"]).bytes())
        .collect();
    let noise: Vec<u8> = (0..100_000).flat_map(|_| random.number().to_le_bytes()).collect();
    let mut entries = Vec::new();
    for n in 0..files {
        let path = format!("usr/share/part{number}/dir{}", n / 50);
        if n % 50 == 0 {
            entries.push(Entry::dir(&path));
        }
        let from = if n % 2 == 0 { &text } else { &noise };
        let length = size / 2 + random.below(size);
        let at = random.below(from.len() - length);
        entries.push(Entry::file(format!("{path}/file{n}"), &from[at..at + length]));
    }
    Layer::of(&entries)
}

fn remove_all_but_the_image() {
    let dir = dir();
    for name in names(&dir).iter().filter(|name| *name != "image") {
        fs::remove_dir_all(dir.join(name)).expect("cannot remove");
    }
}

struct Side {
    name: &'static str,
    times: Vec<Duration>,
}

impl Side {
    fn new(name: &'static str) -> Self {
        Self { name, times: Vec::new() }
    }

    /// Runs a command, what it has left to write by others first.
    fn run(&mut self, call: Call, counts: bool) {
        nix::unistd::sync();
        let begun = Instant::now();
        call.within(Duration::from_secs(600)).run().ok();
        if counts {
            self.times.push(begun.elapsed());
        }
    }

    fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort();
        times[times.len() / 2].as_secs_f64() * 1000.0
    }

    fn print(&self, to: &Self) {
        let least = self.times.iter().min().expect("a time").as_secs_f64() * 1000.0;
        println!("  {:38} {:>9.1} ms {:>9.1} ms {:>7.2}", self.name, self.median(), least, self.median() / to.median());
    }
}

fn header(what: &str) {
    println!("  {what:38} {:>12} {:>12} {:>7}", "median", "minimum", "ratio");
}

fn time_of_bundles() -> Done {
    let (image, dir) = (image(), dir());
    remove_all_but_the_image();
    let (mut umoci, mut first, mut second) =
        (Side::new("umoci unpack"), Side::new("the first bundle create"), Side::new("a second bundle create"));
    for turn in 0..=TURNS {
        let counts = turn > 0;
        let path = |name: &str| dir.join(format!("{name}-{turn}")).display().to_string();
        let proa = |bundle: &str| {
            Call::new(PROA, &["bundle", "create", "-q", "--image", &image, bundle]).env("PROA_STORE", &path("store"))
        };
        umoci.run(Call::new("umoci", &["unpack", "--image", &format!("{image}:latest"), &path("umoci")]), counts);
        first.run(proa(&path("one")), counts);
        second.run(proa(&path("two")), counts);
        if counts {
            let last = |side: &Side| side.times.last().expect("a time").as_secs_f64() * 1000.0;
            println!("  turn {turn}: {:.0} ms, {:.0} ms, {:.1} ms", last(&umoci), last(&first), last(&second));
        }
    }
    header(&format!("{} files in {} layers", LAYERS * FILES, LAYERS + 1));
    for side in [&umoci, &first, &second] {
        side.print(&umoci);
    }
    remove_all_but_the_image();
    Ok(())
}

fn time_of_starts() -> Done {
    let (image, dir) = (image(), dir());
    let path = |name: &str| dir.join(name).display().to_string();
    remove_all_but_the_image();
    Call::new(PROA, &["bundle", "create", "-q", "--image", &image, &path("layered")])
        .env("PROA_STORE", &path("store"))
        .within(Duration::from_secs(600))
        .run()
        .ok();
    Call::new("umoci", &["unpack", "--image", &format!("{image}:latest"), &path("plain")])
        .within(Duration::from_secs(600))
        .run()
        .ok();
    let mut config = read(&dir.join("layered/config.json"));
    config["annotations"].as_object_mut().expect("annotations").retain(|name, _| !name.starts_with("io.github.proa."));
    fs::write(dir.join("plain/config.json"), config.to_string()).expect("cannot write");
    let (mut plain, mut layered) = (Side::new("proa run on a plain root"), Side::new("proa run on a root of layers"));
    for turn in 0..=STARTS {
        for side in [&mut plain, &mut layered] {
            let bundle = if side.name.contains("plain") { path("plain") } else { path("layered") };
            side.run(Call::new(PROA, &["run", "--bundle", &bundle, &format!("bench-{turn}")]), turn > 0);
        }
    }
    header("a container that runs true");
    for side in [&plain, &layered] {
        side.print(&plain);
    }
    remove_all_but_the_image();
    Ok(())
}
