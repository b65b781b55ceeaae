//! Mounts that are none of CRIU's business: what they show is the host's. CRIU notes for each a name that says nothing,
//! and asks for it by that name when it restores; what stands behind the name then is decided by the config.json of then.

use crate::config::spec::Spec;
use crate::error::{Context, Error, Result, bad};
use crate::mountinfo::{self, Mounted};
use crate::plan::Plan;
use rootfs::options::{self, Word};
use rootfs::plan::{CText, CgroupMount, What};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, readlinkat, statx};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// File systems whose contents CRIU saves, or makes anew.
const SAVED: [&str; 5] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue"];

/// The name of what is mounted at a path of the container. No two paths share one, and none has a sign in it that means
/// something to CRIU or in a path.
pub(super) fn name(path: &[u8]) -> String {
    path.iter().fold("proa-".to_owned(), |mut name, byte| {
        write!(name, "{byte:02x}").ok();
        name
    })
}

/// The mounts of a running container that CRIU is to leave out, as its option `external` has them.
pub(super) fn to_leave_out(spec: &Spec<'_>, pid: i32) -> Result<Vec<String>> {
    let of_container = mountinfo::of(&pid.to_string())?;
    let of_host: BTreeSet<String> = mountinfo::of("self")?.into_iter().map(|mounted| mounted.device).collect();
    let binds = binds(spec, pid)?;
    let root = of_container.iter().find(|mounted| mounted.point == b"/");
    // A path that was made read-only: of the root, mounted on itself.
    let of_root = |mounted: &Mounted| root.is_some_and(|root| mounted.is_on_itself(root));
    let mut external = Vec::new();
    for mounted in of_container.iter().filter(|mounted| mounted.point != b"/") {
        if !binds.contains(&mounted.id) && of_root(mounted) {
            continue;
        }
        let hosts = mounted.kind == "tmpfs" || mounted.kind == "devpts";
        if !binds.contains(&mounted.id)
            && SAVED.contains(&mounted.kind.as_str())
            && !(hosts && of_host.contains(&mounted.device))
        {
            continue;
        }
        external.push(entry(mounted)?);
    }
    Ok(external)
}

/// `mnt[PATH]:NAME`. CRIU does not know a bracket in the path from the one behind it.
fn entry(mounted: &Mounted) -> Result<String> {
    let path = String::from_utf8_lossy(&mounted.point);
    if path.contains(']') || path.contains('\u{fffd}') {
        let problem = format_args!("{path:?}: CRIU cannot save what is mounted at a path with such a sign in it");
        return Err(bad("mounts", problem));
    }
    Ok(format!("mnt[{path}]:{}", name(&mounted.point)))
}

/// The ids of the mounts that config.json calls binds.
fn binds(spec: &Spec<'_>, pid: i32) -> Result<BTreeSet<u64>> {
    let path = format!("/proc/{pid}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, &path, flags, Mode::empty()).context(|| format!("open {path}"))?;
    let mut ids = BTreeSet::new();
    for mount in spec.mounts.iter() {
        let is_bind = |word: &str| matches!(options::lookup(word), Some(Word::Bind(_)));
        let kind = mount.kind.as_deref().unwrap_or_default();
        if !matches!(kind, "bind" | "rbind") && !mount.options.iter().any(|word| is_bind(word)) {
            continue;
        }
        let destination = mount.destination.as_deref().unwrap_or_default();
        // What was covered or unmounted since is not to be saved.
        let Ok(fd) = rootfs::open_in_root(root.as_fd(), destination, OFlags::PATH) else { continue };
        let found = statx(&fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).context(|| "statx".to_owned())?;
        if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
            return Err(Error::Usage("to save a container takes Linux 5.8".to_owned()));
        }
        ids.insert(found.stx_mnt_id);
    }
    Ok(ids)
}

/// What of the host a restored container has mounted: where, and what.
#[derive(Debug)]
pub(super) struct Source {
    /// In the container, with no link in it.
    pub point: Vec<u8>,
    /// A path of the host.
    pub path: Vec<u8>,
    /// Its entry in `mounts` of the plan, if it shows other ids than it has on the host: then it is none of the host's
    /// mounts yet.
    pub mapped: Option<u16>,
}

/// What runc calls the mask of a file.
const RUNCS_MASK: &str = "/dev/null";

impl Source {
    /// The names by which images ask for it: ours, and that of runc, which is the path.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        let path = String::from_utf8_lossy(&self.point).into_owned();
        [Some(name(&self.point)), Some(path).filter(|path| !path.contains(']'))].into_iter().flatten()
    }
}

/// Whether what an image asks for by this name is for config.json to say, and said.
pub(super) fn is_known(key: &str, sources: &[Source]) -> bool {
    key == RUNCS_MASK || sources.iter().any(|source| source.names().any(|name| name == key))
}

/// For CRIU: what stands behind each name. What has other ids than on the host is in a place of its own in `places`.
pub(super) fn external(sources: &[Source], places: &CText) -> Vec<String> {
    let one = |source: &Source| {
        let path = match source.mapped {
            Some(_) => format!("{places}/{}", name(&source.point)),
            None => String::from_utf8_lossy(&source.path).into_owned(),
        };
        source.names().map(move |name| format!("mnt[{name}]:{path}")).collect::<Vec<_>>()
    };
    sources.iter().flat_map(one).chain([format!("mnt[{RUNCS_MASK}]:/dev/null")]).collect()
}

/// All that config.json asks for, in no order.
pub(super) fn sources(plan: &Plan) -> Result<Vec<Source>> {
    let mut sources: BTreeMap<Vec<u8>, Source> = BTreeMap::new();
    let mut add = |point: Vec<u8>, path: Vec<u8>, mapped: Option<u16>| {
        sources.insert(point.clone(), Source { point, path, mapped });
    };
    let recursive = plan.root.mounts.iter().any(|mount| matches!(mount.what, What::Bind { recursive: true, .. }));
    let of_host = if recursive { mountinfo::of("self")? } else { Vec::new() };
    let root = Root::open(plan)?;
    for (index, mount) in plan.root.mounts.iter().enumerate() {
        let point = root.resolve(mount.destination.to_bytes());
        match &mount.what {
            What::Bind { source, recursive } => {
                let source = real(source.to_bytes());
                add(point.clone(), source.clone(), mount.ids.map(|_| index as u16));
                for below in of_host.iter().filter(|_| *recursive) {
                    if let Some(rest) = below.point.strip_prefix(&*source).filter(|rest| rest.first() == Some(&b'/')) {
                        add([&*point, rest].concat(), below.point.clone(), None);
                    }
                }
            }
            What::Cgroup(CgroupMount::Unified { .. }) => {
                if let Some(path) = plan.cgroup.unified_path() {
                    add(point, path.into_os_string().into_encoded_bytes(), None);
                }
            }
            What::Cgroup(CgroupMount::Hierarchies { hierarchies, .. }) => {
                for hierarchy in hierarchies {
                    let point = [&*point, b"/", hierarchy.name.to_bytes()].concat();
                    add(point, hierarchy.source.to_bytes().to_vec(), None);
                }
            }
            What::Filesystem(_) | What::Remount(_) => {}
        }
    }
    // Without the right to make device nodes they are the host's, the one that masks files too.
    if plan.root.userns {
        plan.root
            .devices
            .iter()
            .for_each(|device| add(device.path.to_bytes().to_vec(), device.path.to_bytes().to_vec(), None));
        plan.root.masked_paths.iter().for_each(|path| add(path.to_bytes().to_vec(), b"/dev/null".to_vec(), None));
    }
    Ok(sources.into_values().collect())
}

fn real(path: &[u8]) -> Vec<u8> {
    let given = Path::new(OsStr::from_bytes(path));
    given.canonicalize().map_or_else(|_| path.to_vec(), |real| real.into_os_string().into_encoded_bytes())
}

/// The new root, for links on the way to a mount point. One of layers is not there yet: its links are not followed.
struct Root(Option<(OwnedFd, Vec<u8>)>);

impl Root {
    fn open(plan: &Plan) -> Result<Root> {
        if plan.root.layers.is_some() {
            return Ok(Root(None));
        }
        let what = || format!("root.path {:?}", plan.root.path);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = openat(CWD, &*plan.root.path, flags, Mode::empty()).context(what)?;
        let name = name_of(&fd).context(what)?;
        Ok(Root(Some((fd, name))))
    }

    /// Follows links in as much of the path as is there.
    fn resolve(&self, path: &[u8]) -> Vec<u8> {
        let Some((root, name)) = &self.0 else { return path.to_vec() };
        let mut length = path.len();
        while length > 0 {
            let (there, rest) = path.split_at(length);
            let found = rootfs::open_in_root(root.as_fd(), there, OFlags::PATH).and_then(|fd| name_of(&fd));
            if let Ok(found) = found
                && let Some(below) = found.strip_prefix(&**name)
            {
                return [below, rest].concat();
            }
            length = there.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        }
        path.to_vec()
    }
}

fn name_of(fd: &OwnedFd) -> rustix::io::Result<Vec<u8>> {
    readlinkat(CWD, format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()).map(CString::into_bytes)
}
