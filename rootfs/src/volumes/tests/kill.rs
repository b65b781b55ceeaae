//! Processes that are killed while they work on volumes: this test program, called again.

use super::*;
use std::process::{Command, Stdio};
use std::time::Duration;

const SCRATCH: &str = "PROA_TEST_KILL";

/// It does what its environment says, over and over.
#[test]
#[ignore = "no test, but what the others kill"]
fn victim() {
    let scratch = PathBuf::from(std::env::var_os(SCRATCH).unwrap());
    let volumes = Volumes::open(&scratch.join("store")).unwrap();
    if std::env::var_os("PROA_TEST_FILL").is_some() {
        volumes.fill("a", open_path(&scratch.join("image")).as_fd(), &mut unlimited()).unwrap();
        return;
    }
    loop {
        plain(&volumes, "a");
        fs::write(volumes.mountpoint("a") + "/file", "x").unwrap();
        volumes.remove("a", no_uses).unwrap();
    }
}

/// Starts the victim and kills it after a while. Whether it was done before.
fn kill_after(scratch: &Scratch, fill: bool, after: Duration) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "volumes::tests::kill::victim", "--test-threads=1", "--ignored"]).env(SCRATCH, &scratch.0);
    if fill {
        command.env("PROA_TEST_FILL", "1");
    }
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap().success()
}

/// All of a tree but for what a directory's own reading changes.
fn told(root: &Path) -> Vec<(PathBuf, u32, u32, u64, i64)> {
    let mut all = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        let size = if stat.is_dir() { 0 } else { stat.len() };
        let below = path.strip_prefix(root).unwrap().to_owned();
        // A directory that was moved into has another time, until the last step sets it.
        let time = if below.as_os_str().is_empty() { 0 } else { stat.mtime() };
        all.push((below, stat.mode(), stat.uid(), size, time));
        if stat.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    all.sort();
    all
}

#[test]
fn a_fill_that_is_killed_is_made_up_for() {
    let scratch = Scratch::in_memory();
    let volumes = scratch.volumes();
    let image = scratch.directory("image");
    for dir in 0..40 {
        let dir = image.join(format!("dir{dir}"));
        fs::create_dir(&dir).unwrap();
        for file in 0..40 {
            fs::write(dir.join(format!("file{file}")), vec![7; 3000]).unwrap();
        }
    }
    // Many names to move, so that some are killed meanwhile.
    for file in 0..4000 {
        fs::write(image.join(format!("top{file}")), "").unwrap();
    }
    std::os::unix::fs::chown(&image, Some(7), Some(8)).unwrap();
    let expected = told(&image);
    let (mut killed, mut mixed) = (0, 0);
    for round in 0..40 {
        let data = PathBuf::from(plain(&volumes, "a").mountpoint);
        killed += usize::from(!kill_after(&scratch, true, Duration::from_millis(round * 4)));
        let names = fs::read_dir(&data).unwrap().count();
        mixed += usize::from((1..4040).contains(&names));
        // Before it is ready nothing is in it, and later all comes.
        if data.with_file_name("ready").exists() || names > 0 {
            volumes.complete("a").unwrap();
        } else {
            volumes.fill("a", open_path(&image).as_fd(), &mut unlimited()).unwrap();
        }
        assert!(told(&data) == expected, "round {round}");
        let left = fs::read_dir(data.parent().unwrap()).unwrap().count();
        assert!(left == 3, "{left} names in round {round}");
        volumes.remove("a", no_uses).unwrap();
    }
    eprintln!("killed {killed} of 40, {mixed} while names moved");
    assert!(killed > 3);
}

#[test]
fn every_step_of_settling_may_be_the_last() {
    // What each moment leaves, made by hand: names moved or not, marked or not.
    for moved in 0..3 {
        for marked in [false, true] {
            let scratch = Scratch::in_memory();
            let volumes = scratch.volumes();
            let data = PathBuf::from(plain(&volumes, "a").mountpoint);
            let ready = scratch.directory("store/volumes/a/ready");
            fs::set_permissions(&ready, fs::Permissions::from_mode(0o1777)).unwrap();
            for file in 0..2 {
                let place = if file < moved { &data } else { &ready };
                fs::write(place.join(format!("{file}")), "x").unwrap();
            }
            if marked {
                fs::write(data.with_file_name("filled"), "").unwrap();
            }
            let image = scratch.directory("image");
            fs::write(image.join("other"), "x").unwrap();
            assert_eq!(volumes.fill("a", open_path(&image).as_fd(), &mut unlimited()), Ok(Filled::Before));
            assert_eq!(fs::read_dir(&data).unwrap().count(), 2);
            assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o1777);
            assert!(!ready.exists());
        }
    }
}

#[test]
fn one_that_makes_and_removes_may_be_killed() {
    let scratch = Scratch::in_memory();
    let volumes = scratch.volumes();
    for round in 0..30 {
        kill_after(&scratch, false, Duration::from_millis(5 + round));
        // Whole, or not there.
        match volumes.inspect("a", &Uses::new()) {
            Ok(volume) => assert!(Path::new(&volume.mountpoint).is_dir()),
            Err(error) => assert_eq!(error, Error::NoVolume("a".into())),
        }
        volumes.prune(true, no_uses).unwrap();
        if let Ok(left) = fs::read_dir(scratch.0.join("store/volumes")) {
            assert_eq!(left.count(), 0);
        }
    }
}
