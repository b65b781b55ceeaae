//! Images that are broken, or made to mislead: each is refused by one line, and nothing is left.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use conformance::look;
use conformance::test::{Done, Test};

use super::subject::Subject;
use super::table::{Outcome, ok, refusal, refused, rows};

crate::cases! {
    broken_images,
    links_among_the_images,
    destinations_that_mislead,
}

/// Restores images after `spoil` has changed them: proa refuses them with one of the words, and leaves nothing.
#[track_caller]
fn spoilt(t: &Test<'_>, words: &[&str], spoil: impl Fn(&Subject<'_>)) -> Outcome {
    let subject = Subject::counting(t);
    subject.checkpoint(&[]).ok();
    spoil(&subject);
    // Some wait for ever.
    let output = subject.restore_call(&["-d"]).wrapper(&["timeout", "-s", "KILL", "8"]).output();
    if t.is_proa() {
        subject.is_gone();
        t.assert_nothing_left();
    }
    let left = if output.status.success() { Vec::new() } else { t.leaks() };
    let outcome =
        if output.code() == 128 + 9 && !t.is_proa() { "hangs".to_owned() } else { refused(t, &output, words)? };
    Ok(if left.is_empty() { outcome } else { format!("{outcome}, and left: {}", left.join("; ")) })
}

/// The image whose name begins so.
#[track_caller]
fn image(dir: &Path, begins: &str) -> PathBuf {
    let entries = fs::read_dir(dir).expect("images").flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    found.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begins)));
    found.into_iter().next().unwrap_or_else(|| panic!("no image {begins}"))
}

fn cut(path: &Path, keep: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).expect("cannot open an image");
    file.set_len(keep).expect("cannot cut an image");
}

fn broken_images() -> Done {
    let cut_row = |t: &Test<'_>, name: &'static str, keep: u64| {
        spoilt(t, &[], |subject: &Subject<'_>| cut(&image(&subject.images, name), keep))
    };
    rows(&[
        ("an empty directory", &|t| {
            spoilt(t, &["inventory", "no checkpoint", "image"], |subject| {
                fs::remove_dir_all(&subject.images).expect("cannot remove");
                fs::create_dir(&subject.images).expect("cannot make a directory");
            })
        }),
        ("no directory", &|t| {
            spoilt(t, &["image"], |subject| fs::remove_dir_all(&subject.images).expect("cannot remove"))
        }),
        ("inventory.img cut off", &|t| cut_row(t, "inventory.img", 10)),
        ("inventory.img empty", &|t| cut_row(t, "inventory.img", 0)),
        ("core-1.img cut off", &|t| cut_row(t, "core-1.img", 100)),
        ("pages-1.img cut off", &|t| cut_row(t, "pages-1.img", 4096)),
        ("mountpoints.img cut off", &|t| cut_row(t, "mountpoints-", 50)),
        ("descriptors.json is no JSON", &|t| {
            spoilt(t, &["descriptors.json"], |subject| {
                fs::write(subject.images.join("descriptors.json"), "[\"/dev/null\", {]").expect("cannot write");
            })
        }),
        ("descriptors.json is of 20 MiB", &|t| {
            spoilt(t, &["descriptors.json"], |subject| {
                fs::write(subject.images.join("descriptors.json"), "[".repeat(20 << 20)).expect("cannot write");
            })
        }),
        ("random bytes in core-1.img", &|t| {
            spoilt(t, &[], |subject| {
                let path = image(&subject.images, "core-1.img");
                let mut bytes = fs::read(&path).expect("an image");
                bytes[8..].iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 131 + 17) as u8);
                fs::write(&path, bytes).expect("cannot write");
            })
        }),
    ])
}

fn links_among_the_images() -> Done {
    rows(&[
        ("core-1.img is a link to a file of the host", &|t| {
            spoilt(t, &["core-1.img", "link"], |subject| {
                let path = image(&subject.images, "core-1.img");
                fs::remove_file(&path).expect("cannot remove");
                symlink("/etc/passwd", &path).expect("cannot link");
            })
        }),
        ("pages-1.img is a link to its own copy elsewhere", &|t| {
            spoilt(t, &["pages-1.img", "link"], |subject| {
                let path = image(&subject.images, "pages-1.img");
                fs::rename(&path, subject.t.file("elsewhere")).expect("cannot rename");
                symlink(subject.t.file("elsewhere"), &path).expect("cannot link");
            })
        }),
        ("descriptors.json is a link", &|t| {
            spoilt(t, &["descriptors.json", "link"], |subject| {
                let path = subject.images.join("descriptors.json");
                fs::remove_file(&path).ok();
                symlink("/etc/passwd", &path).expect("cannot link");
            })
        }),
        ("parent is a link out of it", &|t| {
            spoilt(t, &["parent"], |subject| symlink("/etc", subject.images.join("parent")).expect("cannot link"))
        }),
        ("an image is a FIFO", &|t| {
            spoilt(t, &["pagemap-1.img", "file"], |subject| {
                let path = image(&subject.images, "pagemap-1.img");
                fs::remove_file(&path).expect("cannot remove");
                nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("cannot make a FIFO");
            })
        }),
        ("a link in the place of a log of --work-path", &|t| {
            linked(t, &["dump.log", "restore.log"], |subject| subject.work.clone(), true)
        }),
        ("a link restore.log among the images, no --work-path", &|t| {
            linked(t, &["restore.log"], |subject| subject.images.clone(), false)
        }),
        ("a link stats-restore among the images, no --work-path", &|t| {
            linked(t, &["stats-restore"], |subject| subject.images.clone(), false)
        }),
    ])
}

/// Files that CRIU writes are links to a file of the host, which may not be written to. Before the checkpoint, or after it.
fn linked(t: &Test<'_>, names: &[&str], dir: impl Fn(&Subject<'_>) -> PathBuf, before: bool) -> Outcome {
    let subject = Subject::counting(t);
    let canary = t.make_file("canary", "untouched");
    let link = || {
        fs::create_dir_all(dir(&subject)).expect("cannot make a directory");
        names.iter().for_each(|name| symlink(&canary, dir(&subject).join(name)).expect("cannot link"));
    };
    if before {
        link();
    }
    let mut last = subject.checkpoint(&[]);
    if last.status.success() {
        if !before {
            link();
        }
        let image_path = ["-d".as_ref(), "--image-path".as_ref(), subject.images.as_os_str()];
        let bundle = ["--bundle".as_ref(), subject.bundle.path.as_os_str()];
        let call = t.call(&["restore", &subject.id]).options(&image_path).options(&bundle);
        let work_path = ["--work-path".as_ref(), subject.work.as_os_str()];
        last = if before { call.options(&work_path) } else { call }.output();
    }
    let touched = fs::read_to_string(&canary).ok().as_deref() != Some("untouched");
    assert!(!touched || !t.is_proa(), "the file was written to");
    Ok(match (touched, last.status.success()) {
        (true, _) => "written to".to_owned(),
        (false, true) => "ok: not written to".to_owned(),
        (false, false) => refusal(&last),
    })
}

fn destinations_that_mislead() -> Done {
    rows(&[
        ("a destination with ]: in it", &bracket),
        ("the target of a bind has become a link to the host", &linked_target),
        ("a directory on the way has become a link to the host", &linked_parent),
    ])
}

/// What a volume's source is, as the container has it, may not depend on what its destination is called.
fn bracket(t: &Test<'_>) -> Outcome {
    let volume = t.make_dir("volume");
    fs::write(volume.join("file"), "the volume's").expect("cannot write");
    let mut subject = Subject::counter(t);
    subject.bundle.bind(&volume, "/a]:/etc", &["bind", "rw"]);
    let subject = subject.run();
    subject.counts_on(2);
    let output = subject.checkpoint(&[]);
    if !output.status.success() {
        return refused(t, &output, &["]:", "destination"]);
    }
    let output = subject.restore(&[]);
    if !output.status.success() {
        return refused(t, &output, &["]:", "destination"]);
    }
    subject.counts_on(2);
    let seen = subject.sh("cat '/a]:/etc/file'");
    assert!(seen == "the volume's" || !t.is_proa(), "it sees {seen:?}");
    Ok(if seen == "the volume's" { "ok".to_owned() } else { format!("restored, and sees {seen:?}") })
}

/// After the restore nothing may be mounted outside the root.
fn outside(t: &Test<'_>, subject: &Subject<'_>, elsewhere: &Path) -> Outcome {
    let output = subject.restore(&[]);
    let mounted = look::mounts(std::process::id() as i32);
    let stray: Vec<_> = mounted.iter().filter(|mount| mount.mount_point.starts_with(elsewhere)).collect();
    let made = fs::read_dir(elsewhere).expect("a directory").count();
    if t.is_proa() {
        assert!(stray.is_empty(), "mounted on the host: {stray:?}");
        assert_eq!(made, 1, "files were made on the host");
    }
    if !output.status.success() {
        if t.is_proa() {
            subject.is_gone();
        }
        return refused(t, &output, &[]);
    }
    subject.counts_on(2);
    let inside = look::is_mounted(subject.pid(), "/volume") || look::is_mounted(subject.pid(), "/on/the/way");
    subject.is_killed_and_deleted();
    if stray.is_empty() && made == 1 && inside {
        return ok();
    }
    Ok(format!(
        "restored; mounts on the host: {}, files made there: {}, mounted inside: {inside}",
        stray.len(),
        made - 1
    ))
}

fn linked_target(t: &Test<'_>) -> Outcome {
    let (volume, elsewhere) = (t.make_dir("volume"), t.make_dir("elsewhere"));
    fs::write(elsewhere.join("canary"), "").expect("cannot write");
    let mut subject = Subject::counter(t);
    subject.bundle.bind(&volume, "/volume", &["bind", "rw"]);
    let subject = subject.run();
    subject.counts_on(2);
    subject.checkpoint(&[]).ok();
    fs::remove_dir(subject.bundle.inside("/volume")).expect("cannot remove");
    symlink(&elsewhere, subject.bundle.inside("/volume")).expect("cannot link");
    outside(t, &subject, &elsewhere)
}

fn linked_parent(t: &Test<'_>) -> Outcome {
    let (volume, elsewhere) = (t.make_dir("volume"), t.make_dir("elsewhere"));
    fs::create_dir(elsewhere.join("way")).expect("cannot make a directory");
    let mut subject = Subject::counter(t);
    subject.bundle.bind(&volume, "/on/the/way", &["bind", "rw"]);
    let subject = subject.run();
    subject.counts_on(2);
    subject.checkpoint(&[]).ok();
    fs::remove_dir_all(subject.bundle.inside("/on")).expect("cannot remove");
    fs::create_dir(subject.bundle.inside("/on")).expect("cannot make a directory");
    symlink(&elsewhere, subject.bundle.inside("/on/the")).expect("cannot link");
    outside(t, &subject, &elsewhere)
}
