//! The options of both commands.

use std::fs;

use conformance::runtime::Kind;
use conformance::test::{Done, Skip, Test};

use super::subject::Subject;
use super::table::{Outcome, ok, refused, rows};

crate::cases! {
    help,
    directories,
    modes_of_cgroups,
}

fn help() -> Done {
    rows(&[
        ("checkpoint --help, restore --help", &|t| {
            t.call(&["checkpoint", "--help"]).output().ok();
            t.call(&["restore", "--help"]).output().ok();
            ok()
        }),
        ("restore --lsm-mount-context without a value", &|t| {
            let output = t.call(&["restore", "--lsm-mount-context"]).output().fails();
            let said = format!("{}{}", output.stdout(), output.stderr());
            // What Podman looks for.
            let known = said.contains("flag needs an argument") || said.contains("requires an argument");
            assert!(known, "it says {said:?}");
            ok()
        }),
        ("a flag that there is not", &|t| {
            let subject = Subject::counting(t);
            let output = subject.checkpoint(&["--no-such-flag"]).fails();
            assert_eq!(subject.status(), "running");
            refused(t, &output, &["no-such-flag"])
        }),
    ])
}

fn directories() -> Done {
    rows(&[
        ("--work-path has the logs", &|t| {
            let subject = Subject::counting(t);
            subject.goes_and_comes(&[]);
            for log in ["dump.log", "restore.log"] {
                assert!(subject.work.join(log).is_file(), "no {log} in --work-path");
                assert!(!subject.images.join(log).exists(), "{log} is among the images");
            }
            ok()
        }),
        ("without --work-path", &|t| {
            let subject = Subject::counting(t);
            let image_path = ["--image-path".as_ref(), subject.images.as_os_str()];
            t.call(&["checkpoint", &subject.id]).options(&image_path).output().ok();
            subject.is_gone();
            let bundle = ["--bundle".as_ref(), subject.bundle.path.as_os_str()];
            t.call(&["restore", &subject.id]).options(&image_path).options(&bundle).options(&["-d"]).output().ok();
            subject.counts_on(2);
            ok()
        }),
        ("without --image-path: ./checkpoint", &|t| {
            let subject = Subject::counting(t);
            let dir = t.make_dir("here");
            t.call(&["checkpoint", &subject.id]).cwd(&dir).output().ok();
            subject.is_gone();
            assert!(dir.join("checkpoint/inventory.img").is_file(), "nothing in ./checkpoint");
            let bundle = ["--bundle".as_ref(), subject.bundle.path.as_os_str()];
            t.call(&["restore", &subject.id]).options(&bundle).options(&["-d"]).cwd(&dir).output().ok();
            subject.counts_on(2);
            ok()
        }),
        ("relative --image-path and --bundle", &|t| {
            let subject = Subject::counting(t);
            let cwd = subject.bundle.path.clone();
            t.call(&["checkpoint", &subject.id]).options(&["--image-path", "saved/here"]).cwd(&cwd).output().ok();
            subject.is_gone();
            let restore = t.call(&["restore", &subject.id]).options(&["-d", "--image-path", "saved/here"]);
            restore.cwd(&cwd).output().ok();
            subject.counts_on(2);
            ok()
        }),
        ("--parent-path that is absolute", &|t| {
            let subject = Subject::counting(t);
            fs::create_dir_all(t.file("pre")).expect("cannot make a directory");
            let pre = t.file("pre").display().to_string();
            let output = subject.checkpoint(&["--parent-path", &pre]);
            if output.status.success() && !t.is_proa() {
                return Ok("checkpointed all the same".to_owned());
            }
            assert_eq!(subject.status(), "running");
            subject.counts_on(2);
            refused(t, &output, &["parent-path"])
        }),
        ("--parent-path that is not there", &|t| {
            let subject = Subject::counting(t);
            let output = subject.checkpoint(&["--parent-path", "../nowhere"]);
            if output.status.success() && !t.is_proa() {
                return Ok("checkpointed all the same".to_owned());
            }
            assert_eq!(subject.status(), "running");
            subject.counts_on(2);
            refused(t, &output, &["parent-path", "nowhere"])
        }),
        ("the images are for root alone", &|t| {
            use std::os::unix::fs::PermissionsExt;
            let subject = Subject::counting(t);
            subject.checkpoint(&[]).ok();
            let mode = fs::metadata(&subject.images).expect("images").permissions().mode() & 0o777;
            assert!(mode & 0o007 == 0 || !t.is_proa(), "mode {mode:o}");
            Ok(format!("mode {mode:o}"))
        }),
    ])
}

fn modes_of_cgroups() -> Done {
    let mode = |t: &Test<'_>, mode: &str| -> Outcome {
        let subject = Subject::counting(t);
        let words = ["--manage-cgroups-mode", mode];
        subject.goes_and_comes(&words[..0]);
        subject.counts_on(1);
        let output = subject.checkpoint(&words);
        if !output.status.success() && !t.is_proa() {
            return refused(t, &output, &[]);
        }
        output.ok();
        let output = subject.restore(&words);
        if mode == "strict" && !output.status.success() {
            // CRIU then refuses a cgroup that is there, and runtimes make it before.
            subject.is_gone();
            return refused(t, &output, &["cgroup"]);
        }
        output.ok();
        subject.counts_on(2);
        subject.is_killed_and_deleted();
        ok()
    };
    rows(&[
        ("--manage-cgroups-mode soft", &|t| mode(t, "soft")),
        ("--manage-cgroups-mode full", &|t| mode(t, "full")),
        ("--manage-cgroups-mode strict", &|t| mode(t, "strict")),
        ("--manage-cgroups-mode ignore", &|t| mode(t, "ignore")),
        ("--manage-cgroups-mode with another word", &|t| {
            let subject = Subject::counting(t);
            let output = subject.checkpoint(&["--manage-cgroups-mode", "gently"]);
            if output.status.success() && !t.is_proa() {
                return Ok("checkpointed all the same".to_owned());
            }
            assert_eq!(subject.status(), "running");
            refused(t, &output, &["gently", "manage-cgroups-mode"])
        }),
        ("--auto-dedup, --link-remap, --ext-unix-sk, --shell-job", &|t| {
            if t.is(Kind::Crun) {
                return Err(Skip("crun lacks some of them".to_owned()));
            }
            let subject = Subject::counting(t);
            let both = ["--ext-unix-sk", "--shell-job", "--auto-dedup"];
            subject.checkpoint(&[&both[..], &["--link-remap"]].concat()).ok();
            subject.restored(&both);
            subject.counts_on(2);
            ok()
        }),
    ])
}
