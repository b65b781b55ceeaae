//! What no crate wraps safely: the only unsafe code of the shim.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use libc::c_int;
use nix::sys::signal::SigSet;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Where a shim finds its socket, as containerd's own does.
const SOCKET: c_int = 3;

/// How many files programs may open: as many as this one could when it was started.
static FILES: OnceLock<Rlimit> = OnceLock::new();

/// From now on this process may open as many files as it is allowed to. A shim has some for each stream of a pod.
pub(crate) fn open_many_files() {
    let limit = FILES.get_or_init(|| getrlimit(Resource::Nofile));
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).ok();
}

/// The pid of a child that has ended, which stays a zombie. waitid(2).
pub(crate) fn any_zombie() -> Option<i32> {
    // SAFETY: an all-zero siginfo_t is one, which the call fills.
    let (result, info) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        (libc::waitid(libc::P_ALL, 0, &mut info, options), info)
    };
    if result != 0 {
        return None;
    }
    // SAFETY: after waitid the union holds si_pid, which is 0 when no child has ended.
    match unsafe { info.si_pid() } {
        0 => None,
        pid => Some(pid),
    }
}

/// Has `prepare` run in the child, before it becomes the program; what it returns as an error is that of the start.
/// For a process of one thread only: in the child all of it, the heap too, is as it was here.
pub(crate) fn before_exec(command: &mut Command, mut prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    let child = move || {
        // The shim's own mask and limit would be the program's.
        SigSet::empty().thread_set_mask()?;
        if let Some(limit) = FILES.get() {
            setrlimit(Resource::Nofile, *limit)?;
        }
        prepare()
    };
    // SAFETY: the shim has one thread, so that no lock is held by another one that the child lacks.
    unsafe { command.pre_exec(child) };
}

/// Starts a program and returns at once, with its pid: other than by `Command::spawn`, which waits until the child has become
/// the program. If it cannot, the child tells why and ends with 127.
pub(crate) fn fork_exec(command: &mut Command, tell: impl FnOnce(io::Error)) -> io::Result<i32> {
    // SAFETY: the shim has one thread: the child has all of its memory, and no lock that is held.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            tell(command.exec());
            // SAFETY: ends the process, without what the parent has to do at its end.
            unsafe { libc::_exit(127) }
        }
        pid => Ok(pid),
    }
}

/// Puts descriptors where a program expects them, from 3 on; to be called between fork and exec.
pub(crate) fn place(descriptors: &[OwnedFd]) -> io::Result<()> {
    // Above all targets first, so that none is overwritten before it has moved.
    let mut above = Vec::with_capacity(descriptors.len());
    for fd in descriptors {
        // SAFETY: fcntl(2) with a number; the result is a new descriptor, owned here.
        let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, SOCKET + descriptors.len() as c_int) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        above.push(copy);
    }
    for (target, fd) in (SOCKET..).zip(above) {
        // SAFETY: dup2(2) of a descriptor of ours; whatever has the target's number is the child's copy alone.
        if unsafe { libc::dup2(fd, target) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The socket that was passed when this process was started: to be taken once.
///
/// # Errors
/// There is none, or it does not listen.
pub(crate) fn passed_socket() -> io::Result<UnixListener> {
    let mut listening: c_int = 0;
    let mut length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes an int of the given length; a wrong descriptor is an error.
    let asked = unsafe {
        libc::getsockopt(SOCKET, libc::SOL_SOCKET, libc::SO_ACCEPTCONN, (&raw mut listening).cast(), &raw mut length)
    };
    if asked != 0 {
        return Err(io::Error::last_os_error());
    }
    if listening == 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: it is open, was passed for this, and nobody else in this process knows of it.
    let listener = unsafe { UnixListener::from_raw_fd(SOCKET) };
    nix::fcntl::fcntl(&listener, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(listener)
}

/// Whether the kernel can put a mount into the peer group of another (move_mount(2), Linux 5.15).
pub(crate) fn can_set_group() -> bool {
    set_group(-1, -1) == libc::EBADF
}

/// Makes `to` a peer of `from`, a mount of the same file system in another mount namespace.
pub(crate) fn join_peers(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    match set_group(from.as_raw_fd(), to.as_raw_fd()) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

fn set_group(from: c_int, to: c_int) -> c_int {
    const MOVE_MOUNT_SET_GROUP: libc::c_uint = 0x100;
    let flags = MOVE_MOUNT_SET_GROUP | libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: two descriptors and empty strings.
    match unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags) } {
        0 => 0,
        _ => io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL),
    }
}

/// Makes processes of this shim, and no others, share processors' threads (prctl(2), PR_SCHED_CORE).
pub(crate) fn core_schedule() -> io::Result<()> {
    const PR_SCHED_CORE_CREATE: libc::c_ulong = 1;
    const PIDTYPE_PGID: libc::c_ulong = 2;
    // SAFETY: numbers only.
    match unsafe { libc::prctl(libc::PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0 as libc::c_ulong, PIDTYPE_PGID, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A process in a user namespace of its own, ended when dropped.
pub(crate) struct Holder(libc::pid_t);

impl Holder {
    /// Its pid.
    pub(crate) fn pid(&self) -> libc::pid_t {
        self.0
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // SAFETY: a child of this process that nobody else waits for.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Makes a process that does nothing in a new user namespace. For a process that has one thread, and not the reaper: the
/// child is waited for here.
pub(crate) fn user_namespace_holder() -> io::Result<Holder> {
    let flags = libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: clone(2) without a stack of its own is fork(2); the child only waits.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags as libc::c_ulong, 0, 0, 0, 0) };
    match pid {
        0 => loop {
            // SAFETY: no arguments.
            unsafe { libc::pause() };
        },
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Holder(pid as libc::pid_t)),
    }
}

/// A descriptor that was received with a message just now.
pub(crate) fn received(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has made it for the receiver of SCM_RIGHTS, who hands it over here.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The signal of a number, a real-time one too; signal(7).
pub(crate) fn signal(number: u32) -> Option<rustix::process::Signal> {
    let number = i32::try_from(number).ok()?;
    rustix::process::Signal::from_named_raw(number).or_else(|| {
        // SAFETY: the kernel has signals up to 64; those without a name are sent, never handled, here.
        (32..=64).contains(&number).then(|| unsafe { rustix::process::Signal::from_raw_unchecked(number) })
    })
}

/// A descriptor that is waited for, in the ways of `interest`. It does not block from now on.
pub(crate) fn watch<T: AsFd + AsRawFd>(fd: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    // SAFETY: it is an owned one (OwnedFd, SignalFd), which gives the same descriptor each time, and which nothing takes
    // out or replaces before the AsyncFd is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// Goes on in a new child, the first of a pid namespace that was unshared before; the parent tells its pid and is gone.
/// For a process of one thread, between fork and exec.
pub(crate) fn fork_and_leave(tell: impl FnOnce(i32)) -> io::Result<()> {
    // SAFETY: one thread; the parent does nothing but tell, and ends without destructors.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        pid => {
            tell(pid);
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Unmaps the program's instructions, which come back from the page cache one by one as they are needed: those of a start
/// are not needed again, and the kernel need not keep them in memory for this process. madvise(2).
pub(crate) fn forget_instructions() {
    unsafe extern "C" {
        // By the linker: ld(1) and lld define them.
        static __executable_start: u8;
        static etext: u8;
    }
    let page = rustix::param::page_size();
    let (start, end) = (&raw const __executable_start as usize, &raw const etext as usize);
    let (start, end) = (start.next_multiple_of(page), end / page * page);
    if start < end {
        // SAFETY: the range holds nothing that was written: the kernel reads it again from the file.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}
