//! landlock(7).

use super::answer;
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::Result;

const CREATE_RULESET_VERSION: u32 = 1;
const RULE_PATH_BENEATH: i32 = 1;

/// The version of the kernel's Landlock, from 1 on.
///
/// ENOSYS: it has none; EOPNOTSUPP: it is not turned on.
pub(crate) fn landlock_version() -> Result<u32> {
    let none = std::ptr::null::<u8>();
    // SAFETY: with this flag the kernel reads nothing.
    let version =
        answer(unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, CREATE_RULESET_VERSION) })?;
    Ok(version as u32)
}

/// A ruleset that denies these LANDLOCK_ACCESS_FS_* but where a rule allows them. Close-on-exec.
pub(crate) fn landlock_ruleset(handled: u64) -> Result<OwnedFd> {
    // SAFETY: the kernel reads the eight bytes of struct landlock_ruleset_attr as the first version had it.
    let fd = answer(unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, size_of::<u64>(), 0u32)
    })?;
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Allows these LANDLOCK_ACCESS_FS_* for a file, or for a directory and all below it.
pub(crate) fn landlock_allow(ruleset: BorrowedFd<'_>, file: BorrowedFd<'_>, access: u64) -> Result<()> {
    #[repr(C, packed)]
    struct PathBeneath {
        allowed_access: u64,
        parent_fd: i32,
    }
    let rule = PathBeneath { allowed_access: access, parent_fd: file.as_raw_fd() };
    // SAFETY: the kernel reads the packed struct landlock_path_beneath_attr, which lives until the call returns.
    answer(unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0u32)
    })
    .map(drop)
}

/// Puts a ruleset into force for this process and what it executes, for good. Wants no_new_privs or CAP_SYS_ADMIN.
pub(crate) fn landlock_restrict(ruleset: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: only integers are passed.
    answer(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0u32) }).map(drop)
}
