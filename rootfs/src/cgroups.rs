//! `type: cgroup`: one cgroup2 mount, or a tmpfs with one directory per hierarchy.

use crate::Root;
use crate::error::{Item, Result};
use crate::options::RDONLY;
use crate::plan::{Attr, CText, CgroupMount, Filesystem, Hierarchy, Mount, Parameter};
use crate::resolve::Missing;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, mkdirat, symlinkat};
use rustix::io::Errno;

impl Root<'_> {
    pub(crate) fn mount_cgroups(&mut self, item: Item, mount: &Mount, cgroups: &CgroupMount) -> Result<OwnedFd> {
        let (target, _) = self.target(item, &mount.destination, Missing::Directory, || false)?;
        let mounted = self.mount_cgroups_on(item, mount, cgroups, target.as_fd())?;
        self.api.leave(target);
        Ok(mounted)
    }

    fn mount_cgroups_on(
        &self,
        item: Item,
        mount: &Mount,
        cgroups: &CgroupMount,
        target: BorrowedFd<'_>,
    ) -> Result<OwnedFd> {
        let attr = mount.attr.unwrap_or_default();
        match cgroups {
            CgroupMount::Unified { parameters, fallback } => {
                let filesystem = Filesystem {
                    kind: text("cgroup2"),
                    source: Some(text("cgroup")),
                    parameters: parameters.clone(),
                    ..Filesystem::default()
                };
                let again = || self.dir.resolve(&mount.destination);
                match self.api.mount(&filesystem, attr.set, None, target, again) {
                    Err(Errno::PERM | Errno::BUSY) if fallback.is_some() => {
                        let source = fallback.as_ref().map_or(c"", |path| path);
                        self.bind_cgroup(item, source, attr, target, &mount.destination)
                    }
                    mounted => item.at("mount", mounted),
                }
            }
            CgroupMount::Hierarchies { hierarchies, aliases, fresh } => {
                let filesystem = Filesystem {
                    kind: text("tmpfs"),
                    source: Some(text("tmpfs")),
                    parameters: vec![Parameter { name: text("mode"), value: Some(text("755")) }],
                    ..Filesystem::default()
                };
                let again = || self.dir.resolve(&mount.destination);
                let open = attr.set & !RDONLY;
                let base = item.at("mount", self.api.mount(&filesystem, open, None, target, again))?;
                for hierarchy in hierarchies {
                    self.mount_hierarchy(item, mount, hierarchy, base.as_fd(), *fresh)?;
                }
                for (name, to) in aliases {
                    item.at("link", symlinkat(&**to, &base, &**name))?;
                }
                if attr.set & RDONLY != 0 {
                    let read_only = Attr { set: RDONLY, ..Attr::default() };
                    item.at("make read-only", self.api.set_attr(base.as_fd(), read_only, false))?;
                }
                Ok(base)
            }
        }
    }

    fn mount_hierarchy(
        &self,
        item: Item,
        mount: &Mount,
        hierarchy: &Hierarchy,
        base: BorrowedFd<'_>,
        fresh: bool,
    ) -> Result<()> {
        let attr = mount.attr.unwrap_or_default();
        item.at("create a directory", mkdirat(base, &*hierarchy.name, Mode::from_raw_mode(0o755)))?;
        let mut path = mount.destination.to_bytes().to_vec();
        path.push(b'/');
        path.extend_from_slice(hierarchy.name.to_bytes());
        let path = CText::new(path).unwrap_or_default();
        let target = item.at("open", self.dir.resolve(&path))?;
        let again = || self.dir.resolve(&path);
        if fresh {
            match self.api.mount(&hierarchy.filesystem, attr.set, None, target.as_fd(), again) {
                Err(Errno::PERM | Errno::BUSY) => {}
                mounted => return item.at("mount a hierarchy", mounted).map(drop),
            }
        }
        self.bind_cgroup(item, &hierarchy.source, attr, target.as_fd(), &path).map(drop)
    }

    fn bind_cgroup(
        &self,
        item: Item,
        source: &std::ffi::CStr,
        attr: Attr,
        target: BorrowedFd<'_>,
        path: &std::ffi::CStr,
    ) -> Result<OwnedFd> {
        let tree = item.at("open the cgroup", self.api.clone_path(source, false))?;
        let set = item.at("set flags", self.api.set_detached_attr(&tree, attr, false))?;
        let mounted = item.at("bind the cgroup", self.api.attach(tree, target, || self.dir.resolve(path)))?;
        if !set {
            item.at("set flags", self.api.set_attr(mounted.as_fd(), attr, false))?;
        }
        Ok(mounted)
    }
}

fn text(word: &str) -> CText {
    CText::new(word).unwrap_or_default()
}
