//! A root made of layers: overlayfs over read-only directories, with one on top that takes what is written.
//!
//! The mount is attached nowhere if the kernel lets it be so, and else in a mount namespace that its caller owns. Source:
//! Documentation/filesystems/overlayfs.rst.

use crate::api::{Api, FSCONFIG_VALUE, missing};
use crate::error::{Item, Result};
use crate::options;
use crate::plan::{CText, MappedIds, Parameter, Propagation, PropagationKind};
use crate::sys::{self, FdPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Serialize;
use std::ffi::{CStr, CString};

/// The layers of one root.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Layers {
    /// Directories, the topmost first; at least one.
    pub lower: Vec<CText>,
    /// Where writes go. Without it the root can only be read.
    pub writable: Option<Writable>,
    /// Words of overlayfs beside those that name directories.
    pub options: Vec<Parameter>,
}

impl Layers {
    /// From the words that mount(8) takes for an overlay. None: one is missing.
    pub fn parse<'w>(words: impl IntoIterator<Item = &'w str>) -> Option<Layers> {
        let (mut layers, mut upper, mut work) = (Layers::default(), None, None);
        for word in words {
            match word.split_once('=') {
                Some(("lowerdir", list)) => layers.lower = split(list)?,
                Some(("upperdir", path)) => upper = Some(split(path)?.into_iter().next()?),
                Some(("workdir", path)) => work = Some(split(path)?.into_iter().next()?),
                Some((name, value)) => {
                    layers.options.push(Parameter { name: CText::new(name)?, value: Some(CText::new(value)?) })
                }
                None => layers.options.push(Parameter { name: CText::new(word)?, value: None }),
            }
        }
        layers.writable = match (upper, work) {
            (Some(upper), Some(work)) => Some(Writable { upper, work }),
            (None, None) => None,
            _ => return None,
        };
        (!layers.lower.is_empty()).then_some(layers)
    }

    /// Whether what is hidden is marked by `user.overlay.` attributes, as a user namespace may, not by `trusted.overlay.`.
    pub(crate) fn user_marks(&self) -> bool {
        self.options.iter().any(|option| &*option.name == c"userxattr")
    }
}

/// Paths with colons between them; a backslash keeps what comes after it from being one.
fn split(list: &str) -> Option<Vec<CText>> {
    let (mut paths, mut path, mut escaped) = (Vec::new(), Vec::new(), false);
    for byte in list.bytes() {
        match (byte, escaped) {
            (b'\\', false) => escaped = true,
            (b':', false) => paths.push(CText::new(std::mem::take(&mut path))?),
            (byte, _) => {
                path.push(byte);
                escaped = false;
            }
        }
    }
    paths.push(CText::new(path)?);
    Some(paths)
}

/// The directories of a writable layer, on one file system.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Writable {
    /// What was written.
    pub upper: CText,
    /// What overlayfs works in.
    pub work: CText,
}

/// What a root of layers is mounted from: every directory by a descriptor and, where that says it, by its path.
struct Opened<'l> {
    layers: &'l Layers,
    lower: Vec<OwnedFd>,
    writable: Option<(&'l Writable, [OwnedFd; 2])>,
}

impl<'l> Opened<'l> {
    fn new(layers: &'l Layers) -> rustix::io::Result<Opened<'l>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lower = layers.lower.iter().map(|path| open(&**path, flags, Mode::empty()));
        let lower = lower.collect::<rustix::io::Result<_>>()?;
        let writable = match &layers.writable {
            Some(writable) => {
                let directory = |path: &CText| open(&**path, flags | OFlags::NOFOLLOW, Mode::empty());
                Some((writable, [directory(&writable.upper)?, directory(&writable.work)?]))
            }
            None => None,
        };
        Ok(Opened { layers, lower, writable })
    }

    /// Calls `with` for each directory, with the word for it.
    fn each(&self, mut with: impl FnMut(&CStr, &CStr) -> rustix::io::Result<()>) -> rustix::io::Result<()> {
        let mut say = |word: &CStr, path: &CText, fd: &OwnedFd| {
            // As mountinfo shows it, unless overlayfs would read something else from it.
            let plain = path.count_bytes() <= FSCONFIG_VALUE && !path.to_bytes().iter().any(|it| b":\\,".contains(it));
            if plain { with(word, path) } else { with(word, FdPath::new(fd.as_fd()).as_c_str()) }
        };
        for (path, fd) in self.layers.lower.iter().zip(&self.lower) {
            say(c"lowerdir+", path, fd)?;
        }
        if let Some((writable, [upper, work])) = &self.writable {
            say(c"upperdir", &writable.upper, upper)?;
            say(c"workdir", &writable.work, work)?;
        }
        Ok(())
    }

    /// All lower directories in one word, which older kernels want.
    fn lower_word(&self) -> Vec<u8> {
        let paths: Vec<FdPath> = self.lower.iter().map(|fd| FdPath::new(fd.as_fd())).collect();
        paths.iter().map(|path| path.as_c_str().to_bytes()).collect::<Vec<_>>().join(&b':')
    }

    /// The file system, mounted nowhere. None: the kernel cannot be told so.
    fn detached(&self) -> rustix::io::Result<Option<OwnedFd>> {
        match self.told(None) {
            // Linux 6.5 was the first to take layers one by one; it is when all is said that others do not understand.
            Err(Errno::INVAL) => {
                let word = self.lower_word();
                if word.len() > FSCONFIG_VALUE { Ok(None) } else { self.told(Some(&word)) }
            }
            told => told,
        }
    }

    /// By fsconfig(2), the lower directories as one word or one by one.
    fn told(&self, lower: Option<&[u8]>) -> rustix::io::Result<Option<OwnedFd>> {
        let context = match fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC) {
            Err(errno) if missing(errno) => return Ok(None),
            context => context?,
        };
        fsconfig_set_string(context.as_fd(), c"source", c"overlay")?;
        if let Some(word) = lower {
            fsconfig_set_string(context.as_fd(), c"lowerdir", word)?;
        }
        self.each(|name, path| match lower.is_some() && name == c"lowerdir+" {
            true => Ok(()),
            false => fsconfig_set_string(context.as_fd(), name, path),
        })?;
        for parameter in &self.layers.options {
            match &parameter.value {
                Some(value) => fsconfig_set_string(context.as_fd(), &*parameter.name, &**value)?,
                None => fsconfig_set_flag(context.as_fd(), &*parameter.name)?,
            }
        }
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map(Some)
    }

    /// By mount(2), which takes a page of words, at `target`.
    fn attached(&self, target: &CStr) -> rustix::io::Result<()> {
        let mut data = b"lowerdir=".to_vec();
        data.extend(self.lower_word());
        self.each(|name, path| {
            if name != c"lowerdir+" {
                data.extend([b",", name.to_bytes(), b"=", path.to_bytes()].concat());
            }
            Ok(())
        })?;
        for parameter in &self.layers.options {
            data.push(b',');
            data.extend(parameter.name.to_bytes());
            if let Some(value) = &parameter.value {
                data.extend([b"=", value.to_bytes()].concat());
            }
        }
        let data = CString::new(data).map_err(|_| Errno::INVAL)?;
        sys::mount(Some(c"overlay"), target, Some(c"overlay"), 0, Some(&data))
    }
}

/// Mounts the layers. In a mount namespace of the caller's own, `target` is a directory that older kernels attach the
/// mount to. The descriptor is of the mount's root; true: it is attached.
///
/// # Errors
/// What the kernel says; EINVAL too for a single layer that nothing is written to, which is no overlay, and E2BIG for more
/// layers than an older kernel can be told of.
pub fn mount(layers: &Layers, target: Option<&CStr>) -> rustix::io::Result<(OwnedFd, bool)> {
    let opened = Opened::new(layers)?;
    match (opened.detached()?, target) {
        (Some(mount), _) => Ok((mount, false)),
        (None, Some(target)) => {
            opened.attached(target)?;
            crate::resolve::open_host(target).map(|mount| (mount, true))
        }
        (None, None) => Err(Errno::NOSYS),
    }
}

/// The layers by a descriptor of their root, which is attached nowhere: to look at, not to run or to reach devices by
/// (Linux 5.12).
///
/// # Errors
/// What the kernel says.
pub fn view(layers: &Layers) -> rustix::io::Result<OwnedFd> {
    let view = detached_tree(&Api::new(), layers).map_err(|failure| failure.errno)?;
    let attr = options::NODEV | options::NOSUID | options::NOEXEC;
    match sys::mount_setattr(view.as_fd(), c"", libc::AT_EMPTY_PATH, attr, 0, 0) {
        Err(errno) if !missing(errno) => Err(errno),
        _ => Ok(view),
    }
}

/// The layers as one tree: a mount that is attached nowhere, or for `target`'s namespace at `target`.
pub(crate) fn tree(api: &Api, layers: &Layers, target: Option<&CStr>) -> Result<(OwnedFd, bool)> {
    match (&layers.lower[..], &layers.writable) {
        // Nothing to lay over anything.
        ([only], None) => match Item::Layers.at("open the layer", api.clone_path(only, false))? {
            crate::api::Tree::Detached(fd) => Ok((fd, false)),
            crate::api::Tree::Path { .. } => Item::Layers.fail("open the layer", Errno::NOSYS),
        },
        _ => match mount(layers, target) {
            Err(Errno::TOOBIG) => {
                Item::Layers.fail("mount the overlay by mount(2), which takes 4095 bytes", Errno::TOOBIG)
            }
            mounted => Item::Layers.at("mount the overlay", mounted),
        },
    }
}

/// The same for a process that is not in the mount namespace in which it is to be attached.
pub(crate) fn detached_tree(api: &Api, layers: &Layers) -> Result<OwnedFd> {
    match tree(api, layers, None) {
        Err(failure) if failure.errno == Errno::NOSYS => {
            let away = Item::Layers.at("leave the mount namespace", Away::go())?;
            let place = layers.lower.first().map_or(c"/", |path| path);
            let made = private(api).and_then(|()| cloned(api, layers, place));
            Item::Layers.at("come back to the mount namespace", away.come_back())?;
            made
        }
        made => made.map(|(mount, _)| mount),
    }
}

/// Attached where nobody sees it, and a clone of that.
fn cloned(api: &Api, layers: &Layers, place: &CStr) -> Result<OwnedFd> {
    let (mount, _) = tree(api, layers, Some(place))?;
    match Item::Layers.at("clone the overlay", api.clone_fd(mount.as_fd(), false))? {
        crate::api::Tree::Detached(clone) => Ok(clone),
        crate::api::Tree::Path { .. } => Item::Layers.fail("clone the overlay", Errno::NOSYS),
    }
}

fn private(api: &Api) -> Result<()> {
    let all = Propagation { kind: PropagationKind::Private, recursive: true };
    Item::Layers.at("make the mounts private", api.propagate_root(all))
}

/// The same with the ids of the lower layers' files mapped, see [`mapped`].
pub(crate) fn mapped_tree(api: &Api, layers: &Layers, ids: MappedIds, namespaces: &[OwnedFd]) -> Result<OwnedFd> {
    let item = Item::Layers;
    let Some(namespace) = namespaces.get(ids.namespace) else { return item.fail("map ids", Errno::PERM) };
    let Some(place) = layers.lower.first() else { return item.fail("map ids", Errno::NOENT) };
    let away = item.at("leave the mount namespace", Away::go())?;
    let made =
        private(api).and_then(|()| item.at("map ids", mapped(layers, namespace.as_fd(), place))).and_then(|layers| {
            match tree(api, &layers, None) {
                Err(failure) if failure.errno == Errno::NOSYS => cloned(api, &layers, place),
                made => made.map(|(mount, _)| mount),
            }
        });
    item.at("come back to the mount namespace", away.come_back())?;
    made
}

/// The layers with the ids of the lower ones' files mapped as the user namespace says (Linux 5.19).
///
/// Overlayfs itself has no mapped mounts, its layers have, but most kernels take only ones that are attached: here in a
/// tmpfs on `place`, in a mount namespace of the caller's own, where the overlay itself may cover them. What is written
/// has the container's ids on the disk: the kernel writes nothing of its own through a mapping that has no place for the
/// host's root.
///
/// # Errors
/// What the kernel says, EINVAL from a file system that cannot be mapped.
pub fn mapped(layers: &Layers, namespace: BorrowedFd<'_>, place: &CStr) -> rustix::io::Result<Layers> {
    let mut trees = Vec::with_capacity(layers.lower.len());
    for directory in &layers.lower {
        let tree = open_tree(CWD, &**directory, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
        sys::mount_map_ids(tree.as_fd(), namespace, false)?;
        trees.push(tree);
    }
    sys::mount(Some(c"layers"), place, Some(c"tmpfs"), 0, Some(c"mode=0755"))?;
    let mut mapped = Layers { lower: Vec::with_capacity(trees.len()), ..layers.clone() };
    for (number, tree) in trees.into_iter().enumerate() {
        let path = [place.to_bytes(), format!("/{number}").as_bytes()].concat();
        let path = CText::new(path).ok_or(Errno::INVAL)?;
        rustix::fs::mkdir(&*path, Mode::RWXU)?;
        move_mount(tree, c"", CWD, &*path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        mapped.lower.push(path);
    }
    Ok(mapped)
}

/// Out in a mount namespace of one's own, with the way back.
struct Away {
    namespace: OwnedFd,
    root: OwnedFd,
    directory: OwnedFd,
}

impl Away {
    fn go() -> rustix::io::Result<Away> {
        let directory = |path: &CStr| open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let away = Away {
            namespace: open(c"/proc/self/ns/mnt", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?,
            root: directory(c"/")?,
            directory: directory(c".")?,
        };
        sys::leave_mount_namespace()?;
        Ok(away)
    }

    /// setns(2) leads to the root of the namespace, which a caller in a chroot is not in.
    fn come_back(self) -> rustix::io::Result<()> {
        move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        rustix::process::fchdir(&self.root)?;
        rustix::process::chroot(c".")?;
        rustix::process::fchdir(&self.directory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_of_a_view_cannot_be_opened() {
        let directory = std::env::temp_dir().join(format!("rootfs-view-{}", std::process::id()));
        let paths = ["a", "b"].map(|name| directory.join(name));
        paths.iter().for_each(|path| std::fs::create_dir_all(path).unwrap());
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(CWD, paths[0].join("null"), kind, Mode::RUSR, rustix::fs::makedev(1, 3)).unwrap();
        let paths = paths.map(|path| CText::new(path.to_str().unwrap()).unwrap());
        for count in [1, 2] {
            let view = view(&Layers { lower: paths[..count].to_vec(), ..Layers::default() }).unwrap();
            let opened = rustix::fs::openat(&view, c"null", OFlags::RDONLY, Mode::empty());
            assert_eq!(opened.unwrap_err(), Errno::ACCESS);
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn words_of_an_overlay() {
        let layers = Layers::parse(["index=off", "lowerdir=/a\\:b:/c", "upperdir=/u", "workdir=/w", "ro"]).unwrap();
        let lower: Vec<String> = layers.lower.iter().map(ToString::to_string).collect();
        assert_eq!(lower, ["/a:b", "/c"]);
        assert_eq!(layers.writable.as_ref().unwrap().upper.to_string(), "/u");
        assert_eq!(layers.options.len(), 2);
        assert!(Layers::parse(["lowerdir=/a"]).unwrap().writable.is_none());
        for wrong in [&["upperdir=/u"][..], &["lowerdir=/a", "workdir=/w"], &["lowerdir=/a", "x=\0"]] {
            assert!(Layers::parse(wrong.iter().copied()).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn more_layers_than_mount_takes_words_for() {
        // Of each lower directory the word has 16 bytes at least.
        let lower = vec![CText::new("/").unwrap(); 256];
        let layers = Layers { lower, ..Layers::default() };
        assert_eq!(Opened::new(&layers).unwrap().attached(c"/nowhere"), Err(Errno::TOOBIG));
        let layers = Layers { lower: layers.lower[..2].to_vec(), ..Layers::default() };
        assert_eq!(Opened::new(&layers).unwrap().attached(c"/nowhere"), Err(Errno::NOENT));
    }
}
