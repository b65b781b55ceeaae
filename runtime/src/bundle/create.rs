//! A bundle is made, and removed.
//!
//! While it is being made nothing is removed from the store. It is registered before anything refers to its layers, and
//! counts once its config.json is there, which is written last: a bundle that was cut short is no bundle.

use super::config::{self, Found, Wishes};
use super::volumes::{self, BundleVolumes};
use super::{MOUNTPOINTS, Owners, RESOLV_CONF, WRITABLE, mountpoints, users};
use crate::error::{Context, Error, Result, bad};
use crate::network::{Attachment, attach};
use crate::parent::writable;
use crate::plan::MOST_LAYERS;
use rootfs::image::{Image, Platform};
use rootfs::overlay::Layers;
use rootfs::plan::{CText, Parameter};
use rootfs::store::{BundleEntry, Limits, Progress, Store, Stored, Xattrs};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fsync, open};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What is to be made.
pub(crate) struct Request<'a> {
    /// Absolute.
    pub dir: &'a Path,
    /// `PATH[:REF]`, or what the store knows.
    pub image: &'a str,
    pub platform: Option<&'a str>,
    pub user: Option<&'a str>,
    pub network: &'a str,
    pub publish: Vec<&'a str>,
    pub volumes: Vec<&'a str>,
    /// Bytes that may be written.
    pub size: Option<u64>,
    pub limits: Limits,
    pub wishes: Wishes,
    pub owners: Owners,
}

/// Makes the bundle. On failure nothing of it is left; layers that were unpacked stay in the store.
///
/// # Errors
/// One line: the image, the option or the file.
pub(crate) fn create(store: &Store, request: &Request<'_>, progress: &dyn Progress) -> Result<()> {
    if request.size.is_some() && request.wishes.read_only {
        return Err(bad("--size", "with --read-only nothing is written"));
    }
    let mut made = Made::begin(store, request.dir)?;
    let stored = import(store, request, progress)?;
    if stored.layers.is_empty() {
        return Err(bad("--image", format_args!("{:?} has no layers", request.image)));
    }
    let image: Value = serde_json::from_slice(&stored.config_json)
        .map_err(|error| Error::Usage(format!("the configuration of image {:?}: {error}", request.image)))?;
    let volumes = BundleVolumes::prepare(store, &request.volumes, &image, &request.owners)?;
    let entry = BundleEntry {
        path: request.dir.to_owned(),
        image: stored.id.clone(),
        layers: stored.layers.clone(),
        volumes: volumes.names(),
    };
    let done = store.add_bundle(&entry).map_err(usage).and_then(|()| fill(store, request, &stored, &image, &volumes));
    made.kept = done.is_ok();
    if done.is_err() {
        drop(made);
        volumes.forget(store);
    }
    done
}

/// What is in the bundle's directory.
fn fill(store: &Store, request: &Request<'_>, stored: &Stored, image: &Value, volumes: &BundleVolumes) -> Result<()> {
    let mut layers: Vec<PathBuf> = stored.layers.iter().rev().cloned().collect();
    let root = merged(&layers)?;
    let user = match request.user {
        Some(word) => users::find("--user", word, root.as_fd())?,
        None => users::find("the image's User", image["config"]["User"].as_str().unwrap_or_default(), root.as_fd())?,
    };
    let network = network(request)?;
    let mut mounts = volumes.mounts(root.as_fd(), &request.limits)?;
    mounts.extend(resolv_conf(request, &network)?);
    if request.wishes.read_only {
        layers.insert(0, request.dir.join(MOUNTPOINTS));
    }
    if layers.len() > MOST_LAYERS {
        let problem = format_args!("needs {} layers, overlayfs takes {MOST_LAYERS}", layers.len());
        return Err(bad("--read-only", problem));
    }
    let found = Found { layers, user, mounts, network };
    let document = config::document(image, &request.wishes, &found, &request.owners)?;
    let on_disk = |id| request.owners.on_disk(id);
    match request.wishes.read_only {
        true => mountpoints::make(
            &request.dir.join(MOUNTPOINTS),
            root.as_fd(),
            &stored.root,
            &destinations(&document),
            // It is a lower layer, and shown as those are.
            |id| id,
        )?,
        false => make_writable(store, &request.dir.join(WRITABLE), stored, on_disk, request.size)?,
    }
    write_config(request.dir, &document)
}

/// What is mounted where; a file at those that are true.
fn destinations(document: &Value) -> Vec<(String, bool)> {
    let mounts = document["mounts"].as_array().into_iter().flatten();
    let is_file = |mount: &Value| {
        let source = mount["source"].as_str().filter(|_| mount["type"] == "bind" || mount["type"] == "none");
        source.is_some_and(|source| Path::new(source).exists() && !Path::new(source).is_dir())
    };
    mounts.filter_map(|mount| Some((mount["destination"].as_str()?.to_owned(), is_file(mount)))).collect()
}

/// Words of the store, of images.
pub(super) fn usage(error: impl std::fmt::Display) -> Error {
    Error::Usage(error.to_string())
}

/// The directory, nobody else's as long as this lives. What was made of it is taken away again unless it is kept.
struct Made<'s> {
    store: &'s Store,
    dir: &'s Path,
    /// It was not there before.
    is_new: bool,
    kept: bool,
    _lock: OwnedFd,
}

impl<'s> Made<'s> {
    fn begin(store: &'s Store, dir: &'s Path) -> Result<Made<'s>> {
        let what = || format!("make the bundle {}", dir.display());
        let made = fs::create_dir(dir);
        let is_new = made.is_ok();
        made.or_else(|error| if error.kind() == ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
            .context(what)?;
        let lock = open_dir(dir).context(what)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => {
                return Err(Error::Usage(format!("{}: another command makes a bundle there", dir.display())));
            }
            locked => locked.context(what)?,
        }
        // Whoever had the lock before may have put a bundle there, or have taken the directory away.
        if fs::read_dir(dir).context(what)?.next().is_some() {
            return Err(Errno::EXIST).context(what);
        }
        Ok(Made { store, dir, is_new, kept: false, _lock: lock })
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        release(&self.dir.join(WRITABLE)).ok();
        for part in PARTS {
            rootfs::remove_all(&self.dir.join(part)).ok();
        }
        // While nobody else can register a bundle there.
        self.store.remove_bundle(self.dir).ok();
        if self.is_new {
            fs::remove_dir(self.dir).ok();
        }
    }
}

/// What [`create`] makes in a bundle, but for config.json, which is its last.
const PARTS: [&str; 4] = [WRITABLE, MOUNTPOINTS, RESOLV_CONF, "config.json.new"];

fn open_dir(path: &Path) -> rustix::io::Result<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn import(store: &Store, request: &Request<'_>, progress: &dyn Progress) -> Result<Stored> {
    match source(request.image) {
        Some((path, reference)) => {
            let platform = platform(request.platform)?;
            unpack(store, path, reference, &platform, &request.limits, progress).map_err(|error| bad("--image", error))
        }
        None => store.find(request.image).map_err(|error| bad("--image", format_args!("no such file, and {error}"))),
    }
}

/// `--platform`, else this machine's.
pub(crate) fn platform(word: Option<&str>) -> Result<Platform> {
    let Some(word) = word else { return Ok(Platform::host()) };
    Platform::parse(word).ok_or_else(|| bad("--platform", format_args!("{word:?} is not OS/ARCHITECTURE[/VARIANT]")))
}

/// Puts an image into the store.
///
/// # Errors
/// One line: what of it is wrong.
pub(crate) fn unpack(
    store: &Store,
    path: &Path,
    reference: Option<&str>,
    platform: &Platform,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<Stored> {
    let image = Image::open(path, reference, platform).map_err(usage)?;
    // Layers are unpacked by several of them.
    crate::sys::allow_threads();
    store.import(&image, limits, marks(), progress).map_err(usage)
}

/// How whoever mounts the layers marks what is hidden.
fn marks() -> Xattrs {
    match crate::plan::is_in_user_namespace() {
        true => Xattrs::User,
        false => Xattrs::Trusted,
    }
}

/// A file with its reference behind a colon, if there is such a file.
pub(crate) fn source(word: &str) -> Option<(&Path, Option<&str>)> {
    if Path::new(word).exists() {
        return Some((Path::new(word), None));
    }
    // A reference may have a colon itself: a name with its tag.
    let splits = word.match_indices(':').map(|(at, _)| (&word[..at], &word[at + 1..]));
    splits.rev().find(|(path, _)| Path::new(path).exists()).map(|(path, tag)| (Path::new(path), Some(tag)))
}

fn network(request: &Request<'_>) -> Result<Attachment> {
    let name = request.network;
    if request.owners.is_rootless() && !matches!(name, "none" | "host") {
        return Err(bad("--network", format_args!("{name:?}: only root can put a container on a network")));
    }
    // As the hooks will find it: not this process, which may be a copy of the program.
    let proa = std::env::current_exe().map_err(|error| Error::Usage(format!("the path of proa: {error}")))?;
    attach(name, &request.publish, &proa)
}

/// The file in the bundle that is mounted on the image's, if the container has a network that it says something of.
fn resolv_conf(request: &Request<'_>, network: &Attachment) -> Result<Option<Value>> {
    let Some(text) = &network.resolv_conf else { return Ok(None) };
    let path = request.dir.join(RESOLV_CONF);
    write_whole(&path, text).context(|| format!("write {}", path.display()))?;
    let options = ["bind", "ro", "nosuid", "nodev", "noexec"];
    Ok(Some(json!({ "destination": "/etc/resolv.conf", "type": "bind", "source": path, "options": options })))
}

/// The image's tree as a container sees it before it writes.
fn merged(layers: &[PathBuf]) -> Result<OwnedFd> {
    let lower = layers.iter().filter_map(|layer| CText::new(layer.as_os_str().as_bytes())).collect();
    let mut options = Vec::new();
    if marks() == Xattrs::User {
        options.push(Parameter { name: CText::new("userxattr").unwrap_or_default(), value: None });
    }
    let layers = Layers { lower, writable: None, options };
    rootfs::overlay::view(&layers).context(|| "mount the image's layers".to_owned())
}

/// OVERLAYFS_SUPER_MAGIC of linux/magic.h.
const OVERLAYFS: rustix::fs::FsWord = 0x794c_7630;

/// The upper directory shows as the container's root: it gets what the image's has.
fn make_writable(
    store: &Store,
    dir: &Path,
    stored: &Stored,
    on_disk: impl Fn(u32) -> u32,
    size: Option<u64>,
) -> Result<()> {
    let what = || format!("make {}", dir.display());
    fs::create_dir(dir).context(what)?;
    if rustix::fs::statfs(dir).context(what)?.f_type == OVERLAYFS {
        let problem =
            "is on an overlay itself, which overlayfs cannot write to: make the bundle on another file system";
        return Err(Error::Usage(format!("{} {problem}", dir.display())));
    }
    // What a container makes setuid is not for the host's users to run.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).context(what)?;
    if let Some(bytes) = size {
        // Before anything is in it: what is there already would not be counted.
        let directory = open_dir(dir).context(what)?;
        rootfs::quota::limit(store.dir(), directory.as_fd(), bytes).map_err(|error| bad("--size", error))?;
    }
    for name in ["upper", "work"] {
        let path = dir.join(name);
        fs::create_dir(&path).context(what)?;
        stored.show_as_root(open_dir(&path).context(what)?.as_fd(), &on_disk).map_err(usage)?;
    }
    Ok(())
}

/// Whole or not at all, and on the disk.
fn write_config(dir: &Path, document: &Value) -> Result<()> {
    let (path, temporary) = (dir.join("config.json"), dir.join("config.json.new"));
    let text = crate::cli::pretty_text(document)?;
    let what = || format!("write {}", path.display());
    write_whole(&temporary, &text).context(what)?;
    fs::rename(&temporary, &path).context(what)?;
    for dir in [Some(dir), dir.parent()].into_iter().flatten() {
        fsync(open_dir(dir).context(what)?).context(what)?;
    }
    Ok(())
}

/// A file that everybody may read, on the disk.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Whether a directory without config.json has nothing but what [`create`] makes, or is not there.
fn is_remnant(dir: &Path) -> bool {
    match fs::read_dir(dir) {
        Ok(entries) => entries.flatten().all(|entry| PARTS.iter().any(|part| entry.file_name() == *part)),
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

/// The quota of what was written, if there is one.
fn release(writable: &Path) -> Result<()> {
    match open_dir(writable) {
        Ok(directory) => rootfs::quota::release(directory.as_fd()).map_err(usage),
        Err(_) => Ok(()),
    }
}

/// Removes a bundle with what its container wrote; also what a killed call of this or of [`create`] has left of one.
///
/// # Errors
/// It is none that was made from an image; a container writes to it; a file cannot be removed.
pub(crate) fn remove(store: &Store, dir: &Path) -> Result<()> {
    let none = || Error::Usage(format!("{}: no bundle that was made from an image of this store", dir.display()));
    let entry = store.bundle(dir).map_err(usage)?.ok_or_else(none)?;
    // Also one that the caller's --root does not know; held until nothing is left to write to.
    let _lock =
        writable::lock(&dir.join(WRITABLE)).map_err(|error| bad(format_args!("bundle {}", dir.display()), error))?;
    // From now on it is none, whatever happens.
    let config = dir.join("config.json");
    match fs::remove_file(&config) {
        // The directory may be somebody else's by now.
        Err(error) if error.kind() == ErrorKind::NotFound && !is_remnant(dir) => return Err(none()),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        removed => removed.context(|| format!("remove {}", config.display()))?,
    }
    release(&dir.join(WRITABLE))?;
    rootfs::remove_all(dir).context(|| format!("remove {}", dir.display()))?;
    store.remove_bundle(dir).map_err(usage)?;
    volumes::forget(store, &entry.volumes)
}
