//! `deny ERRNO CALL[,CALL...] -- COMMAND...`: runs COMMAND on a kernel that seems
//! to lack some system calls: each fails with ERRNO (ENOSYS or EPERM), in all
//! that COMMAND starts too. Needs CAP_SYS_ADMIN.
//!
//! Not a sandbox: it is for the tests of fallbacks alone.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use conformance::sys;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// The calls that runtimes have other ways for on older kernels, and what they
/// themselves are built on.
const CALLS: &[(&str, i64)] = &[
    ("clone3", libc::SYS_clone3),
    ("close_range", libc::SYS_close_range),
    ("execveat", libc::SYS_execveat),
    ("faccessat2", libc::SYS_faccessat2),
    ("fsconfig", libc::SYS_fsconfig),
    ("fsmount", libc::SYS_fsmount),
    ("fsopen", libc::SYS_fsopen),
    ("fspick", libc::SYS_fspick),
    ("memfd_create", libc::SYS_memfd_create),
    ("mount_setattr", libc::SYS_mount_setattr),
    ("move_mount", libc::SYS_move_mount),
    ("open_tree", libc::SYS_open_tree),
    ("openat2", libc::SYS_openat2),
    ("pidfd_getfd", libc::SYS_pidfd_getfd),
    ("pidfd_open", libc::SYS_pidfd_open),
    ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
    ("statx", libc::SYS_statx),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [errno, calls, dashes, command @ ..] = args.as_slice() else { return usage() };
    let Some((program, rest)) = command.split_first() else { return usage() };
    if dashes != "--" {
        return usage();
    }
    match filter(errno, calls).and_then(|filter| sys::install_filter(&filter).map_err(|error| error.to_string())) {
        Ok(()) => {
            let error = Command::new(program).args(rest).exec();
            eprintln!("deny: {program}: {error}");
        }
        Err(error) => eprintln!("deny: {error}"),
    }
    ExitCode::from(125)
}

fn usage() -> ExitCode {
    eprintln!("usage: deny ENOSYS|EPERM CALL[,CALL...] -- COMMAND...");
    ExitCode::from(125)
}

/// A program that fails these calls with this error and allows all others.
fn filter(errno: &str, calls: &str) -> Result<BpfProgram, String> {
    let errno = match errno {
        "ENOSYS" => libc::ENOSYS,
        "EPERM" => libc::EPERM,
        other => return Err(format!("unknown error {other}")),
    };
    let mut rules = BTreeMap::new();
    for name in calls.split(',') {
        let (_, number) =
            CALLS.iter().find(|(known, _)| *known == name).ok_or_else(|| format!("unknown system call {name}"))?;
        rules.insert(*number, Vec::new());
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno.unsigned_abs()), arch);
    filter.and_then(BpfProgram::try_from).map_err(|error| error.to_string())
}
