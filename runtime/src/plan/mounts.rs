//! `root`, `mounts`, `linux.maskedPaths`, `readonlyPaths`, `rootfsPropagation`: what the rootfs crate will carry out.

use super::{Namespaces, Options, cgroup_mounts, clean, devices, host::Host, layers, path_text, text};
use crate::config::spec::{self, Spec};
use crate::error::{Context, Result, bad};
use rootfs::options::{self, Word};
use rootfs::plan::{
    Attr, CText, Enter, Filesystem, Mount, MountsAre, Parameter, Plan, Propagation, PropagationKind, What,
};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

pub(crate) fn root(
    spec: &Spec<'_>,
    bundle: &Path,
    options: &Options,
    namespaces: &Namespaces,
    place: &cgroup::Place,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<Plan> {
    let layers = layers::of(spec, bundle)?;
    let path = match layers {
        Some(_) => path_text("root.path", Path::new(&clean_path(&bundle.join(given_path(spec)))))?,
        None => root_path(spec, bundle)?,
    };
    let linux = spec.linux.as_ref();
    let new = namespaces.has_new(libc::CLONE_NEWNS);
    let own = namespaces.has_own(libc::CLONE_NEWNS);
    let mounts_are = match own {
        true => MountsAre::Own,
        false if needs_mounts(spec, namespaces)? => MountsAre::TheHosts,
        false => MountsAre::None,
    };
    let mut mounts = Vec::with_capacity(spec.mounts.len() + 1);
    for (index, mount) in spec.mounts.iter().enumerate() {
        mounts.push(one(index, mount, bundle, namespaces, place, host, warnings)?);
    }
    super::labels::mounts(linux, &mut mounts, host, warnings)?;
    if let Some(directory) = &options.notify {
        mounts.push(notify(directory));
    }
    if mounts_are == MountsAre::TheHosts {
        check_mounts_on_host(&mounts)?;
    }
    let own_dev = mounts_are != MountsAre::None
        && !spec
            .mounts
            .iter()
            .zip(&mounts)
            .any(|(_, mount)| mount.destination.to_bytes() == b"/dev" && matches!(mount.what, What::Bind { .. }));
    let enter = match (new, options.no_pivot) {
        (false, _) => Enter::Chroot,
        (true, false) => Enter::Pivot,
        (true, true) => Enter::Move,
    };
    let propagation = propagation(linux, options)?;
    if layers.is_some() && mounts_are != MountsAre::Own {
        return Err(bad("linux.namespaces", "a root of layers needs a mount namespace"));
    }
    if layers.is_some() && propagation.kind == PropagationKind::Shared {
        return Err(bad("linux.rootfsPropagation", "a root of layers has nobody to share with"));
    }
    let userns = namespaces.has_own(libc::CLONE_NEWUSER);
    Ok(Plan {
        path,
        layers,
        ids: None,
        readonly: spec.root.as_ref().is_some_and(|root| root.readonly == Some(true)),
        propagation,
        enter,
        mounts_are,
        userns,
        keep_procfs: linux.is_some_and(|linux| !linux.sysctl.is_empty()),
        mounts,
        devices: if own_dev { devices::nodes(linux)? } else { devices::asked(linux)? },
        own_dev,
        masked_paths: paths("linux.maskedPaths", linux.map(|linux| &linux.masked_paths))?,
        readonly_paths: paths("linux.readonlyPaths", linux.map(|linux| &linux.readonly_paths))?,
    })
}

/// Whether a container without a mount namespace has something to mount, in the one that proa is in.
fn needs_mounts(spec: &Spec<'_>, namespaces: &Namespaces) -> Result<bool> {
    let linux = spec.linux.as_ref();
    let list = |list: Option<&spec::List<spec::Str<'_>>>| list.is_some_and(|list| !list.is_empty());
    // A word about the root of the host, not of the container.
    if linux.is_some_and(|linux| linux.rootfs_propagation.as_deref().is_some_and(|word| !word.is_empty())) {
        return Err(bad("linux.rootfsPropagation", "needs a mount namespace"));
    }
    let needing = [
        ("mounts", !spec.mounts.is_empty()),
        ("linux.maskedPaths", list(linux.map(|linux| &linux.masked_paths))),
        ("linux.readonlyPaths", list(linux.map(|linux| &linux.readonly_paths))),
        ("root.readonly", spec.root.as_ref().is_some_and(|root| root.readonly == Some(true))),
        ("linux.devices", linux.is_some_and(|linux| !linux.devices.is_empty())),
    ];
    let Some((property, _)) = needing.iter().find(|(_, set)| *set) else { return Ok(false) };
    // Whose root may not mount on the host.
    if namespaces.has_own(libc::CLONE_NEWUSER) {
        return Err(bad(property, "needs a mount namespace beside a user namespace"));
    }
    Ok(true)
}

/// Mounts that lead to the host's would let what is done to them, masks and their end, reach the host.
fn check_mounts_on_host(mounts: &[Mount]) -> Result<()> {
    for (index, mount) in mounts.iter().enumerate() {
        let shared = mount.propagation.iter().any(|propagation| propagation.kind == PropagationKind::Shared);
        if shared || matches!(mount.what, What::Bind { .. } | What::Cgroup(_)) {
            let kind = if shared { "a shared mount" } else { "a mount of what is the host's" };
            let problem = format_args!("{}: {kind} needs a mount namespace", mount.destination);
            return Err(bad(format_args!("mounts[{index}]"), problem));
        }
    }
    Ok(())
}

/// The directory must be there, and no part of `root.path` may be a link, or it is not clear whose it is. Links on the
/// way to the bundle are the operator's.
fn root_path(spec: &Spec<'_>, bundle: &Path) -> Result<CText> {
    let given = given_path(spec);
    let problem = |what: &str| bad("root.path", format_args!("{given:?}: {what}"));
    let mut path = PathBuf::from(clean_path(&bundle.join(given)));
    let mut found = directory_without_links(&path);
    if matches!(found, Err(Errno::LOOP)) && !given.starts_with('/') {
        let real = bundle.canonicalize().context(|| format!("--bundle {bundle:?}"))?;
        path = PathBuf::from(clean_path(&real.join(given)));
        found = directory_without_links(&path);
    }
    match found {
        Ok(()) if path == Path::new("/") => Err(problem("is the host's root")),
        Ok(()) => path_text("root.path", &path),
        Err(Errno::LOOP) => Err(problem("has a symbolic link in it")),
        Err(Errno::NOTDIR) => Err(problem("is no directory")),
        Err(errno) => Err(problem(&format!("{}: {}", crate::error::text(errno), path.display()))),
    }
}

fn given_path<'s>(spec: &'s Spec<'_>) -> &'s str {
    spec.root.as_ref().and_then(|root| root.path.as_deref()).unwrap_or_default()
}

fn clean_path(path: &Path) -> String {
    clean(&path.to_string_lossy())
}

fn directory_without_links(path: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // Without openat2 the same answer takes a walk.
        Err(Errno::NOSYS | Errno::PERM) => match path.canonicalize() {
            Ok(real) if real != path => Err(Errno::LOOP),
            Ok(real) if !real.is_dir() => Err(Errno::NOTDIR),
            Ok(_) => Ok(()),
            Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        },
        opened => opened.map(drop),
    }
}

fn propagation(linux: Option<&spec::Linux<'_>>, options: &Options) -> Result<Propagation> {
    let word = linux.and_then(|linux| linux.rootfs_propagation.as_deref()).filter(|word| !word.is_empty());
    let Some(word) = word else { return Ok(Propagation { kind: PropagationKind::Slave, recursive: true }) };
    let Some(Word::Propagation(kind, recursive)) = options::lookup(word) else {
        return Err(bad("linux.rootfsPropagation", format_args!("{word:?} is no propagation")));
    };
    if options.no_pivot && kind == PropagationKind::Private {
        return Err(bad("linux.rootfsPropagation", format_args!("{word:?} cannot be had with --no-pivot")));
    }
    Ok(Propagation { kind, recursive })
}

fn paths(property: &str, list: Option<&spec::List<spec::Str<'_>>>) -> Result<Vec<CText>> {
    let mut result: Vec<CText> = Vec::new();
    for (index, path) in list.into_iter().flat_map(|list| list.iter()).enumerate() {
        let property = format_args!("{property}[{index}]");
        if !path.starts_with('/') {
            return Err(bad(property, format_args!("{:?} is not absolute", &**path)));
        }
        let path = text(property, path)?;
        if !result.contains(&path) {
            result.push(path);
        }
    }
    Ok(result)
}

/// The words of one mount.
#[derive(Default)]
struct Words {
    attr: Attr,
    /// A word that mount(2) would take as a flag: binds then set all flags.
    flags_given: bool,
    recursive: Option<Attr>,
    bind: Option<bool>,
    remount: bool,
    propagation: Vec<Propagation>,
    parameters: Vec<Parameter>,
    legacy: u64,
    copy_up: bool,
}

fn one(
    index: usize,
    mount: &spec::Mount<'_>,
    bundle: &Path,
    namespaces: &Namespaces,
    place: &cgroup::Place,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<Mount> {
    let kind = mount.kind.as_deref().unwrap_or_default();
    let mut words = parse(index, mount)?;
    if words.bind.is_none() && !words.remount {
        words.bind = match kind {
            "bind" => Some(false),
            "rbind" => Some(true),
            _ => None,
        };
    }
    let destination = destination(index, mount, kind, words.bind.is_some(), warnings)?;
    let property = format!("mounts[{index}]");
    let what = match words.bind {
        Some(recursive) if !words.remount => bind(&property, mount, bundle, recursive, &words, warnings)?,
        _ if words.remount => What::Remount(filesystem(&property, kind, mount, &mut words)?),
        _ if kind.is_empty() => return Err(bad(format_args!("{property}.type"), "missing")),
        _ if kind == "cgroup" || kind == "cgroup2" => {
            What::Cgroup(cgroup_mounts::cgroups(&property, &mut words.parameters, namespaces, place, host)?)
        }
        _ => What::Filesystem(filesystem(&property, kind, mount, &mut words)?),
    };
    let attr = match &what {
        What::Bind { .. } => words.flags_given.then(|| words.attr.exactly()),
        _ => Some(words.attr),
    };
    Ok(Mount { destination, what, attr, recursive: words.recursive, propagation: words.propagation, ids: None })
}

fn parse(index: usize, mount: &spec::Mount<'_>) -> Result<Words> {
    let mut words = Words::default();
    for (at, word) in mount.options.iter().enumerate() {
        let property = || format!("mounts[{index}].options[{at}] {:?}", &**word);
        let mut flag = true;
        if word.is_empty() {
            continue;
        }
        match options::lookup(word) {
            Some(Word::Nothing) => {}
            Some(Word::Set(bits)) => words.attr.set(bits),
            Some(Word::Clear(bits)) => words.attr.clear(bits),
            Some(Word::Super(name, on)) => {
                words.parameters.retain(|parameter| parameter.name.to_bytes() != name.as_bytes());
                if on {
                    words.parameters.push(Parameter { name: text(property(), name)?, value: None });
                }
            }
            Some(Word::Legacy(bits, on)) => words.legacy = if on { words.legacy | bits } else { words.legacy & !bits },
            other => {
                flag = false;
                match other {
                    Some(Word::SetBelow(bits)) => words.recursive.get_or_insert_default().set(bits),
                    Some(Word::ClearBelow(bits)) => words.recursive.get_or_insert_default().clear(bits),
                    Some(Word::Bind(recursive)) => words.bind = Some(recursive || words.bind == Some(true)),
                    Some(Word::Remount) => words.remount = true,
                    Some(Word::Propagation(kind, recursive)) => words.propagation.push(Propagation { kind, recursive }),
                    // See mapped_ids.rs.
                    Some(Word::MapIds(_)) => {}
                    Some(Word::CopyUp) if mount.kind.as_deref() == Some("tmpfs") => words.copy_up = true,
                    Some(Word::CopyUp) => return Err(bad(property(), "is for a tmpfs only")),
                    _ => parameters(&property(), word, &mut words.parameters)?,
                }
            }
        }
        words.flags_given |= flag;
    }
    Ok(words)
}

/// mount(2) takes the words joined by commas, so that one with commas is several; a quoted or escaped one stays whole.
fn parameters(property: &str, word: &str, list: &mut Vec<Parameter>) -> Result<()> {
    if word.contains(['"', '\\']) {
        list.push(parameter(property, word)?);
        return Ok(());
    }
    word.split(',').try_for_each(|part| parameter(property, part).map(|parameter| list.push(parameter)))
}

pub(super) fn parameter(property: &str, word: &str) -> Result<Parameter> {
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(text(property, value)?)),
        None => (word, None),
    };
    if name.is_empty() {
        return Err(bad(property, "is empty"));
    }
    Ok(Parameter { name: text(property, name)?, value })
}

fn destination(
    index: usize,
    mount: &spec::Mount<'_>,
    kind: &str,
    is_bind: bool,
    warnings: &mut Vec<String>,
) -> Result<CText> {
    let property = format!("mounts[{index}].destination");
    let given = mount.destination.as_deref().unwrap_or_default();
    if given.is_empty() {
        return Err(bad(property, "missing or empty"));
    }
    if !given.starts_with('/') {
        warnings.push(format!("{property}: {given:?} is not absolute and is taken from / (deprecated)"));
    }
    let path = clean(given);
    if path == "/" {
        return Err(bad(property, format_args!("{given:?} is the root itself")));
    }
    if path == "/proc" && kind != "proc" && !is_bind {
        return Err(bad(property, format_args!("{given:?}: only a proc file system may be mounted on /proc")));
    }
    if path.starts_with("/proc/") && !rootfs::may_cover(path.as_bytes()) {
        return Err(bad(property, format_args!("{given:?} cannot be mounted because it is inside /proc")));
    }
    text(property, &path)
}

fn bind(
    property: &str,
    mount: &spec::Mount<'_>,
    bundle: &Path,
    recursive: bool,
    words: &Words,
    warnings: &mut Vec<String>,
) -> Result<What> {
    let source = mount.source.as_deref().unwrap_or_default();
    if source.is_empty() {
        return Err(bad(format_args!("{property}.source"), "a bind mount needs a source"));
    }
    // What sets up a file system means nothing for a bind, as with mount(2): it is the source's, and stays as it is. A
    // word that no table knows may be a misspelt `ro`.
    for parameter in &words.parameters {
        match (&parameter.value, parameter.name.to_bytes()) {
            (None, b"sync" | b"dirsync" | b"lazytime" | b"mand") => {}
            (Some(_), _) => {
                warnings.push(format!("{property}.options: {:?} has no effect on a bind mount", parameter.name));
            }
            (None, _) => {
                let problem = format_args!("a bind mount takes no option {:?}", parameter.name);
                return Err(bad(format_args!("{property}.options"), problem));
            }
        }
    }
    let source = path_text(&format!("{property}.source"), &bundle.join(source))?;
    Ok(What::Bind { source, recursive })
}

fn filesystem(property: &str, kind: &str, mount: &spec::Mount<'_>, words: &mut Words) -> Result<Filesystem> {
    let source = mount.source.as_deref().filter(|source| !source.is_empty());
    Ok(Filesystem {
        kind: text(format_args!("{property}.type"), kind)?,
        source: source.map(|source| text(format_args!("{property}.source"), source)).transpose()?,
        parameters: std::mem::take(&mut words.parameters),
        legacy_flags: words.legacy,
        copy_up: words.copy_up,
    })
}

/// Where a service's readiness socket is bound, and its name in the container's environment.
pub(crate) const NOTIFY_DIR: &str = "/run/notify";

fn notify(directory: &CText) -> Mount {
    let mut attr = Attr::default();
    for bits in [options::RDONLY, options::NOSUID, options::NODEV, options::NOEXEC] {
        attr.set(bits);
    }
    Mount {
        destination: CText::new(NOTIFY_DIR).unwrap_or_default(),
        what: What::Bind { source: directory.clone(), recursive: false },
        attr: Some(attr.exactly()),
        recursive: None,
        propagation: Vec::new(),
        ids: None,
    }
}
