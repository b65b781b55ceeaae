//! What checkpoint and restore ask of CRIU alike.

use super::rpc::{self, Options};
use crate::error::{Context, Error, Result};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::path::Arg;
use std::path::{Path, PathBuf};

/// The annotation that names a file with more settings for CRIU; empty for none.
pub(crate) const CONFIG_ANNOTATION: &str = "org.criu.config";
/// Read where that annotation is absent and the file is there.
const CONFIG: &str = "/etc/criu/runc.conf";
/// What CRIU writes to its work directory.
const WRITTEN: [&str; 4] = ["dump.log", "restore.log", "stats-dump", "stats-restore"];
/// As much as CRIU has to say.
const LOG_LEVEL: i32 = 4;

/// `--manage-cgroups-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CgroupMode {
    Soft,
    Full,
    Strict,
    Ignore,
}

/// `--page-server`.
#[derive(Clone, Debug)]
pub(crate) struct PageServerAddress {
    pub address: String,
    pub port: u16,
}

/// Flags that both commands have.
#[derive(Clone, Debug)]
pub(crate) struct Flags {
    pub image_path: PathBuf,
    /// The state directory if none is given.
    pub work_path: Option<PathBuf>,
    pub tcp_established: bool,
    pub ext_unix_sk: bool,
    pub shell_job: bool,
    pub file_locks: bool,
    pub lazy_pages: bool,
    pub auto_dedup: bool,
    pub cgroup_mode: Option<CgroupMode>,
    /// CLONE_NEW* of namespaces that are made and left as they are.
    pub empty_namespaces: i32,
}

impl Flags {
    /// For CRIU, which writes its log to `log` in the work directory.
    pub(super) fn options(&self, images: &OwnedFd, log: &str, mode: CgroupMode) -> Options {
        let mode = match mode {
            CgroupMode::Soft => rpc::CgroupMode::Soft,
            CgroupMode::Full => rpc::CgroupMode::Full,
            CgroupMode::Strict => rpc::CgroupMode::Strict,
            CgroupMode::Ignore => rpc::CgroupMode::Ignore,
        };
        Options {
            images_dir_fd: images.as_raw_fd(),
            log_level: Some(LOG_LEVEL),
            log_file: Some(log.to_owned()),
            tcp_established: Some(self.tcp_established),
            ext_unix_sk: Some(self.ext_unix_sk),
            shell_job: Some(self.shell_job),
            file_locks: Some(self.file_locks),
            lazy_pages: Some(self.lazy_pages),
            auto_dedup: Some(self.auto_dedup),
            evasive_devices: Some(true),
            manage_cgroups: Some(mode != rpc::CgroupMode::Ignore),
            manage_cgroups_mode: Some(mode as i32),
            empty_ns: (self.empty_namespaces != 0).then_some(self.empty_namespaces as u32),
            notify_scripts: Some(true),
            ..Options::default()
        }
    }
}

/// The file with more settings for CRIU that the annotation names, or the usual one if that is there.
pub(super) fn config_file(annotation: Option<&str>) -> Option<String> {
    match annotation {
        Some("") => None,
        Some(path) => Some(path.to_owned()),
        None => Path::new(CONFIG).exists().then(|| CONFIG.to_owned()),
    }
}

/// A directory that CRIU writes to, made where it is missing.
pub(super) fn directory(flag: &str, path: &Path) -> Result<OwnedFd> {
    let what = || format!("{flag} {}", path.display());
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        std::fs::create_dir_all(parent).context(what)?;
    }
    match mkdirat(CWD, path, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno).context(what),
    }
    open_directory(path).context(what)
}

pub(super) fn open_directory(path: impl Arg) -> rustix::io::Result<OwnedFd> {
    openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Removes what is no file of CRIU's own where CRIU writes to its work directory: it would write through a link.
pub(super) fn clear_work(work: &OwnedFd) -> Result<()> {
    for name in WRITTEN {
        match statat(work, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_nlink == 1 => {}
            Err(Errno::NOENT) => {}
            _ => unlinkat(work, name, AtFlags::empty()).context(|| format!("--work-path: remove {name}"))?,
        }
    }
    Ok(())
}

/// Both commands work on any process there is.
pub(super) fn need_root(verb: &str) -> Result<()> {
    match rustix::process::geteuid().is_root() && !crate::plan::is_in_user_namespace() {
        true => Ok(()),
        false => Err(Error::Usage(format!("to {verb} a container takes root of the host"))),
    }
}
