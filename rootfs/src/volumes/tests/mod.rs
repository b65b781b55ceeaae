//! Tests of volumes, as root, in directories of their own.

mod fill;
mod kill;
mod words;

use super::*;
use crate::store::Limits;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

const NOW: &str = "2026-01-31T23:59:59Z";

fn unlimited() -> Budget {
    Budget::new(&Limits { bytes: u64::MAX, entries: u64::MAX })
}

/// A directory that goes when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        let dir = std::env::temp_dir().join(format!("proa-volumes-{}", random(8).unwrap()));
        fs::create_dir(&dir).unwrap();
        Scratch(dir)
    }

    /// The same in memory: nothing has to be written to disk.
    fn in_memory() -> Scratch {
        let scratch = Scratch::new();
        rustix::mount::mount("tmpfs", &scratch.0, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        scratch
    }

    fn volumes(&self) -> Volumes {
        Volumes::open(&self.0.join("store")).unwrap()
    }

    /// A path, with the directory it is in.
    fn path(&self, path: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    fn directory(&self, path: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(&path).unwrap();
        path
    }
}

impl Drop for Scratch {
    /// A test that failed has left what it had mounted, too.
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let mut points: Vec<&Path> = points.map(Path::new).filter(|point| point.starts_with(&self.0)).collect();
        // What was mounted last first.
        points.reverse();
        for point in points {
            rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH).ok();
        }
        fs::remove_dir_all(&self.0).ok();
    }
}

fn open_path(path: &Path) -> OwnedFd {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap()
}

fn plain(volumes: &Volumes, name: &str) -> Volume {
    volumes.create(Some(name), &BTreeMap::new(), NOW).unwrap()
}

fn no_uses() -> Result<Uses> {
    Ok(Uses::new())
}

fn used(name: &str, bundle: &str) -> Uses {
    Uses::from([(name.to_owned(), vec![bundle.to_owned()])])
}

fn in_store(scratch: &Scratch) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(scratch.0.join("store/volumes"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_volume_is_made_listed_and_removed() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    assert!(volumes.list(&Uses::new()).unwrap().volumes.is_empty());
    assert!(!scratch.0.join("store").exists(), "a list makes nothing");
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let made = volumes.create(Some("data.1"), &labels, NOW).unwrap();
    assert_eq!(made.mountpoint, scratch.0.join("store/volumes/data.1/data").to_str().unwrap());
    assert_eq!(fs::metadata(scratch.0.join("store/volumes")).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(&made.mountpoint).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(volumes.create(Some("data.1"), &labels, NOW), Err(Error::Exists("data.1".into())));
    plain(&volumes, "a");
    let uses = used("data.1", "/bundles/x");
    let listed = volumes.list(&uses).unwrap();
    assert!(listed.broken.is_empty());
    assert_eq!(listed.volumes.iter().map(|volume| &*volume.name).collect::<Vec<_>>(), ["a", "data.1"]);
    let json = serde_json::to_string(&listed.volumes[1]).unwrap();
    let mountpoint = &made.mountpoint;
    let expected = format!(
        r#"{{"name":"data.1","mountpoint":"{mountpoint}","created":"{NOW}","labels":{{"a":"b"}},"usedBy":["/bundles/x"]}}"#
    );
    assert_eq!(json, expected);
    let refused = volumes.remove("data.1", || Ok(uses)).unwrap_err();
    assert_eq!(refused.to_string(), "volume data.1 is in use by the bundle /bundles/x");
    volumes.remove("data.1", no_uses).unwrap();
    assert_eq!(volumes.inspect("data.1", &Uses::new()), Err(Error::NoVolume("data.1".into())));
    assert_eq!(volumes.remove("data.1", no_uses), Err(Error::NoVolume("data.1".into())));
    assert_eq!(in_store(&scratch), ["a"]);
}

#[test]
fn names_are_names() {
    let long = "a".repeat(256);
    for name in ["", ".", "..", "a/b", "../a", "/a", ".hidden", "-a", "_a", "a b", "a\nb", "ä", "a\0", &long] {
        let scratch = Scratch::new();
        let volumes = scratch.volumes();
        assert!(matches!(volumes.create(Some(name), &BTreeMap::new(), NOW), Err(Error::Refused(_))), "{name:?}");
        assert!(matches!(volumes.inspect(name, &Uses::new()), Err(Error::Refused(_))), "{name:?}");
        assert!(matches!(volumes.remove(name, no_uses), Err(Error::Refused(_))), "{name:?}");
        assert!(matches!(volumes.size(name), Err(Error::Refused(_))), "{name:?}");
        assert!(matches!(volumes.complete(name), Err(Error::Refused(_))), "{name:?}");
    }
    let scratch = Scratch::new();
    for name in ["0", "a.b-c_D", &long[1..]] {
        plain(&scratch.volumes(), name);
    }
}

#[test]
fn anonymous_volumes_go_with_their_bundle() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let made = volumes.create(None, &BTreeMap::new(), NOW).unwrap();
    assert!(made.name.len() == 64 && made.name.bytes().all(|byte| byte.is_ascii_hexdigit()), "{}", made.name);
    assert_eq!(made.labels, BTreeMap::from([("anonymous".to_owned(), String::new())]));
    plain(&volumes, "named");
    plain(&volumes, "other");
    let names = [&*made.name, "named"];
    let kept = volumes.remove_anonymous(&names, || Ok(used(&made.name, "/bundles/x"))).unwrap();
    assert_eq!(kept, Pruned::default());
    let gone = volumes.remove_anonymous(&names, no_uses).unwrap();
    assert_eq!(gone.removed, std::slice::from_ref(&made.name));
    assert_eq!(in_store(&scratch), ["named", "other"]);
}

#[test]
fn prune_removes_what_no_bundle_uses_and_says_how_much() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    assert_eq!(volumes.prune(true, no_uses).unwrap(), Pruned::default());
    for name in ["kept", "gone"] {
        let volume = plain(&volumes, name);
        let file = Path::new(&volume.mountpoint).join("big");
        fs::write(&file, vec![1; 1 << 20]).unwrap();
        // One file with two names takes its place once.
        fs::hard_link(&file, file.with_extension("too")).unwrap();
    }
    let size = volumes.size("gone").unwrap();
    assert!(((1 << 20)..(1 << 20) + 65536).contains(&size), "{size}");
    // What processes that were killed have left.
    fs::create_dir_all(scratch.path("store/volumes/.old-1/data/x")).unwrap();
    fs::create_dir_all(scratch.path("store/volumes/.new-1/data")).unwrap();
    let pruned = volumes.prune(true, || Ok(used("kept", "/b"))).unwrap();
    assert_eq!(pruned.removed, ["gone"]);
    assert!(pruned.bytes >= size && pruned.failed.is_empty(), "{pruned:?}");
    assert_eq!(in_store(&scratch), ["kept"]);
}

#[test]
fn a_link_in_place_of_a_volume_leads_nowhere() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    plain(&volumes, "a");
    fs::write(scratch.path("outside/data/secret"), "x").unwrap();
    fs::write(scratch.path("outside/volume.json"), format!(r#"{{"name":"a","created":"{NOW}"}}"#)).unwrap();
    let volume = scratch.path("store/volumes/a");
    fs::remove_dir_all(&volume).unwrap();
    symlink(scratch.path("outside"), &volume).unwrap();
    let said = volumes.inspect("a", &Uses::new()).unwrap_err().to_string();
    assert!(said.ends_with("store/volumes/a: not a directory"), "{said}");
    assert_eq!(volumes.list(&Uses::new()).unwrap().broken.len(), 1);
    assert!(volumes.fill("a", open_path(&scratch.directory("image")).as_fd(), &mut unlimited()).is_err());
    assert!(volumes.size("a").is_err());
    assert!(volumes.remove("a", no_uses).is_err());
    assert_eq!(volumes.prune(true, no_uses).unwrap().failed.len(), 1);
    // And of what is in it.
    plain(&volumes, "b");
    let data = scratch.path("store/volumes/b/data");
    fs::remove_dir(&data).unwrap();
    symlink(scratch.path("outside/data"), &data).unwrap();
    assert!(volumes.fill("b", open_path(&scratch.directory("image")).as_fd(), &mut unlimited()).is_err());
    assert!(volumes.size("b").is_err());
    assert!(volumes.remove("b", no_uses).is_err());
    assert!(scratch.0.join("outside/data/secret").exists());
}

#[test]
fn what_a_container_has_left_is_removed_and_no_more() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let volume = plain(&volumes, "a");
    fs::write(scratch.path("outside/kept"), "x").unwrap();
    let data = Path::new(&volume.mountpoint);
    symlink(scratch.path("outside"), data.join("link")).unwrap();
    symlink("..", data.join("up")).unwrap();
    fs::create_dir(data.join("closed")).unwrap();
    fs::write(data.join("closed/file"), "x").unwrap();
    fs::set_permissions(data.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    // Deeper than any path can say, and than there are descriptors.
    let mut here = open_path(data);
    for _ in 0..5000 {
        mkdirat(&here, c"d", Mode::RWXU).unwrap();
        here = openat(&here, c"d", OFlags::PATH | tree::DIRECTORY, Mode::empty()).unwrap();
    }
    drop(here);
    // Wide enough that names go while the directory is read.
    for number in 0..5000 {
        fs::write(data.join(format!("file-with-a-longer-name-{number}")), "").unwrap();
    }
    assert!(volumes.size("a").unwrap() > 5000 * 4096);
    volumes.remove("a", no_uses).unwrap();
    assert!(in_store(&scratch).is_empty());
    assert!(scratch.0.join("outside/kept").exists());
}

#[test]
fn a_test_that_fails_leaves_no_mount() {
    let scratch = Scratch::new();
    let below = scratch.directory("dir/below");
    for target in [scratch.directory("dir"), below.clone(), below] {
        fs::create_dir_all(&target).unwrap();
        rustix::mount::mount("tmpfs", &target, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    }
    let path = scratch.0.clone();
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _scratch = scratch;
        std::panic::resume_unwind(Box::new(()));
    }))
    .unwrap_err();
    assert!(!path.exists());
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(path.to_str().unwrap()));
}

#[test]
fn a_volume_with_a_mount_in_it_is_left_alone() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let volume = plain(&volumes, "a");
    let mount = |target: &str| {
        rustix::mount::mount("tmpfs", target, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        fs::write(Path::new(target).join("kept"), "x").unwrap();
    };
    mount(&volume.mountpoint);
    let said = volumes.remove("a", no_uses).unwrap_err().to_string();
    assert_eq!(said, format!("something is mounted at {}", volume.mountpoint));
    let kept = Path::new(&volume.mountpoint).join("kept").exists();
    rustix::mount::unmount(&*volume.mountpoint, rustix::mount::UnmountFlags::DETACH).unwrap();
    assert!(kept);
    // Deeper it stops there, and the name is gone.
    let deep = format!("{}/deep", volume.mountpoint);
    fs::create_dir(&deep).unwrap();
    mount(&deep);
    let said = volumes.remove("a", no_uses).unwrap_err().to_string();
    assert!(said.starts_with("remove a volume: something is mounted at ") && said.ends_with("/data/deep"), "{said}");
    let old = scratch.0.join("store/volumes").join(in_store(&scratch).pop().unwrap());
    let moved = old.join("data/deep");
    assert!(moved.join("kept").exists());
    rustix::mount::unmount(&moved, rustix::mount::UnmountFlags::DETACH).unwrap();
    volumes.prune(true, no_uses).unwrap();
    assert!(in_store(&scratch).is_empty());
}

#[test]
fn a_record_that_does_not_read_back_is_told_of() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    plain(&volumes, "a");
    for text in ["", "{", "[]", r#"{"name":1}"#, "\u{0}"] {
        fs::write(scratch.path("store/volumes/a/volume.json"), text).unwrap();
        assert!(matches!(volumes.inspect("a", &Uses::new()), Err(Error::Refused(_))), "{text:?}");
        assert_eq!(volumes.list(&Uses::new()).unwrap().broken.len(), 1);
    }
    let file = scratch.path("store/volumes/a/volume.json");
    fs::remove_file(&file).unwrap();
    rustix::fs::mknodat(CWD, &file, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert!(volumes.inspect("a", &Uses::new()).is_err(), "and does not wait for a writer");
    volumes.remove("a", no_uses).unwrap();
}

#[test]
fn two_processes_that_make_one_volume() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    for round in 0..20 {
        let name = format!("v{round}");
        let make = || volumes.create(Some(&name), &BTreeMap::new(), NOW).is_ok();
        let made = std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            all.into_iter().map(|one| usize::from(one.join().unwrap())).sum::<usize>()
        });
        assert_eq!(made, 1);
    }
    assert_eq!(in_store(&scratch).len(), 20);
}

#[test]
fn a_store_that_cannot_be() {
    let scratch = Scratch::new();
    symlink("nowhere/at/all", scratch.path("dangling")).unwrap();
    let volumes = Volumes::open(&scratch.0.join("dangling")).unwrap();
    assert!(volumes.create(Some("a"), &BTreeMap::new(), NOW).is_err());
    fs::write(scratch.path("file"), "").unwrap();
    let volumes = Volumes::open(&scratch.0.join("file")).unwrap();
    let said = volumes.create(Some("a"), &BTreeMap::new(), NOW).unwrap_err().to_string();
    assert!(said.ends_with("not a directory"), "{said}");
}

#[test]
fn many_volumes_go_with_few_descriptors() {
    let scratch = Scratch::in_memory();
    let volumes = Volumes::open(&scratch.0).unwrap();
    for number in 0..20 {
        volumes.create(Some(&format!("v{number}")), &BTreeMap::new(), NOW).unwrap();
    }
    let most = std::cell::Cell::new(0);
    let ours = |link: &fs::DirEntry| fs::read_link(link.path()).is_ok_and(|path| path.starts_with(&volumes.path));
    let pruned = volumes
        .remove_where(
            || Ok(Uses::new()),
            |_, _, _| {
                let open = fs::read_dir("/proc/self/fd").unwrap().flatten().filter(ours).count();
                most.set(most.get().max(open));
                true
            },
        )
        .unwrap();
    assert_eq!((pruned.removed.len(), pruned.failed.len()), (20, 0));
    assert!(most.get() < 5, "{} descriptors", most.get());
}
