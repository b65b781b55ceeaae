//! What cannot be done is said in one line and changes nothing; a command that is killed leaves nothing that `delete
//! --force` does not take away.

use std::time::Duration;

use conformance::look;
use conformance::test::{Done, Test};
use nix::sys::signal::Signal;

use super::subject::{Subject, eventually};
use super::table::{Outcome, ok, refusal, refused, rows};

crate::cases! {
    without_criu,
    of_what_does_not_run,
    a_checkpoint_that_fails,
    a_restore_that_fails,
    two_at_once,
    a_checkpoint_is_killed,
    a_restore_is_killed,
}

fn without_criu() -> Done {
    rows(&[
        ("checkpoint without criu", &|t| {
            let subject = Subject::counting(t);
            let output = subject.checkpoint_call(&[]).env("PATH", "/nowhere").output();
            if output.status.success() {
                return Ok("checkpointed all the same".to_owned());
            }
            assert_eq!(subject.status(), "running");
            subject.counts_on(2);
            refused(t, &output, &["criu"])
        }),
        ("restore without criu", &|t| {
            let subject = Subject::counting(t);
            subject.checkpoint(&[]).ok();
            let output = subject.restore_call(&["-d"]).env("PATH", "/nowhere").output();
            if output.status.success() {
                return Ok("restored all the same".to_owned());
            }
            subject.is_gone();
            refused(t, &output, &["criu"])
        }),
    ])
}

fn of_what_does_not_run() -> Done {
    rows(&[
        ("checkpoint of one that is created", &|t| {
            let container = t.create(&t.sleeping_bundle());
            let output = t.call(&["checkpoint", &container.id]).options(&image_path(t)).output().fails();
            container.assert_status("created");
            refused(t, &output, &["created", "not running"])
        }),
        ("checkpoint of one that has ended", &|t| {
            let container = t.start(&t.bundle());
            eventually("it to end", || container.status() == "stopped");
            let output = t.call(&["checkpoint", &container.id]).options(&image_path(t)).output().fails();
            refused(t, &output, &["stopped", "not running"])
        }),
        ("checkpoint of one that is paused", &|t| {
            let subject = Subject::counting(t);
            subject.call("pause").output().ok();
            let output = subject.checkpoint(&[]);
            if !output.status.success() {
                assert_eq!(subject.status(), "paused");
                return refused(t, &output, &["paused"]);
            }
            subject.is_gone();
            let frozen = subject.count();
            subject.restored(&[]);
            if subject.status() == "paused" {
                subject.call("resume").output().ok();
            }
            eventually("it to go on", || subject.count() > frozen);
            ok()
        }),
        ("checkpoint while an exec runs", &|t| {
            let subject = Subject::counting(t);
            let null = || std::process::Stdio::null();
            let exec = t.call(&["exec", &subject.id, "/bin/sleep", "1000"]).streams([null(), null(), null()]).spawn();
            eventually("the exec to run", || look::descendants(exec.pid()).iter().any(|pid| comm(*pid) == "sleep"));
            let output = subject.checkpoint(&[]);
            if output.status.success() {
                subject.is_gone();
                exec.wait(&t.runtime);
                subject.restored(&[]);
                subject.counts_on(2);
                return ok();
            }
            assert_eq!(subject.status(), "running");
            subject.counts_on(2);
            let outcome = refused(t, &output, &[]);
            subject.delete();
            exec.wait(&t.runtime);
            outcome
        }),
        ("checkpoint of one that is not there", &|t| {
            let output = t.call(&["checkpoint", "nobody"]).options(&image_path(t)).output().fails();
            refused(t, &output, &["does not exist"])
        }),
        ("restore under an id that is taken", &|t| {
            let subject = Subject::counting(t);
            subject.checkpoint(&["--leave-running"]).ok();
            let pid = subject.pid();
            let output = subject.restore(&[]).fails();
            assert_eq!((subject.status(), subject.pid()), ("running".to_owned(), pid));
            subject.counts_on(2);
            refused(t, &output, &["exist"])
        }),
        ("restore without a bundle", &|t| {
            let subject = Subject::counting(t);
            subject.checkpoint(&[]).ok();
            std::fs::rename(&subject.bundle.path, t.file("gone")).expect("cannot rename");
            std::fs::create_dir(&subject.bundle.path).expect("cannot make a directory");
            let output = subject.restore(&[]).fails();
            subject.is_gone();
            refused(t, &output, &["rootfs", "root"])
        }),
    ])
}

fn comm(pid: i32) -> String {
    look::stat(pid).map(|stat| stat.comm).unwrap_or_default()
}

fn image_path(t: &Test<'_>) -> [String; 2] {
    ["--image-path".to_owned(), t.file("images").display().to_string()]
}

fn a_checkpoint_that_fails() -> Done {
    rows(&[
        ("the directory of images is a file", &|t| {
            let mut subject = Subject::counting(t);
            subject.images = t.make_file("file", "");
            let output = subject.checkpoint(&[]).fails();
            assert_eq!(subject.status(), "running");
            subject.counts_on(2);
            refused(t, &output, &["file", "directory"])
        }),
        ("no space for the images", &|t| {
            let mut subject = Subject::counting(t);
            subject.images = t.make_dir("small");
            let size = Some("size=40k");
            let (none, flags) = (Some("tmpfs"), nix::mount::MsFlags::empty());
            nix::mount::mount(none, &subject.images, none, flags, size).expect("cannot mount");
            let output = subject.checkpoint(&[]).fails();
            let status = subject.status();
            nix::mount::umount2(&subject.images, nix::mount::MntFlags::MNT_DETACH).expect("cannot unmount");
            assert_eq!(status, "running");
            subject.counts_on(2);
            refused(t, &output, &[])
        }),
        ("images from a checkpoint before", &|t| {
            let subject = Subject::counting(t);
            subject.checkpoint(&["--leave-running"]).ok();
            subject.counts_on(2);
            subject.checkpoint(&[]).ok();
            let frozen = subject.count();
            subject.restored(&[]);
            assert!(subject.counts_on(2) > frozen);
            ok()
        }),
    ])
}

fn a_restore_that_fails() -> Done {
    rows(&[("what a restore that fails leaves", &|t| {
        let subject = Subject::counting(t);
        subject.checkpoint(&[]).ok();
        let image = subject.images.join("core-1.img");
        let good = std::fs::read(&image).expect("an image");
        std::fs::write(&image, &good[..good.len() / 2]).expect("cannot write");
        let file = t.file("pid");
        let output = subject.restore(&["--pid-file", file.to_str().expect("paths of tests are UTF-8")]).fails();
        let mut left = t.leaks();
        if file.exists() {
            left.push("the pid file".to_owned());
        }
        assert!(left.is_empty() || !t.is_proa(), "left: {left:?}");
        subject.t.call(&["delete", "--force", &subject.id]).output();
        std::fs::write(&image, good).expect("cannot write");
        subject.restored(&[]);
        subject.counts_on(2);
        refused_or_left(t, &output, &left)
    })])
}

fn refused_or_left(t: &Test<'_>, output: &conformance::runtime::Output, left: &[String]) -> Outcome {
    let text = refused(t, output, &[])?;
    Ok(if left.is_empty() { text } else { format!("{text}, and left: {}", left.join("; ")) })
}

fn two_at_once() -> Done {
    rows(&[
        ("two checkpoints at once", &|t| {
            let mut subject = Subject::counting(t);
            let first = subject.checkpoint_call(&[]).spawn();
            (subject.images, subject.work) = (t.file("others"), t.file("others-work"));
            let second = subject.checkpoint_call(&[]).spawn();
            let done = [first.wait(&t.runtime), second.wait(&t.runtime)];
            let worked = done.iter().filter(|output| output.status.success()).count();
            if worked > 0 {
                subject.is_gone();
            }
            let told: Vec<String> = done
                .iter()
                .map(|output| if output.status.success() { "ok".to_owned() } else { refusal(output) })
                .collect();
            assert!(worked == 1 || !t.is_proa(), "{told:?}");
            Ok(format!("{worked} worked: {}", told.join("; ")))
        }),
        ("two restores of one id at once", &|t| {
            let subject = Subject::counting(t);
            subject.checkpoint(&[]).ok();
            let calls = [subject.restore_call(&["-d"]).spawn(), subject.restore_call(&["-d"]).spawn()];
            let done = calls.map(|call| call.wait(&t.runtime));
            let worked = done.iter().filter(|output| output.status.success()).count();
            let told: Vec<String> = done
                .iter()
                .map(|output| if output.status.success() { "ok".to_owned() } else { refusal(output) })
                .collect();
            if t.is_proa() {
                assert_eq!(worked, 1, "{told:?}");
                subject.counts_on(2);
                subject.is_killed_and_deleted();
            }
            Ok(format!("{worked} worked: {}", told.join("; ")))
        }),
    ])
}

/// Milliseconds after which a command is killed.
const DELAYS: [u64; 12] = [1, 3, 6, 10, 15, 20, 30, 45, 60, 80, 110, 150];

fn a_checkpoint_is_killed() -> Done {
    rows(&[("a checkpoint is killed", &|t| {
        let (mut in_time, mut went_on, mut left) = (0, 0, Vec::new());
        for delay in DELAYS {
            let mut subject = Subject::counting(t);
            subject.images = t.file(&format!("images{delay}"));
            let running = subject.checkpoint_call(&[]).spawn();
            std::thread::sleep(Duration::from_millis(delay));
            running.kill(Signal::SIGKILL);
            let output = running.wait(&t.runtime);
            in_time += u32::from(output.code() == 128 + 9);
            // It may have become as before, be half gone, or gone.
            if subject.state().is_some_and(|state| state["status"] == "running") {
                let before = subject.count();
                if look::eventually_within(Duration::from_secs(2), || subject.count() > before) {
                    went_on += 1;
                } else {
                    left.push(format!("killed after {delay} ms: it is running, and does not go on"));
                }
            }
            left.extend(takes_away(&subject, delay));
        }
        killed(t, &left, &format!("{in_time} of {} killed in time; {went_on} ran on", DELAYS.len()))
    })])
}

fn a_restore_is_killed() -> Done {
    rows(&[("a restore is killed", &|t| {
        let (mut in_time, mut left) = (0, Vec::new());
        let subject = Subject::counting(t);
        subject.checkpoint(&[]).ok();
        for delay in DELAYS {
            let running = subject.restore_call(&["-d"]).spawn();
            std::thread::sleep(Duration::from_millis(delay));
            running.kill(Signal::SIGKILL);
            let output = running.wait(&t.runtime);
            in_time += u32::from(output.code() == 128 + 9);
            left.extend(takes_away(&subject, delay));
        }
        let text = format!("{in_time} of {} killed in time", DELAYS.len());
        if left.is_empty() {
            // The images are as good as before.
            subject.restored(&[]);
            subject.counts_on(2);
        }
        killed(t, &left, &text)
    })])
}

fn killed(t: &Test<'_>, left: &[String], text: &str) -> Outcome {
    assert!(left.is_empty() || !t.is_proa(), "{}", left.join("; "));
    Ok(if left.is_empty() { format!("ok: {text}") } else { format!("left: {text}; {}", left.join("; ")) })
}

/// `delete --force` takes away what is left, whatever it is. Otherwise, what remains.
fn takes_away(subject: &Subject<'_>, delay: u64) -> Option<String> {
    let output = subject.t.call(&["delete", "--force", &subject.id]).output();
    if !output.status.success() {
        return Some(format!("killed after {delay} ms, delete --force: {}", output.stderr().trim()));
    }
    let left = subject.t.leaks();
    (!left.is_empty()).then(|| format!("killed after {delay} ms, left after delete --force: {}", left.join("; ")))
}
