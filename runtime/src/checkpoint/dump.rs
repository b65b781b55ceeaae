//! `proa checkpoint`.

use super::cgroup_mounts::CgroupMounts;
use super::images;
use super::mounts;
use super::options::{self, CONFIG_ANNOTATION, CgroupMode, Flags, PageServerAddress};
use super::rpc::{Kind, Options, PageServer, Request};
use super::swrk::{self, Criu};
use crate::config;
use crate::config::spec::Spec;
use crate::error::{Context, Error, Result, bad};
use crate::parent::delete;
use crate::plan::{LANDLOCK_ANNOTATION, NAMESPACES};
use crate::state::{Process, Record, StateDir, StateRoot};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::stat;

const LOG: &str = "dump.log";

/// What checkpoint is asked beside what it shares with restore.
pub(crate) struct Dump {
    pub flags: Flags,
    pub leave_running: bool,
    pub pre_dump: bool,
    pub parent_path: Option<String>,
    pub tcp_skip_in_flight: bool,
    pub link_remap: bool,
    pub status_fd: Option<i32>,
    pub page_server: Option<PageServerAddress>,
}

/// Saves a container that runs. Unless it is to run on it has ended then, and is deleted; on failure it runs on.
pub(crate) fn dump(
    root: &StateRoot,
    dir: &StateDir,
    record: &Record<'_>,
    init: &Process,
    request: &Dump,
) -> Result<()> {
    options::need_root("checkpoint")?;
    let text = dir.read_config()?;
    let spec = config::parse_spec(&text)?;
    check(record, &spec)?;
    if let Some(parent) = &request.parent_path {
        images::check_parent_path(&request.flags.image_path, parent)?;
    }
    let criu = Criu::find()?;
    let images = options::directory("--image-path", &request.flags.image_path)?;
    let work = match &request.flags.work_path {
        Some(path) => options::directory("--work-path", path)?,
        None => dir.fd().try_clone_to_owned().context(|| "keep the state directory".to_owned())?,
    };
    options::clear_work(&work)?;
    let streams = images::streams(init.pid)?;
    let default = if needs_cgroups(record, &spec)? { CgroupMode::Soft } else { CgroupMode::Ignore };
    let mode = request.flags.cgroup_mode.unwrap_or(default);
    let mut options =
        Options { work_dir_fd: Some(work.as_raw_fd()), ..options(record, &spec, init.pid, request, &images, mode)? };
    options.external.extend(streams.iter().filter(|name| name.starts_with("file[")).cloned());
    let kind = if request.pre_dump { Kind::PreDump } else { Kind::Dump };
    if !request.pre_dump {
        images::write_descriptors(&images, &streams)?;
    }
    let mounted = if mode == CgroupMode::Ignore { None } else { Some(CgroupMounts::now()?) };
    let service = criu.serve()?;
    let message = Request { kind: kind as i32, opts: Some(options), ..Request::default() };
    let answer = service.call(&message, |_| Ok(())).and_then(|response| swrk::succeeded(&response));
    if request.pre_dump {
        service.kill();
    }
    mounted.map_or(Ok(()), |mounted| mounted.restore())?;
    answer.map_err(|error| swrk::explain("checkpoint", error, &work, LOG))?;
    drop(service);
    if request.leave_running || request.pre_dump {
        return Ok(());
    }
    init.wait_end(delete::KILL_MILLISECONDS)?;
    delete::destroy(root, dir, record)
}

/// What CRIU would lose without a word, or cannot know.
fn check(record: &Record<'_>, spec: &Spec<'_>) -> Result<()> {
    if record.cgroup.is_disabled() {
        return Err(Error::Usage(format!("container {} has no cgroup to stop it by", &*record.id)));
    }
    if record.namespaces & libc::CLONE_NEWNS == 0 {
        return Err(bad("linux.namespaces", "a container without a mount namespace cannot be saved"));
    }
    if spec.annotation(LANDLOCK_ANNOTATION).is_some() {
        let property = format_args!("annotations[{LANDLOCK_ANNOTATION:?}]");
        return Err(bad(property, "CRIU cannot save what Landlock forbids a process"));
    }
    Ok(())
}

fn options(
    record: &Record<'_>,
    spec: &Spec<'_>,
    pid: i32,
    request: &Dump,
    images: &OwnedFd,
    mode: CgroupMode,
) -> Result<Options> {
    let mut external = mounts::to_leave_out(spec, pid)?;
    external.extend(namespaces(record, spec, pid)?);
    let pages = request
        .page_server
        .as_ref()
        .map(|server| PageServer { address: Some(server.address.clone()), port: Some(i32::from(server.port)) });
    Ok(Options {
        pid: Some(pid),
        leave_running: Some(request.leave_running),
        tcp_skip_in_flight: Some(request.tcp_skip_in_flight),
        link_remap: Some(request.link_remap),
        ps: pages,
        // A later dump tells by this what a process has written since.
        track_mem: Some(request.pre_dump || request.parent_path.is_some()),
        parent_img: request.parent_path.clone(),
        external,
        freeze_cgroup: freezer(record),
        status_fd: request.status_fd,
        orphan_pts_master: Some(true),
        config_file: options::config_file(spec.annotation(CONFIG_ANNOTATION)),
        ..request.flags.options(images, LOG, mode)
    })
}

/// Whether there are cgroups below the container's, which it can see as its own. CRIU mounts cgroups to look at them.
fn needs_cgroups(record: &Record<'_>, spec: &Spec<'_>) -> Result<bool> {
    let listed = spec.linux.iter().flat_map(|linux| linux.namespaces.iter());
    if !listed.into_iter().any(|namespace| namespace.kind.as_deref() == Some("cgroup")) {
        return Ok(false);
    }
    for path in record.cgroup.paths().map(|(_, path)| path).chain(record.cgroup.unified_path()) {
        for entry in std::fs::read_dir(&path).context(|| format!("read {}", path.display()))? {
            if entry.and_then(|entry| entry.file_type()).is_ok_and(|kind| kind.is_dir()) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The cgroup by which the kernel stops the container: that of cgroup v1 where the freezer is there.
fn freezer(record: &Record<'_>) -> Option<String> {
    let has = |names: &str| names.split(',').any(|name| name == "freezer");
    let v1 = record.cgroup.paths().find(|(names, _)| has(names)).map(|(_, path)| path);
    v1.or_else(|| record.cgroup.unified_path()).map(|path| path.to_string_lossy().into_owned())
}

/// Namespaces that were joined by a path: others own them, and who restores names them again.
fn namespaces(record: &Record<'_>, spec: &Spec<'_>, pid: i32) -> Result<Vec<String>> {
    let mut external = Vec::new();
    for (word, flag, [name, _]) in EXTERNAL_NAMESPACES {
        let listed = spec.linux.iter().flat_map(|linux| linux.namespaces.iter());
        let joined = listed
            .filter(|namespace| namespace.kind.as_deref() == Some(word))
            .any(|namespace| namespace.path.as_deref().is_some_and(|path| !path.is_empty()));
        // A path may have led to the host's own.
        let others = joined && record.namespaces & flag != 0;
        let Some((.., file)) = NAMESPACES.iter().find(|(_, known, _)| *known == flag).filter(|_| others) else {
            continue;
        };
        let path = format!("/proc/{pid}/ns/{file}");
        let inode = stat(&path).context(|| format!("stat {path}"))?.st_ino;
        external.push(format!("{file}[{inode}]:{name}"));
    }
    Ok(external)
}

/// Those that CRIU knows as others': type, CLONE_NEW* flag, and the names in the images, ours and that of runc.
pub(super) const EXTERNAL_NAMESPACES: [(&str, i32, [&str; 2]); 2] = [
    ("network", libc::CLONE_NEWNET, ["proa-network", "extRootNetNS"]),
    ("pid", libc::CLONE_NEWPID, ["proa-pid", "extRootPidNS"]),
];
