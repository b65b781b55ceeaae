//! System calls by number: what they are called, and what may go wrong with each.

use nix::errno::Errno;
use nix::libc;

use crate::inject::Fault;

macro_rules! names {
    ($($name:ident $number:ident),* $(,)?) => {
        /// The name of a call that runtimes make; its number, of one that is not listed.
        pub fn name(number: i64) -> String {
            match number {
                $(libc::$number => stringify!($name).to_owned(),)*
                other => format!("call {other}"),
            }
        }
    };
}

names! {
    read SYS_read, write SYS_write, close SYS_close, fstat SYS_fstat, lseek SYS_lseek, mmap SYS_mmap,
    mprotect SYS_mprotect, munmap SYS_munmap, brk SYS_brk, rt_sigaction SYS_rt_sigaction,
    rt_sigprocmask SYS_rt_sigprocmask, rt_sigreturn SYS_rt_sigreturn, ioctl SYS_ioctl, readv SYS_readv,
    writev SYS_writev, pread64 SYS_pread64, sched_yield SYS_sched_yield, mremap SYS_mremap, dup SYS_dup,
    getpid SYS_getpid, sendfile SYS_sendfile, socket SYS_socket, connect SYS_connect, sendto SYS_sendto,
    recvfrom SYS_recvfrom, sendmsg SYS_sendmsg, recvmsg SYS_recvmsg, shutdown SYS_shutdown, bind SYS_bind,
    listen SYS_listen, socketpair SYS_socketpair, setsockopt SYS_setsockopt, getsockopt SYS_getsockopt,
    clone SYS_clone, execve SYS_execve, exit SYS_exit, wait4 SYS_wait4, kill SYS_kill, uname SYS_uname,
    fcntl SYS_fcntl, flock SYS_flock, fsync SYS_fsync, ftruncate SYS_ftruncate, getcwd SYS_getcwd,
    chdir SYS_chdir, fchdir SYS_fchdir, fchmod SYS_fchmod, fchown SYS_fchown, umask SYS_umask,
    getrlimit SYS_getrlimit, getuid SYS_getuid, getgid SYS_getgid, setuid SYS_setuid, setgid SYS_setgid,
    geteuid SYS_geteuid, getegid SYS_getegid, getppid SYS_getppid, setsid SYS_setsid, setgroups SYS_setgroups,
    setresuid SYS_setresuid, setresgid SYS_setresgid, capget SYS_capget, capset SYS_capset, statfs SYS_statfs,
    fstatfs SYS_fstatfs, sched_setaffinity SYS_sched_setaffinity, sched_getaffinity SYS_sched_getaffinity,
    prctl SYS_prctl, setrlimit SYS_setrlimit, chroot SYS_chroot, mount SYS_mount, umount2 SYS_umount2,
    sethostname SYS_sethostname, setdomainname SYS_setdomainname, gettid SYS_gettid, futex SYS_futex,
    getdents64 SYS_getdents64, set_tid_address SYS_set_tid_address, clock_gettime SYS_clock_gettime,
    clock_nanosleep SYS_clock_nanosleep, exit_group SYS_exit_group, tgkill SYS_tgkill, waitid SYS_waitid,
    add_key SYS_add_key, keyctl SYS_keyctl, inotify_add_watch SYS_inotify_add_watch, openat SYS_openat,
    mkdirat SYS_mkdirat, mknodat SYS_mknodat, fchownat SYS_fchownat, newfstatat SYS_newfstatat,
    unlinkat SYS_unlinkat, renameat SYS_renameat, linkat SYS_linkat, symlinkat SYS_symlinkat,
    readlinkat SYS_readlinkat, fchmodat SYS_fchmodat, faccessat SYS_faccessat, ppoll SYS_ppoll,
    unshare SYS_unshare, splice SYS_splice, utimensat SYS_utimensat, fallocate SYS_fallocate,
    signalfd4 SYS_signalfd4, eventfd2 SYS_eventfd2, epoll_create1 SYS_epoll_create1, dup3 SYS_dup3,
    pipe2 SYS_pipe2, inotify_init1 SYS_inotify_init1, preadv SYS_preadv, prlimit64 SYS_prlimit64,
    setns SYS_setns, accept4 SYS_accept4, sched_setattr SYS_sched_setattr, renameat2 SYS_renameat2,
    seccomp SYS_seccomp, getrandom SYS_getrandom, memfd_create SYS_memfd_create, bpf SYS_bpf,
    execveat SYS_execveat, statx SYS_statx, pidfd_send_signal SYS_pidfd_send_signal, open_tree SYS_open_tree,
    move_mount SYS_move_mount, fsopen SYS_fsopen, fsconfig SYS_fsconfig, fsmount SYS_fsmount,
    pidfd_open SYS_pidfd_open, clone3 SYS_clone3, close_range SYS_close_range, openat2 SYS_openat2,
    pidfd_getfd SYS_pidfd_getfd, faccessat2 SYS_faccessat2, mount_setattr SYS_mount_setattr,
    pivot_root SYS_pivot_root,
}

/// Those that cannot fail as they are used, or fail in a way that leaves nothing to be done (close(2)).
const CANNOT_FAIL: &[i64] = &[
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_close,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_umask,
    libc::SYS_set_tid_address,
    ARCH_PRCTL,
];

/// Which libc begins a program with, on x86_64.
const ARCH_PRCTL: i64 = 158;

/// Those that a signal can break off.
const CAN_BE_INTERRUPTED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_openat,
    libc::SYS_connect,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_ppoll,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_flock,
    libc::SYS_futex,
    libc::SYS_clock_nanosleep,
];

/// Those that read or write a device or a file system.
const CAN_MEET_A_BAD_DISK: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_fsync,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_getdents64,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstat,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_ftruncate,
    libc::SYS_execve,
    libc::SYS_execveat,
];

/// Those that can find something full: a disk, or a count of the kernel's.
const CAN_RUN_OUT_OF_SPACE: &[i64] = &[
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_ftruncate,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_inotify_add_watch,
    libc::SYS_bind,
];

/// What may go wrong with a call.
pub fn faults(number: i64) -> Vec<Fault> {
    let mut faults = vec![Fault::Kill];
    if CANNOT_FAIL.contains(&number) {
        return faults;
    }
    faults.extend([Errno::ENOMEM, Errno::EPERM].map(Fault::Error));
    for (list, errno) in
        [(CAN_BE_INTERRUPTED, Errno::EINTR), (CAN_MEET_A_BAD_DISK, Errno::EIO), (CAN_RUN_OUT_OF_SPACE, Errno::ENOSPC)]
    {
        if list.contains(&number) {
            faults.push(Fault::Error(errno));
        }
    }
    faults
}
