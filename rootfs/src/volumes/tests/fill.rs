//! What the image has, in the volume.

use super::*;
use rustix::fs::{FileType, XattrFlags, lgetxattr, lsetxattr, mknodat};
use std::os::unix::fs::{FileTypeExt, chown, lchown};
use std::time::{Duration, SystemTime};

fn fill(volumes: &Volumes, name: &str, image: &Path) -> Result<Filled> {
    volumes.fill(name, open_path(image).as_fd(), &mut unlimited())
}

fn old(path: &Path) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    let file = fs::File::open(path).unwrap();
    file.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time)).unwrap();
}

fn attribute(path: &Path, name: &str) -> rustix::io::Result<Vec<u8>> {
    let mut value = [0; 64];
    lgetxattr(path, name, &mut value[..]).map(|length| value[..length].to_vec())
}

#[test]
fn all_that_can_be_told_of_a_file_is_copied() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let volume = plain(&volumes, "a");
    let data = PathBuf::from(&volume.mountpoint);
    let inode = fs::metadata(&data).unwrap().ino();
    let image = scratch.directory("image");
    fs::create_dir(image.join("sub")).unwrap();
    fs::write(image.join("sub/file"), "content").unwrap();
    chown(image.join("sub/file"), Some(12), Some(34)).unwrap();
    fs::set_permissions(image.join("sub/file"), fs::Permissions::from_mode(0o6751)).unwrap();
    let set = |path: &str, name: &str, value: &[u8]| {
        lsetxattr(image.join(path), name, value, XattrFlags::empty()).unwrap();
    };
    set("sub/file", "user.one", b"1");
    set("sub/file", "trusted.two", b"");
    set("sub/file", "trusted.overlay.opaque", b"y");
    // cap_net_raw, as setcap(8) writes it.
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    set("sub/file", "security.capability", &capability);
    old(&image.join("sub/file"));
    fs::hard_link(image.join("sub/file"), image.join("second")).unwrap();
    symlink("/etc/passwd", image.join("link")).unwrap();
    lchown(image.join("link"), Some(56), Some(78)).unwrap();
    set("link", "trusted.of-a-link", b"x");
    mknodat(CWD, image.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    mknodat(CWD, image.join("null"), FileType::CharacterDevice, Mode::from_raw_mode(0o666), 0x103).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(image.join("socket")).unwrap();
    set("sub", "user.of-a-directory", b"z");
    old(&image.join("sub"));
    set("", "user.of-the-root", b"r");
    chown(&image, Some(99), Some(98)).unwrap();
    fs::set_permissions(&image, fs::Permissions::from_mode(0o1770)).unwrap();
    old(&image);

    assert_eq!(fill(&volumes, "a", &image), Ok(Filled::Now));
    assert_eq!(fs::metadata(&data).unwrap().ino(), inode, "who has it mounted sees it");
    for path in ["", "sub", "sub/file", "second", "link", "fifo", "null"] {
        let (from, to) =
            (fs::symlink_metadata(image.join(path)).unwrap(), fs::symlink_metadata(data.join(path)).unwrap());
        let told = |of: &fs::Metadata| (of.mode(), of.uid(), of.gid(), of.rdev(), of.mtime(), of.mtime_nsec());
        assert_eq!(told(&from), told(&to), "{path}");
    }
    let (one, two) = (fs::metadata(data.join("sub/file")).unwrap(), fs::metadata(data.join("second")).unwrap());
    assert_eq!((one.ino(), one.nlink()), (two.ino(), 2));
    assert_eq!(one.atime(), 1_000_000_000);
    assert_eq!(fs::read_to_string(data.join("second")).unwrap(), "content");
    assert_eq!(fs::read_link(data.join("link")).unwrap(), Path::new("/etc/passwd"));
    assert!(fs::symlink_metadata(data.join("fifo")).unwrap().file_type().is_fifo());
    assert!(!data.join("socket").exists());
    assert_eq!(attribute(&data.join("second"), "user.one").unwrap(), b"1");
    assert_eq!(attribute(&data.join("second"), "trusted.two").unwrap(), b"");
    assert_eq!(attribute(&data.join("second"), "security.capability").unwrap(), capability);
    assert!(attribute(&data.join("second"), "trusted.overlay.opaque").is_err());
    assert_eq!(attribute(&data.join("link"), "trusted.of-a-link").unwrap(), b"x");
    assert_eq!(attribute(&data.join("sub"), "user.of-a-directory").unwrap(), b"z");
    assert_eq!(attribute(&data, "user.of-the-root").unwrap(), b"r");
    let left: Vec<_> = fs::read_dir(data.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn holes_stay_holes_and_content_stays() {
    use std::os::unix::fs::FileExt;
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let data = PathBuf::from(plain(&volumes, "a").mountpoint);
    let image = scratch.directory("image");
    let file = fs::File::create(image.join("sparse")).unwrap();
    file.set_len(1 << 30).unwrap();
    file.write_all_at(b"middle", 500 << 20).unwrap();
    file.write_all_at(b"near the end", (1 << 30) - 70000).unwrap();
    fs::File::create(image.join("all-hole")).unwrap().set_len(12345).unwrap();
    let noise: Vec<u8> = (0..3_000_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(image.join("noise"), &noise).unwrap();
    assert_eq!(fill(&volumes, "a", &image), Ok(Filled::Now));
    let copied = fs::metadata(data.join("sparse")).unwrap();
    assert_eq!(copied.len(), 1 << 30);
    assert!(copied.blocks() * 512 < 1 << 20, "{} blocks", copied.blocks());
    let (mut middle, mut end) = ([0; 8], [0; 12]);
    let copied = fs::File::open(data.join("sparse")).unwrap();
    copied.read_exact_at(&mut middle, (500 << 20) - 1).unwrap();
    copied.read_exact_at(&mut end, (1 << 30) - 70000).unwrap();
    assert_eq!((&middle, &end), (b"\0middle\0", b"near the end"));
    assert_eq!(fs::metadata(data.join("all-hole")).unwrap().len(), 12345);
    assert!(fs::read(data.join("noise")).unwrap() == noise);
}

#[test]
fn content_comes_from_another_file_system_too() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let data = PathBuf::from(plain(&volumes, "a").mountpoint);
    let [lower, upper, work, merged] = ["lower/dir", "upper", "work", "merged"].map(|path| scratch.directory(path));
    fs::write(lower.join("file"), vec![7; 300_000]).unwrap();
    fs::write(lower.join("hidden"), "x").unwrap();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.parent().unwrap().display(),
        upper.display(),
        work.display()
    );
    let options = CString::new(options).unwrap();
    rustix::mount::mount("overlay", &merged, "overlay", rustix::mount::MountFlags::empty(), Some(&*options)).unwrap();
    fs::remove_file(merged.join("dir/hidden")).unwrap();
    fs::set_permissions(merged.join("dir"), fs::Permissions::from_mode(0o711)).unwrap();
    let filled = fill(&volumes, "a", &merged.join("dir"));
    rustix::mount::unmount(&merged, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(filled, Ok(Filled::Now));
    assert!(fs::read(data.join("file")).unwrap() == vec![7; 300_000]);
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
    assert_eq!(fs::metadata(&data).unwrap().mode() & 0o7777, 0o711);
}

#[test]
fn it_is_filled_once() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let image = scratch.directory("image");
    fs::write(image.join("file"), "first").unwrap();
    let data = PathBuf::from(plain(&volumes, "a").mountpoint);
    assert_eq!(fill(&volumes, "a", &image), Ok(Filled::Now));
    fs::remove_file(data.join("file")).unwrap();
    assert_eq!(fill(&volumes, "a", &image), Ok(Filled::Before), "a container has emptied it");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
    // With something in it, and when that is gone.
    let data = PathBuf::from(plain(&volumes, "b").mountpoint);
    fs::write(data.join("own"), "x").unwrap();
    assert_eq!(fill(&volumes, "b", &image), Ok(Filled::Before));
    fs::remove_file(data.join("own")).unwrap();
    assert_eq!(fill(&volumes, "b", &image), Ok(Filled::Before));
    assert_eq!(fill(&volumes, "none", &image), Err(Error::NoVolume("none".into())));
}

#[test]
fn links_in_the_image_lead_nowhere() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let data = PathBuf::from(plain(&volumes, "a").mountpoint);
    let image = scratch.directory("image");
    fs::write(scratch.path("outside/secret"), "x").unwrap();
    for (target, name) in [("/", "root"), ("../outside", "dir"), ("../outside/secret", "file"), ("self", "self")] {
        symlink(target, image.join(name)).unwrap();
    }
    // A file with two names whose second directory is a link in the image.
    fs::write(image.join("one"), "1").unwrap();
    fs::hard_link(image.join("one"), image.join("two")).unwrap();
    assert_eq!(fill(&volumes, "a", &image), Ok(Filled::Now));
    assert!(fs::symlink_metadata(data.join("dir")).unwrap().is_symlink());
    assert_eq!(fs::read_dir(scratch.0.join("outside")).unwrap().count(), 1);
    // A link in place of what is being made.
    for name in ["filling", "ready"] {
        let data = PathBuf::from(plain(&volumes, name).mountpoint);
        symlink(scratch.path("outside"), data.with_file_name(name)).unwrap();
        fill(&volumes, name, &image).ok();
        assert_eq!(fs::read_to_string(scratch.0.join("outside/secret")).unwrap(), "x");
        assert_eq!(fs::read_dir(scratch.0.join("outside")).unwrap().count(), 1);
    }
}

#[test]
fn an_image_as_deep_as_none_can_be_named() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    plain(&volumes, "a");
    let image = scratch.directory("image");
    let mut here = open_path(&image);
    for _ in 0..3000 {
        mkdirat(&here, c"d", Mode::RWXU).unwrap();
        here = openat(&here, c"d", OFlags::PATH | tree::DIRECTORY, Mode::empty()).unwrap();
    }
    openat(&here, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RWXU).unwrap();
    rustix::fs::linkat(&here, c"file", &here, c"too", rustix::fs::AtFlags::empty()).unwrap();
    drop(here);
    assert_eq!(fill(&volumes, "a", &image), Ok(Filled::Now));
    volumes.remove("a", no_uses).unwrap();
    tree::remove(open_path(&scratch.0).as_fd(), c"image").unwrap();
}

#[test]
fn two_that_fill_at_once() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let image = scratch.directory("image/sub");
    for number in 0..300 {
        fs::write(image.join(format!("{number}")), "x").unwrap();
    }
    let image = image.parent().unwrap();
    for round in 0..5 {
        let name = format!("v{round}");
        let data = PathBuf::from(plain(&volumes, &name).mountpoint);
        let one = || {
            let filled = fill(&volumes, &name, image).unwrap();
            // Whoever was second has waited for the first.
            (filled, fs::read_dir(data.join("sub")).unwrap().count())
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(all.iter().filter(|(filled, _)| *filled == Filled::Now).count(), 1);
        assert!(all.iter().all(|(_, count)| *count == 300), "{all:?}");
    }
}

#[test]
fn a_container_that_has_it_mounted_keeps_what_it_made() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let data = PathBuf::from(plain(&volumes, "a").mountpoint);
    // As a process leaves it that was killed while names moved.
    let ready = scratch.directory("store/volumes/a/ready/tree");
    fs::write(ready.join("file"), "image's").unwrap();
    fs::write(ready.parent().unwrap().join("other"), "image's").unwrap();
    symlink(scratch.directory("outside"), data.join("tree")).unwrap();
    volumes.complete("a").unwrap();
    assert!(fs::symlink_metadata(data.join("tree")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(data.join("other")).unwrap(), "image's");
    assert_eq!(fs::read_dir(scratch.0.join("outside")).unwrap().count(), 0);
    assert!(!ready.exists());
}

#[test]
fn all_volumes_of_an_image_have_one_budget() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let image = scratch.directory("image");
    fs::create_dir(image.join("sub")).unwrap();
    fs::write(image.join("sub/file"), vec![1; 100_000]).unwrap();
    lsetxattr(image.join("sub/file"), "user.one", &[1; 900], XattrFlags::empty()).unwrap();
    let sparse = fs::File::create(image.join("hole")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    let fill = |limits: Limits, names: &[&str]| {
        let mut budget = Budget::new(&limits);
        names.iter().try_for_each(|name| {
            plain(&volumes, name);
            volumes.fill(name, open_path(&image).as_fd(), &mut budget).map(drop)
        })
    };
    // Of the file on the disk, of the attributes, and of a directory.
    let bytes = 102_400 + 900 + 4096;
    assert_eq!(fill(Limits { bytes: 2 * bytes, entries: 6 }, &["a", "b"]), Ok(()));
    let said = "the image would fill volumes with more than 220000 bytes or 8 files, which is the limit";
    assert_eq!(fill(Limits { bytes: 220_000, entries: 8 }, &["c", "d", "e"]).unwrap_err().to_string(), said);
    assert_eq!(fs::read_dir(scratch.0.join("store/volumes/e/data")).unwrap().count(), 0);
    assert!(!scratch.0.join("store/volumes/e/filling").exists());
    let few = fill(Limits { bytes: 1 << 30, entries: 5 }, &["f", "g"]).unwrap_err().to_string();
    assert!(few.contains("5 files"), "{few}");
    for limits in [Limits { bytes: 100_000 + 899 + 4096, entries: 9 }, Limits { bytes: 4095, entries: 9 }] {
        let name = format!("h{}", limits.bytes);
        assert!(fill(limits, &[&name]).is_err(), "{limits:?}");
    }
}

#[test]
fn what_cannot_be_copied_is_named_and_leaves_an_empty_volume() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let volume = plain(&volumes, "a");
    // A store on a file system that is soon full.
    let small = scratch.directory("small");
    let size = Some(c"size=1m");
    rustix::mount::mount("tmpfs", &small, "tmpfs", rustix::mount::MountFlags::empty(), size).unwrap();
    let on_small = Volumes::open(&small).unwrap();
    let made = on_small.create(Some("b"), &BTreeMap::new(), NOW);
    let image = scratch.directory("image/sub");
    fs::write(image.join("big"), vec![1; 2 << 20]).unwrap();
    let image = image.parent().unwrap();
    let failed = fill(&on_small, "b", image);
    let left = fs::read_dir(small.join("volumes/b")).unwrap().count();
    fs::remove_file(image.join("sub/big")).unwrap();
    let again = fill(&on_small, "b", image);
    rustix::mount::unmount(&small, rustix::mount::UnmountFlags::DETACH).unwrap();
    made.unwrap();
    let said = failed.unwrap_err().to_string();
    assert!(said.ends_with("volumes/b/sub/big: no space left on device"), "{said}");
    assert!(said.starts_with("fill the volume b: copy "), "{said}");
    assert_eq!((left, again), (2, Ok(Filled::Now)));
    assert_eq!(fs::read_dir(volume.mountpoint).unwrap().count(), 0);
}
