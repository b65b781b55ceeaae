//! What a container sees, fully decided: data that the mount loop carries out and `proa plan` prints.
//!
//! Nothing here is parsed or looked up any more, and nothing here knows config.json.

pub use crate::overlay::{Layers, Writable};
use serde::{Serialize, Serializer};
use std::ffi::{CStr, CString};
use std::fmt;
use std::ops::Deref;

/// A C string made while the plan was, so that no step has to build one; it prints as text.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CText(pub CString);

impl CText {
    /// None if `text` holds a NUL.
    pub fn new(text: impl Into<Vec<u8>>) -> Option<CText> {
        CString::new(text).ok().map(CText)
    }
}

impl Deref for CText {
    type Target = CStr;
    fn deref(&self) -> &CStr {
        &self.0
    }
}

impl fmt::Debug for CText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0.to_string_lossy(), f)
    }
}

impl fmt::Display for CText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string_lossy())
    }
}

impl Serialize for CText {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0.to_string_lossy())
    }
}

/// The root file system of one container.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Absolute path on the host, no link in it. With layers there is nothing.
    pub path: CText,
    /// What the root is made of instead of the directory.
    pub layers: Option<Layers>,
    /// Whose ids its files show.
    pub ids: Option<MappedIds>,
    /// Only the root mount itself, as `root.readonly` means it.
    pub readonly: bool,
    /// What the root mount is in the end; rslave where none was asked for.
    pub propagation: Propagation,
    /// How the process gets into its root.
    pub enter: Enter,
    /// Whose the mounts are.
    pub mounts_are: MountsAre,
    /// A user namespace is in force: device nodes are bound from the host instead of made.
    pub userns: bool,
    /// Keep a descriptor of the proc file system that is mounted, to write to it later.
    pub keep_procfs: bool,
    /// In the order to mount them.
    pub mounts: Vec<Mount>,
    /// Nodes that must exist, the default ones included.
    pub devices: Vec<Device>,
    /// `/dev` is the container's own, so links and `ptmx` are made in it (not where the host's is bound there).
    pub own_dev: bool,
    /// Paths in the container that are made unreadable.
    pub masked_paths: Vec<CText>,
    /// Paths in the container that are made read-only.
    pub readonly_paths: Vec<CText>,
}

impl Plan {
    /// The directory that the root is mounted on: in the container's mount namespace that of the topmost layer is of no
    /// other use.
    pub(crate) fn place(&self) -> &CStr {
        self.layers.as_ref().and_then(|layers| layers.lower.first()).unwrap_or(&self.path)
    }
}

/// Where the root and what is in it are mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum MountsAre {
    /// In a mount namespace of the container's, new or joined.
    Own,
    /// In the host's, for whoever has the root to take away.
    TheHosts,
    /// There are none, and no mount namespace.
    None,
}

/// How the container's root becomes the process's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Enter {
    /// pivot_root(2), the old root unmounted.
    Pivot,
    /// MS_MOVE and chroot(2), for a host on a ramfs (`--no-pivot`).
    Move,
    /// chroot(2) alone: the mount namespace is not the container's own.
    Chroot,
}

/// One entry of `mounts`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    /// Below the container's root, cleaned, with a leading slash.
    pub destination: CText,
    /// What is mounted there.
    pub what: What,
    /// Flags of this mount. None: a bind keeps those of its source.
    pub attr: Option<Attr>,
    /// Flags of this mount and of all below it (the `rro` family).
    pub recursive: Option<Attr>,
    /// Applied in order once mounted.
    pub propagation: Vec<Propagation>,
    /// Only of a bind: whose ids its files show.
    pub ids: Option<MappedIds>,
}

/// A mount whose files show other owners: MOUNT_ATTR_IDMAP of mount_setattr(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MappedIds {
    /// Place of the user namespace among those that [`crate::Sources::open`] is given.
    pub namespace: usize,
    /// Of the mounts below too.
    pub recursive: bool,
}

/// The kinds of mount.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum What {
    /// A tree of the host.
    #[serde(rename_all = "camelCase")]
    Bind {
        /// Absolute path on the host.
        source: CText,
        /// `rbind`: with the mounts below it.
        recursive: bool,
    },
    /// A file system of its own.
    Filesystem(Filesystem),
    /// The container's cgroups.
    Cgroup(CgroupMount),
    /// Changes what is mounted at the destination already.
    Remount(Filesystem),
}

/// A file system to mount.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Filesystem {
    /// As in /proc/filesystems.
    pub kind: CText,
    /// Shown in mountinfo; some file systems read it.
    pub source: Option<CText>,
    /// Words for the file system, the superblock flags among them.
    pub parameters: Vec<Parameter>,
    /// mount(2) flags that only that call can express (MS_SILENT, MS_I_VERSION).
    pub legacy_flags: u64,
    /// It starts with what is in the directory that it covers.
    pub copy_up: bool,
}

/// `name` or `name=value` in the options of a file system.
#[derive(Clone, Debug, Serialize)]
pub struct Parameter {
    /// Up to the first `=`.
    pub name: CText,
    /// After it.
    pub value: Option<CText>,
}

/// What `type: cgroup` means on this host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CgroupMount {
    /// One cgroup2 mount; `fallback` is bound where mounting is refused.
    Unified {
        /// Words for the file system.
        parameters: Vec<Parameter>,
        /// Host path of the container's cgroup.
        fallback: Option<CText>,
    },
    /// A tmpfs with one directory per hierarchy.
    Hierarchies {
        /// Each becomes a mount.
        hierarchies: Vec<Hierarchy>,
        /// Names of co-mounted controllers: link, target.
        aliases: Vec<(CText, CText)>,
        /// Mounted afresh, since the process has a cgroup namespace; otherwise the container's cgroups are bound.
        fresh: bool,
    },
}

/// One cgroup v1 hierarchy, or the unified one of a hybrid host.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hierarchy {
    /// Directory below the cgroup mount.
    pub name: CText,
    /// `cgroup` or `cgroup2` with its controllers as parameters.
    pub filesystem: Filesystem,
    /// Host path of the container's cgroup in it.
    pub source: CText,
}

/// A device node or fifo.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Below the container's root, cleaned, with a leading slash.
    pub path: CText,
    /// Type.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner, in the container's user namespace.
    pub uid: u32,
    /// Group, in the container's user namespace.
    pub gid: u32,
    /// One that every container has.
    pub default: bool,
}

/// Types of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DeviceKind {
    /// Character device.
    Char,
    /// Block device.
    Block,
    /// Named pipe.
    Fifo,
}

/// See mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Propagation {
    /// The kind.
    pub kind: PropagationKind,
    /// Of the mounts below too.
    pub recursive: bool,
}

impl Propagation {
    /// Of a mount that hears of what the host mounts and does not tell it anything.
    pub const SLAVE: Propagation = Propagation { kind: PropagationKind::Slave, recursive: true };
}

/// See mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PropagationKind {
    /// Mount events travel both ways.
    Shared,
    /// They come in only.
    Slave,
    /// Neither.
    Private,
    /// Neither, and it cannot be bound.
    Unbindable,
}

/// Mount attributes in the terms of mount_setattr(2): bits set and bits cleared, the access time field among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Attr {
    /// MOUNT_ATTR_* that become set.
    pub set: u64,
    /// MOUNT_ATTR_* that become clear.
    pub clear: u64,
    /// Those cleared since a word asked for it, not since it was left out.
    #[serde(skip)]
    pub explicit_clear: u64,
}
