//! A container's root file system, and what it is made from.
//!
//! [`Root`]: mounts, devices, links, masked and read-only paths, and the way in. It carries out a [`Plan`] inside the
//! container's own mount namespace and leaves nothing on the host. Everything is reached by descriptors from the root
//! mount, so that a hostile image cannot lead a step elsewhere. Descriptors that it is done with stay open,
//! close-on-exec, for the caller to close at once when the root is entered.
//!
//! On the host: [`image`] reads images, [`store`] keeps their layers unpacked, [`volumes`] are directories that outlive
//! containers, [`quota`] limits what is written. What they find in images and volumes is a stranger's and followed
//! nowhere.
//!
//! It knows nothing of config.json.

mod api;
mod cgroups;
mod console;
mod copy_up;
mod devices;
mod enter;
mod error;
mod flags;
mod host;
pub mod image;
mod masks;
mod mounts;
pub mod options;
pub mod overlay;
pub mod plan;
pub mod quota;
mod resolve;
pub mod stage;
pub mod store;
mod sys;
mod tree;
pub mod volumes;
mod xattrs;

use api::{Api, Tree};
pub use console::{Console, terminal};
pub use error::{Failure, Item, Result};
pub use mounts::may_cover;
use plan::{Attr, Enter, MappedIds, MountsAre, Plan, Propagation, PropagationKind};
use resolve::Dir;
pub use resolve::{clean, open_in_root};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use std::ffi::CStr;
pub use tree::remove_all;

/// The root of one container while it is being built. Each step is one method, in the order to call them.
pub struct Root<'p> {
    plan: &'p Plan,
    api: Api,
    dir: Dir,
    /// The container's /dev, once something needs it.
    dev: Option<OwnedFd>,
    /// A new and empty file system at a path without links: what is made in it is made by nobody else.
    fresh: Option<(&'p CStr, OwnedFd)>,
    /// A link led to the last target.
    linked: bool,
    /// Mounts that become read-only when all is in them.
    read_only_later: Vec<OwnedFd>,
    /// The first proc file system that was mounted whole, before anything could cover parts of it.
    procfs: Option<OwnedFd>,
}

impl<'p> Root<'p> {
    /// Cuts the mount namespace off from the host's, and makes the root a mount of its own.
    pub fn open(plan: &'p Plan, sources: &mut Sources) -> Result<Root<'p>> {
        let mut api = Api::new();
        // A mount namespace that is joined may have anything there.
        api.hosts_proc = plan.enter != Enter::Chroot;
        let shared = plan.propagation.kind == PropagationKind::Shared;
        // A shared root needs its peers on the host; all others must not send mount events there.
        if plan.enter != Enter::Chroot && !shared {
            Item::Root.at("make the mount namespace a slave of the host's", api.propagate_root(Propagation::SLAVE))?;
        }
        if plan.mounts_are == MountsAre::None {
            // The mount namespace is the host's: nothing is mounted in it.
            let fd = Item::Root.at("open", resolve::open_host(&plan.path))?;
            return Ok(Root::new(plan, api, fd));
        }
        let fd = match Self::tree(&api, plan, sources)? {
            (Tree::Detached(fd), true) => fd,
            (tree, _) => {
                // The path of a layer need not be one that the process may walk; what is mounted on / is seen by nobody
                // before it has become the root, for a lookup begins below it.
                let place = if plan.layers.is_some() && plan.enter == Enter::Pivot { c"/" } else { plan.place() };
                if shared {
                    enter::make_parent_private(place)?;
                }
                Item::Root.at("bind to itself", api.attach_at(tree, place))?
            }
        };
        if plan.mounts_are == MountsAre::TheHosts {
            // Nothing below it is to be seen in other mount namespaces.
            let private = Propagation { kind: PropagationKind::Private, recursive: true };
            Item::Root.at("make private", api.propagate_mount(fd.as_fd(), private))?;
        }
        if shared {
            // pivot_root(2) refuses a shared one; it gets a peer group of its own in the end.
            let private = Propagation { kind: PropagationKind::Private, recursive: false };
            Item::Root.at("make private", api.propagate_mount(fd.as_fd(), private))?;
        }
        Ok(Root::new(plan, api, fd))
    }

    fn new(plan: &'p Plan, api: Api, fd: OwnedFd) -> Root<'p> {
        let dir = Dir::new(fd);
        Root { plan, api, dir, dev: None, fresh: None, linked: false, read_only_later: Vec::new(), procfs: None }
    }

    /// What becomes the root; true: it is where it belongs already.
    fn tree(api: &Api, plan: &Plan, sources: &mut Sources) -> Result<(Tree, bool)> {
        match (sources.root.take(), &plan.layers) {
            (Some(fd), _) => Ok((Tree::Detached(fd), false)),
            (None, Some(layers)) => {
                let (mount, attached) = overlay::tree(api, layers, Some(plan.place()))?;
                Ok((Tree::Detached(mount), attached))
            }
            // On the host nothing is mounted below it, or it would be refused.
            (None, None) => {
                let recursive = plan.mounts_are != MountsAre::TheHosts;
                Ok((Item::Root.at("open", api.clone_path(&plan.path, recursive))?, false))
            }
        }
    }

    /// Mounts, devices and links.
    pub fn fill(&mut self, sources: &mut Sources) -> Result<()> {
        for (index, mount) in self.plan.mounts.iter().enumerate() {
            self.mount(index as u16, mount, sources)?;
        }
        self.make_devices()?;
        if self.plan.own_dev {
            self.make_links()?;
        }
        Ok(())
    }

    /// Read-only paths, masked paths, then all that is read-only as a whole.
    pub fn restrict(&mut self) -> Result<()> {
        let proc = self.open_proc();
        self.make_paths_read_only(proc.as_ref())?;
        self.mask_paths(proc.as_ref())?;
        proc.into_iter().for_each(|fd| self.api.leave(fd));
        let read_only = Attr { set: options::RDONLY, ..Attr::default() };
        for mount in &self.read_only_later {
            Item::Root.at("make a mount read-only", self.api.set_attr(mount.as_fd(), read_only, false))?;
        }
        if self.plan.readonly {
            Item::Root.at("make read-only", self.api.set_attr(self.dir.fd.as_fd(), read_only, false))?;
        }
        Ok(())
    }

    /// A proc file system of the container's that nothing has covered: the one that was mounted, or one that is mounted
    /// nowhere.
    pub fn procfs(&self) -> Result<OwnedFd> {
        if let Some(fd) = &self.procfs {
            return Item::Root.at("keep the proc file system", rustix::io::fcntl_dupfd_cloexec(fd, 3));
        }
        let filesystem = plan::Filesystem { kind: plan::CText::new("proc").unwrap_or_default(), ..Default::default() };
        match Item::Root.at("mount a private proc file system", self.api.detached(&filesystem, 0, None))? {
            Some(fd) => Ok(fd),
            None => Item::Root.fail("mount a private proc file system", Errno::NOSYS),
        }
    }
}

/// Trees that were opened where the container's process could not: by path on the host, with the host's rights.
#[derive(Default)]
pub struct Sources {
    root: Option<OwnedFd>,
    mounts: Vec<Option<OwnedFd>>,
}

impl Sources {
    /// Clones what the container's process may not: the root and every bind source where it is in a user namespace, as
    /// it need not be able to walk to them, and those with mapped ids, which it takes the rights of the file system's
    /// owner to map. The clones are slaves of the host's mounts unless the plan shares them.
    pub fn open(plan: &Plan, namespaces: &[OwnedFd]) -> Result<Sources> {
        let needed = |ids: Option<MappedIds>| plan.userns || ids.is_some();
        let api = Api::new();
        let mut sources = Sources::default();
        if let Some(layers) = &plan.layers {
            sources.root = match plan.ids {
                Some(ids) => Some(overlay::mapped_tree(&api, layers, ids, namespaces)?),
                // The marks of these layers are those that only root of the host can read.
                None if plan.userns && !layers.user_marks() => Some(overlay::detached_tree(&api, layers)?),
                None => None,
            };
        } else if needed(plan.ids) {
            sources.root = detach(&api, Item::Root, &plan.path, true, plan)?;
            map_ids(Item::Root, sources.root.as_ref(), plan.ids, namespaces)?;
        }
        if !plan.mounts.iter().any(|mount| needed(mount.ids)) {
            return Ok(sources);
        }
        for (index, mount) in plan.mounts.iter().enumerate() {
            let tree = match &mount.what {
                plan::What::Bind { source, recursive } if needed(mount.ids) => {
                    let tree = detach(&api, Item::MountSource(index as u16), source, *recursive, plan)?;
                    map_ids(Item::Mount(index as u16), tree.as_ref(), mount.ids, namespaces)?;
                    tree
                }
                _ => None,
            };
            sources.mounts.push(tree);
        }
        Ok(sources)
    }

    /// All that are open.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.root.iter().chain(self.mounts.iter().flatten()).map(AsFd::as_fd)
    }

    fn take(&mut self, index: u16) -> Option<OwnedFd> {
        self.mounts.get_mut(usize::from(index)).and_then(Option::take)
    }
}

fn map_ids(item: Item, tree: Option<&OwnedFd>, ids: Option<MappedIds>, namespaces: &[OwnedFd]) -> Result<()> {
    let Some(ids) = ids else { return Ok(()) };
    let (Some(tree), Some(namespace)) = (tree, namespaces.get(ids.namespace)) else {
        // open_tree(2) is not there, or not for who is not root of the host.
        return item.fail("map ids", Errno::PERM);
    };
    item.at("map ids", sys::mount_map_ids(tree.as_fd(), namespace.as_fd(), ids.recursive))
}

fn detach(api: &Api, item: Item, path: &CStr, recursive: bool, plan: &Plan) -> Result<Option<OwnedFd>> {
    match item.at("open", api.clone_path(path, recursive))? {
        Tree::Detached(fd) => {
            if plan.propagation.kind != PropagationKind::Shared {
                item.at("make a slave of the host's mount", api.propagate_mount(fd.as_fd(), Propagation::SLAVE))?;
            }
            Ok(Some(fd))
        }
        // mount(2) will open the path later, with the rights that are left then.
        Tree::Path { .. } => Ok(None),
    }
}
