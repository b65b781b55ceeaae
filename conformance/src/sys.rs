//! The system calls that the suite needs and no crate of its offers safely. The
//! only file here with unsafe code.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::sched::CloneFlags;

/// What a child does between fork and exec.
#[derive(Debug, Default)]
pub struct ChildSetup {
    /// Open descriptors and the numbers that the program shall see them at.
    pub fds: Vec<(OwnedFd, RawFd)>,
    /// Namespaces to enter, in this order.
    pub joins: Vec<OwnedFd>,
    /// Namespaces to leave for new ones, after the joins.
    pub unshare: Option<CloneFlags>,
    /// Makes standard input the controlling terminal of a new session.
    pub terminal: bool,
    /// Makes a new session without a terminal.
    pub session: bool,
    /// Soft and hard limit on open files.
    pub open_files: Option<u64>,
    /// File mode mask.
    pub umask: Option<u32>,
}

/// Has `command` carry out `setup` in its child.
pub fn prepare_child(command: &mut Command, setup: ChildSetup) {
    // SAFETY: the closure makes nothing but system calls on values made before the fork; it
    // neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(move || run_setup(&setup));
    }
}

fn run_setup(setup: &ChildSetup) -> io::Result<()> {
    for fd in &setup.joins {
        nix::sched::setns(fd, CloneFlags::empty())?;
    }
    if let Some(flags) = setup.unshare {
        nix::sched::unshare(flags)?;
    }
    if setup.terminal || setup.session {
        nix::unistd::setsid()?;
    }
    if setup.terminal {
        // SAFETY: TIOCSCTTY takes an integer.
        check(unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) })?;
    }
    if let Some(limit) = setup.open_files {
        let value = libc::rlimit { rlim_cur: limit, rlim_max: limit };
        // SAFETY: the pointer is to a whole struct that outlives the call.
        check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &value) })?;
    }
    if let Some(mask) = setup.umask {
        // SAFETY: umask cannot fail and touches no memory.
        unsafe { libc::umask(mask) };
    }
    for (source, target) in &setup.fds {
        // SAFETY: dup3 and fcntl take integers; a target number is never one that Rust owns
        // here, as the child is about to run another program.
        unsafe {
            if source.as_raw_fd() == *target {
                check(libc::fcntl(*target, libc::F_SETFD, 0))?;
            } else {
                check(libc::dup2(source.as_raw_fd(), *target))?;
            }
        }
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes this process the one that orphans below it are given to (prctl(2)):
/// then every process that a test leaves behind is found among its children.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: PR_SET_CHILD_SUBREAPER takes integers.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }).map(drop)
}

/// Opens a pidfd (pidfd_open(2), Linux 5.3).
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes integers.
    let fd = check_long(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just made this descriptor, nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Takes over a descriptor that a call has just made under this number.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: only called on the numbers that recvmsg has just made in this process; nothing
    // else owns them.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Sends a signal by pidfd (pidfd_send_signal(2)).
pub fn pidfd_kill(pidfd: &OwnedFd, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed, the rest are integers.
    let result = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    check_long(result).map(drop)
}

/// The scheduling of a process (sched_getattr(2)).
#[repr(C)]
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SchedAttr {
    size: u32,
    /// SCHED_OTHER 0, FIFO 1, RR 2, BATCH 3, IDLE 5, DEADLINE 6.
    pub policy: u32,
    /// SCHED_FLAG_* bits.
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// 1 to 99 for FIFO and RR.
    pub priority: u32,
    /// Nanoseconds, for DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, for DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, for DEADLINE.
    pub period: u64,
}

/// Asks for the scheduling of `pid`.
pub fn sched_getattr(pid: i32) -> io::Result<SchedAttr> {
    let mut attr = MaybeUninit::<SchedAttr>::zeroed();
    let size = size_of::<SchedAttr>();
    // SAFETY: the kernel writes at most `size` bytes to the struct, which has that many.
    check_long(unsafe { libc::syscall(libc::SYS_sched_getattr, pid, attr.as_mut_ptr(), size, 0) })?;
    // SAFETY: it was zeroed before, and every bit pattern is valid.
    Ok(unsafe { attr.assume_init() })
}

/// The I/O priority of `pid` as (class, level) (ioprio_get(2)).
pub fn ioprio_get(pid: i32) -> io::Result<(i64, i64)> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: ioprio_get takes integers.
    let value = check_long(unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, pid) })?;
    Ok((value >> 13, value & 0x1fff))
}

/// Sets a terminal's size.
pub fn set_window_size(fd: &impl AsRawFd, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &size) }).map(drop)
}

/// A terminal's size as (rows, columns).
pub fn window_size(fd: &impl AsRawFd) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &mut size) })?;
    Ok((size.ws_row, size.ws_col))
}

/// The kind of namespace an open descriptor is of, a `CLONE_NEW*` number; an
/// error says that it is of none (ioctl_ns(2)).
pub fn namespace_kind(fd: &OwnedFd) -> io::Result<i32> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) })
}

/// Installs a seccomp program on this process and all it will start, without
/// setting no_new_privs, which needs CAP_SYS_ADMIN: so that what runs under it
/// differs in nothing else.
pub fn install_filter(program: &[seccompiler::sock_filter]) -> io::Result<()> {
    #[repr(C)]
    struct Program {
        len: libc::c_ushort,
        filter: *const seccompiler::sock_filter,
    }
    let program = Program { len: program.len() as libc::c_ushort, filter: program.as_ptr() };
    // SAFETY: the kernel copies `len` instructions, which the slice holds.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &program) };
    check_long(result).map(drop)
}

/// Waits for the next call that a seccomp filter tells of, lets it return `value`, and says who made it
/// (seccomp_unotify(2)).
pub fn answer_notification(listener: &OwnedFd, value: i64) -> io::Result<u32> {
    const RECEIVE: libc::c_ulong = 0xc050_2100;
    const SEND: libc::c_ulong = 0xc018_2101;
    // SAFETY: a struct of integers, for which all zeros are values.
    let mut call: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes a struct seccomp_notif.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE as _, &raw mut call) })?;
    let mut answer = libc::seccomp_notif_resp { id: call.id, val: value, error: 0, flags: 0 };
    // SAFETY: the kernel reads a struct seccomp_notif_resp.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw mut answer) })?;
    Ok(call.pid)
}

/// How many BPF programs the kernel holds: bpf(2) with BPF_PROG_GET_NEXT_ID. None where that cannot be asked.
pub fn bpf_programs() -> Option<usize> {
    const BPF_PROG_GET_NEXT_ID: libc::c_long = 11;
    // Of union bpf_attr: start_id, next_id, open_flags.
    let mut attr = [0u32; 3];
    let mut count = 0;
    loop {
        // SAFETY: the kernel reads and writes the twelve bytes of `attr`, whose size it is told.
        let rc = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_NEXT_ID, attr.as_mut_ptr(), size_of_val(&attr)) };
        if rc == 0 {
            attr = [attr[1], 0, 0];
            count += 1;
            continue;
        }
        return (io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT)).then_some(count);
    }
}

/// Maps `count` huge pages of the default size `size`, in bytes, and writes to each. Not `reserved`: the kernel sets none
/// aside by then, and one too many is a SIGBUS (mmap(2), MAP_NORESERVE).
pub fn touch_huge_pages(count: usize, size: usize, reserved: bool) -> io::Result<()> {
    let more = if reserved { 0 } else { libc::MAP_NORESERVE };
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB | more;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, at a place that the kernel chooses.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), count * size, access, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    for page in 0..count {
        // SAFETY: within the mapping, which is writable and nobody else's.
        unsafe { start.cast::<u8>().add(page * size).write_volatile(1) };
    }
    Ok(())
}

/// Forks a child that stops itself (SIGSTOP) and executes `command` when it is continued. Only for a process with one
/// thread.
///
/// # Errors
/// fork(2) fails.
pub fn spawn_stopped(command: &mut Command) -> io::Result<i32> {
    // SAFETY: there is one thread, so that the child has all that it may need, locks and memory.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(child.as_raw()),
        nix::unistd::ForkResult::Child => {
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP).ok();
            let error = command.exec();
            eprintln!("cannot execute {:?}: {error}", command.get_program());
            std::process::exit(127)
        }
    }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// The extended attributes of a file, of a link itself, with their values.
pub fn xattrs(path: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let path = c_path(path)?;
    let mut names = vec![0u8; 1 << 16];
    // SAFETY: the path ends in NUL, and the kernel writes at most as many bytes as the buffer has.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let length = match check_long(length as libc::c_long) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => 0,
        length => length? as usize,
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let (c_name, mut value) = (CString::new(name)?, vec![0u8; 1 << 16]);
        // SAFETY: as above, for the value.
        let length = unsafe { libc::lgetxattr(path.as_ptr(), c_name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        value.truncate(check_long(length as libc::c_long)? as usize);
        found.insert(String::from_utf8_lossy(name).into_owned(), value);
    }
    Ok(found)
}

/// Sets an extended attribute.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let (path, name) = (c_path(path)?, CString::new(name)?);
    // SAFETY: both strings end in NUL, and the kernel reads as many bytes as the value has.
    let done = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    check(done).map(drop)
}
