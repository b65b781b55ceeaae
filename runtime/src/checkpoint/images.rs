//! The directory with the files of a checkpoint. Whoever wrote it may mean harm.

use crate::error::{Context, Error, Result, bad};
use crate::mountinfo;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, fstat, openat, readlinkat, stat, statat,
};
use rustix::io::Errno;
use rustix::process::getegid;
use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// What the standard streams were: for who restores them.
const DESCRIPTORS: &str = "descriptors.json";
/// CRIU's link to the images of the pre-dump before.
const PARENT: &str = "parent";
/// As many pre-dumps one after the other as anybody will make.
const MOST: usize = 64;
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const MAX_SMALL: u64 = 16 << 20;

/// What a process has for its standard streams, by CRIU's names for those that are not of the container.
pub(super) fn streams(pid: i32) -> Result<[String; 3]> {
    let seen: BTreeSet<u64> = mountinfo::of(&pid.to_string())?.into_iter().map(|mounted| mounted.id).collect();
    let mut streams: [String; 3] = Default::default();
    for (number, stream) in streams.iter_mut().enumerate() {
        let path = format!("/proc/{pid}/fd/{number}");
        // A stream that is closed is no stream.
        let Ok(target) = readlinkat(CWD, &path, Vec::new()) else { continue };
        *stream = target.to_string_lossy().into_owned();
        let stat = stat(&path).context(|| format!("stat {path}"))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            let mount = mount_of(&format!("/proc/{pid}/fdinfo/{number}"))?;
            if !seen.contains(&mount) {
                *stream = format!("file[{mount:x}:{:x}]", stat.st_ino);
            }
        }
    }
    Ok(streams)
}

/// `mnt_id` of proc_pid_fdinfo(5).
fn mount_of(path: &str) -> Result<u64> {
    let text = std::fs::read_to_string(path).context(|| format!("read {path}"))?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
    id.ok_or_else(|| Error::Usage(format!("{path} is not understood")))
}

/// Notes them for who restores.
pub(super) fn write_descriptors(images: &OwnedFd, streams: &[String; 3]) -> Result<()> {
    let what = || format!("write {DESCRIPTORS}");
    let text = serde_json::to_vec(streams).map_err(|error| Error::Usage(error.to_string()))?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(images, DESCRIPTORS, flags, Mode::from_raw_mode(0o600)).context(what)?;
    match rustix::io::write(&file, &text).context(what)? == text.len() {
        true => Ok(()),
        false => Err(Errno::NOSPC).context(what),
    }
}

/// The names of those that ours are to take the place of; None for a stream that was something else.
pub(super) fn read_descriptors(images: &OwnedFd) -> Result<[Option<String>; 3]> {
    let streams: [String; 3] = serde_json::from_slice(&read_file(images, DESCRIPTORS)?)
        .map_err(|error| bad("--image-path", format_args!("{DESCRIPTORS}: {error}")))?;
    Ok(streams.map(|name| is_outside(&name).then_some(name)))
}

/// A small file of the images.
pub(super) fn read_file(images: &OwnedFd, name: &str) -> Result<Vec<u8>> {
    let what = || format!("--image-path: read {name}");
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(images, name, flags, Mode::empty()).context(what)?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(MAX_SMALL + 1).read_to_end(&mut bytes).context(what)?;
    match bytes.len() as u64 > MAX_SMALL {
        true => Err(bad("--image-path", format_args!("{name} is too large"))),
        false => Ok(bytes),
    }
}

/// `pipe:[NUMBER]`, `file[HEX:HEX]`.
pub(super) fn is_outside(name: &str) -> bool {
    let within = |before| name.strip_prefix(before).and_then(|rest| rest.strip_suffix(']'));
    let is = |part: &str, sign: fn(&u8) -> bool| !part.is_empty() && part.bytes().all(|byte| sign(&byte));
    match (within("pipe:["), within("file[").and_then(|numbers| numbers.split_once(':'))) {
        (Some(number), _) => is(number, u8::is_ascii_digit),
        (_, Some((mount, inode))) => is(mount, u8::is_ascii_hexdigit) && is(inode, u8::is_ascii_hexdigit),
        _ => false,
    }
}

/// The images of a checkpoint, opened to restore them.
pub(super) struct Images {
    /// The directory, and those of the pre-dumps before.
    directories: Vec<OwnedFd>,
}

impl Images {
    /// CRIU opens their files by name and follows links, so there must be none but those to the pre-dumps before, and
    /// these must lie beside it.
    pub(super) fn open(path: &Path) -> Result<Images> {
        let what = || format!("--image-path {}", path.display());
        let first = openat(CWD, path, DIRECTORY, Mode::empty()).context(what)?;
        let real = path.canonicalize().context(what)?;
        let mut directories = vec![first];
        let mut here = real.clone();
        while let Some(parent) = directories.last().map(|dir| check(dir, &here)).transpose()?.flatten() {
            here = beside(&real, &here, &parent)?;
            if directories.len() == MOST {
                return Err(bad("--image-path", format_args!("{}: more than {MOST} pre-dumps before", path.display())));
            }
            directories.push(openat(CWD, &here, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).context(what)?);
        }
        Ok(Images { directories })
    }

    /// The directory itself.
    pub(super) fn directory(&self) -> &OwnedFd {
        &self.directories[0]
    }

    /// All that have images, the newest first.
    pub(super) fn directories(&self) -> &[OwnedFd] {
        &self.directories
    }

    /// Lets a user of the host, root of a container whose processes read them, into the directories, until this is
    /// dropped. Before a process has become that user it is still one of our group.
    pub(super) fn lend(&self, uid: u32) -> Result<Lent<'_>> {
        let what = || "--image-path: let the container's root in".to_owned();
        let mut lent = Lent(Vec::new());
        for dir in &self.directories {
            let stat = fstat(dir).context(what)?;
            lent.0.push((dir, stat));
            fchown(dir, Some(Uid::from_raw(uid)), Some(getegid())).context(what)?;
            fchmod(dir, Mode::from_raw_mode(stat.st_mode | 0o550)).context(what)?;
        }
        Ok(lent)
    }
}

/// Directories with what they were.
pub(super) struct Lent<'i>(Vec<(&'i OwnedFd, Stat)>);

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        for (dir, stat) in &self.0 {
            fchmod(dir, Mode::from_raw_mode(stat.st_mode)).ok();
            fchown(dir, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid))).ok();
        }
    }
}

/// Where the link of the images at `here` leads, if it has one.
fn check(dir: &OwnedFd, here: &Path) -> Result<Option<PathBuf>> {
    let what = || format!("--image-path: read {}", here.display());
    let mut parent = None;
    for entry in Dir::read_from(dir.as_fd()).context(what)? {
        let entry = entry.context(what)?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).context(what)?;
        let shown = || here.join(name.to_string_lossy().escape_default().to_string());
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile | FileType::Directory => {}
            FileType::Symlink if name.to_bytes() == PARENT.as_bytes() => {
                let target = readlinkat(dir, name, Vec::new()).context(what)?;
                parent = Some(PathBuf::from(target.to_string_lossy().into_owned()));
            }
            _ => return Err(bad("--image-path", format_args!("{} is no regular file", shown().display()))),
        }
    }
    Ok(parent)
}

/// The directory that a link `parent` means: in the directory that the images are in, or in that one's.
fn beside(images: &Path, here: &Path, link: &Path) -> Result<PathBuf> {
    let wrong = |problem: &str| bad("--image-path", format_args!("{}/{PARENT}: {link:?} {problem}", here.display()));
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir | Component::CurDir);
    if !link.components().all(plain) {
        return Err(wrong("is not relative"));
    }
    let target = here.join(link).canonicalize().map_err(|_| wrong("leads to nothing"))?;
    match images.parent() {
        Some(parent) if target.starts_with(parent) => Ok(target),
        _ => Err(wrong("leads out of the directory that the images are in")),
    }
}

/// Where the pre-dump before is, as checkpoint is given it.
pub(super) fn check_parent_path(images: &Path, parent: &str) -> Result<()> {
    if Path::new(parent).is_absolute() {
        return Err(bad("--parent-path", format_args!("{parent:?} must be relative to --image-path")));
    }
    // By its text: the directory of this one may not be there yet.
    let path = PathBuf::from(rootfs::clean(&images.join(parent).to_string_lossy()));
    match path.is_dir() {
        true => Ok(()),
        false => Err(bad("--parent-path", format_args!("{parent:?}: {} is no directory", path.display()))),
    }
}
