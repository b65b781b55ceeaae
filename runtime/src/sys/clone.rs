//! Making processes and moving between namespaces: clone3(2) with its older brother behind it, setns(2), unshare(2).

use super::{answer, last_errno};
use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::{Errno, Result};

/// What the new process is to be.
#[derive(Default)]
pub(crate) struct CloneArgs<'a> {
    /// CLONE_* flags, the namespaces among them.
    pub flags: u64,
    /// Sent to the parent at the end; 0 with CLONE_PARENT.
    pub exit_signal: i32,
    /// The cgroup v2 directory to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Both sides of a clone.
pub(crate) enum Cloned {
    Child {
        /// As the parent's.
        in_cgroup: bool,
    },
    Parent {
        pid: i32,
        pidfd: OwnedFd,
        /// The kernel put the child into the cgroup asked for.
        in_cgroup: bool,
    },
}

/// Linux 5.7; not in every C library's headers.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

#[repr(C, align(8))]
#[derive(Default)]
struct KernelArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Clones this single-threaded process like fork(2). The child shares nothing but what the flags say.
///
/// Falls back to clone(2) where clone3(2) is missing or refused by an outer seccomp filter, and leaves out the cgroup
/// where only that is not possible (the cgroup is threaded, or frozen: EOPNOTSUPP, EBUSY; or the way there leads through
/// one of others: EACCES). Without its cgroup the child
/// gets no new cgroup namespace either: the root of that would be our cgroup.
pub(crate) fn clone(args: &CloneArgs<'_>) -> Result<Cloned> {
    match clone3(args) {
        Err(Errno::OPNOTSUPP | Errno::BUSY | Errno::NOENT | Errno::ACCESS) if args.cgroup.is_some() => {
            clone3(&without_cgroup(args))
        }
        Err(Errno::NOSYS | Errno::PERM | Errno::TOOBIG) if args.cgroup.is_some() => clone2(&without_cgroup(args)),
        Err(Errno::NOSYS | Errno::PERM | Errno::TOOBIG) => clone2(args),
        done => done,
    }
}

fn without_cgroup<'a>(args: &CloneArgs<'a>) -> CloneArgs<'a> {
    CloneArgs { cgroup: None, flags: args.flags & !(libc::CLONE_NEWCGROUP as u64), ..*args }
}

fn clone3(args: &CloneArgs<'_>) -> Result<Cloned> {
    let mut pidfd: i32 = -1;
    let into = if args.cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let kernel = KernelArgs {
        flags: args.flags | libc::CLONE_PIDFD as u64 | into,
        pidfd: &raw mut pidfd as u64,
        exit_signal: args.exit_signal as u64,
        cgroup: args.cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..KernelArgs::default()
    };
    // SAFETY: no CLONE_VM, so the child goes on with a copy of this stack; the kernel writes `pidfd` in the parent only.
    let rc = unsafe { libc::syscall(libc::SYS_clone3, &raw const kernel, size_of::<KernelArgs>()) };
    finish(rc, pidfd, args.cgroup.is_some())
}

/// clone(2) has neither cgroups nor CLONE_NEWTIME, whose bit is part of the exit signal there.
fn clone2(args: &CloneArgs<'_>) -> Result<Cloned> {
    if args.flags & libc::CLONE_NEWTIME as u64 != 0 {
        return Err(Errno::NOSYS);
    }
    let mut pidfd: i32 = -1;
    let flags = args.flags | libc::CLONE_PIDFD as u64 | args.exit_signal as u64;
    let none = 0usize;
    // SAFETY: as above; the third argument is where CLONE_PIDFD stores the descriptor, on every architecture.
    let rc = unsafe { libc::syscall(libc::SYS_clone, flags, none, &raw mut pidfd, none, none) };
    finish(rc, pidfd, false)
}

fn finish(rc: libc::c_long, pidfd: i32, in_cgroup: bool) -> Result<Cloned> {
    match answer(rc)? {
        0 => Ok(Cloned::Child { in_cgroup }),
        pid => {
            // SAFETY: the kernel made this descriptor for us just now.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd, in_cgroup })
        }
    }
}

/// Whether clone3(2) can be called at all.
pub(crate) fn has_clone3() -> bool {
    // SAFETY: a size of zero makes the kernel refuse before it reads anything.
    let rc = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::null::<u8>(), 0usize) };
    rc < 0 && !matches!(last_errno(), Errno::NOSYS | Errno::PERM)
}

/// setns(2): a namespace's descriptor with its CLONE_NEW* flag, or a pidfd with several (Linux 5.8).
pub(crate) fn setns(fd: BorrowedFd<'_>, flags: i32) -> Result<()> {
    // SAFETY: only integers are passed.
    answer(unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), flags) }).map(drop)
}

/// The user namespace that another namespace belongs to, ioctl_ns(2).
pub(crate) fn user_namespace_of(namespace: &OwnedFd) -> Result<OwnedFd> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    // SAFETY: the request takes no argument, and answers with a descriptor that is nobody else's.
    unsafe {
        let fd = answer(libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS as _).into())?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// unshare(2) with namespaces.
pub(crate) fn unshare(flags: i32) -> Result<()> {
    // SAFETY: only integers are passed.
    answer(unsafe { libc::syscall(libc::SYS_unshare, flags) }).map(drop)
}
