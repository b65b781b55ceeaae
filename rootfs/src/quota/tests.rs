//! Tests of limits, as root. The one with real quotas is for a machine whose kernel has them.

use super::*;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("proa-quota-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        rustix::mount::unmount(self.0.join("mnt"), rustix::mount::UnmountFlags::DETACH).ok();
        fs::remove_dir_all(&self.0).ok();
    }
}

fn open(path: &Path) -> OwnedFd {
    fs::create_dir_all(path).unwrap();
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn run(program: &str, args: &[&str]) -> std::result::Result<String, String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(format!("{program}: {}", text(&output.stderr))) }
}

#[test]
fn the_file_system_that_has_no_quotas_is_named() {
    let scratch = Scratch::new("none");
    let mnt = scratch.0.join("mnt");
    fs::create_dir(&mnt).unwrap();
    rustix::mount::mount("some-name", &mnt, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    let dir = mnt.join("dir");
    let said = limit(&scratch.0, open(&dir).as_fd(), 1 << 20).unwrap_err().to_string();
    let expected = format!(
        "limit the size of {}: its file system, tmpfs on some-name at {}, has no project quotas \
         (ext4 and xfs have them, with the mount option prjquota)",
        dir.display(),
        mnt.display()
    );
    assert_eq!(said, expected);
    release(open(&dir).as_fd()).unwrap();
}

#[test]
fn numbers_of_projects() {
    assert_eq!(next(0), FIRST);
    assert_eq!(next(FIRST), FIRST + 1);
    assert_eq!(next(FIRST + COUNT - 1), FIRST);
    assert_eq!(next(u32::MAX), FIRST);
    let digits = |number: u32| number.to_string().len();
    assert_eq!(digits(FIRST), digits(FIRST + COUNT));
    let scratch = Scratch::new("numbers");
    let file = scratch.0.join("projects");
    for (text, number) in [("", None), ("x", None), ("-1", None), ("99999999999", None), ("12\n", Some(12))] {
        fs::write(&file, text).unwrap();
        assert_eq!(read_number(last_project(&file).unwrap().as_fd()), number, "{text:?}");
    }
    write_number(last_project(&file).unwrap().as_fd(), FIRST).unwrap();
    assert_eq!(read_number(last_project(&file).unwrap().as_fd()), Some(FIRST));
}

#[test]
fn lines_of_mountinfo() {
    let text = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n\
                23 22 0:5 / /a\\040b rw,nosuid shared:3 master:1 - xfs /dev/b rw,prjquota\n24 22 9:9\n";
    let mount = |kind: &str, source: &str, target: &str| {
        Some(Mount { kind: kind.into(), source: source.into(), target: target.into() })
    };
    assert_eq!(find_mount(text, "8:1"), mount("ext4", "/dev/sda1", "/"));
    assert_eq!(find_mount(text, "0:5"), mount("xfs", "/dev/b", "/a\\040b"));
    assert_eq!(find_mount(text, "9:9"), None);
    assert_eq!(find_mount(text, "1:1"), None);
}

/// Writes until it cannot any more: how much, and why. `mighty`: with CAP_SYS_RESOURCE, for which ext4 has no limits.
fn fill(path: &Path, mighty: bool) -> (u64, Option<i32>) {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    use std::io::Write;
    let write = || {
        if !mighty {
            let mut sets = capabilities(None).unwrap();
            sets.effective.remove(CapabilitySet::SYS_RESOURCE);
            set_capabilities(None, sets).unwrap();
        }
        let mut file = fs::File::create(path).unwrap();
        let mut written = 0;
        loop {
            match file.write(&[1; 65536]) {
                Ok(length) if written < 64 << 20 => written += length as u64,
                Ok(_) => return (written, None),
                Err(error) => return (written, error.raw_os_error()),
            }
        }
    };
    // Capabilities are a thread's.
    std::thread::scope(|scope| scope.spawn(write).join()).unwrap()
}

#[test]
#[ignore = "for a kernel that has project quotas: make test-quota"]
fn more_than_the_limit_cannot_be_written() {
    ["ext4", "xfs"].into_iter().for_each(limits_of);
}

fn limits_of(kind: &str) {
    let scratch = Scratch::new(kind);
    let (image, mnt) = (scratch.0.join("image"), scratch.0.join("mnt"));
    fs::create_dir(&mnt).unwrap();
    fs::File::create(&image).unwrap().set_len(600 << 20).unwrap();
    let (image, target) = (image.to_str().unwrap(), mnt.to_str().unwrap());
    match kind {
        "ext4" => run("mkfs.ext4", &["-q", "-O", "quota,project", "-E", "quotatype=prjquota", image]),
        _ => run("mkfs.xfs", &["-q", image]),
    }
    .unwrap();
    run("mount", &["-o", "loop,prjquota", image, target]).unwrap();

    let dir = mnt.join("bundle");
    let project = limit(&scratch.0, open(&dir).as_fd(), 8 << 20).unwrap();
    assert!((FIRST..FIRST + COUNT).contains(&project));
    let other = mnt.join("other");
    let second = limit(&scratch.0, open(&other).as_fd(), 4 << 20).unwrap();
    assert_ne!(project, second);
    let full = |errno| matches!(errno, Some(libc::EDQUOT | libc::ENOSPC));
    let (written, errno) = fill(&dir.join("file"), false);
    assert!(full(errno) && (7 << 20..=8 << 20).contains(&written), "{written} {errno:?}");
    // What is made below is counted too, and the other directory has its own.
    fs::create_dir(other.join("upper")).unwrap();
    let (written, errno) = fill(&other.join("upper/file"), false);
    assert!(full(errno) && (3 << 20..=4 << 20).contains(&written), "{written} {errno:?}");
    // By an overlay, as a container writes: overlay never writes with that capability.
    let lower = mnt.join("lower");
    fs::remove_file(other.join("upper/file")).unwrap();
    for name in ["upper", "work", "merged"] {
        fs::create_dir_all(other.join(name)).unwrap();
    }
    fs::create_dir(&lower).unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.display(),
        other.join("upper").display(),
        other.join("work").display()
    );
    let merged = other.join("merged");
    run("mount", &["-t", "overlay", "overlay", "-o", &options, merged.to_str().unwrap()]).unwrap();
    let overlay = fill(&merged.join("file"), true);
    fs::remove_file(merged.join("file")).unwrap();
    run("umount", &[merged.to_str().unwrap()]).unwrap();
    assert!(full(overlay.1) && (3 << 20..=4 << 20).contains(&overlay.0), "{overlay:?}");

    let not_empty = limit(&scratch.0, open(&dir).as_fd(), 1 << 20).unwrap_err().to_string();
    assert!(not_empty.ends_with("/bundle: it is not empty"), "{not_empty}");
    // The limit is gone, and with the directory the number may be given out again.
    release(open(&dir).as_fd()).unwrap();
    let (written, errno) = fill(&dir.join("file"), false);
    assert!(errno.is_none(), "{written} {errno:?}");
    fs::remove_dir_all(&dir).unwrap();
    let mut quotas = Quotas::of(open(&mnt.join("x")).as_fd()).unwrap();
    // xfs counts removed files a little longer.
    let free = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        quotas.is_free(project).unwrap()
    });
    assert!(free && !quotas.is_free(second).unwrap());
    // By device, as before Linux 5.14.
    let device = quotas.find_device().unwrap();
    assert_eq!(sys::quotactl_get(QuotasOf::Device(&device), second).unwrap().hard_blocks, 8192);
    // A number that is in use is passed over.
    fs::write(scratch.0.join("projects"), format!("{}\n", second - 1)).unwrap();
    assert_eq!(limit(&scratch.0, open(&mnt.join("third")).as_fd(), 1 << 20).unwrap(), second + 1);

    drop(quotas);
    // Counted, but limits are not kept.
    run("umount", &[target]).unwrap();
    let options = if kind == "ext4" { "loop" } else { "loop,pqnoenforce" };
    run("mount", &["-o", options, image, target]).unwrap();
    let said = limit(&scratch.0, open(&mnt.join("fourth")).as_fd(), 1 << 20).unwrap_err().to_string();
    assert!(said.contains(&format!("its file system, {kind} on /dev/loop")), "{said}");
    assert!(said.ends_with("has no project quotas (mount option prjquota)"), "{said}");
    println!("quotas of {kind}: {project} and {second} were kept");
}
