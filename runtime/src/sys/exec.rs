//! The last steps of a process before it is another program: arrays of strings, closing descriptors, execve(2).

use super::{answer, last_errno};
use rootfs::plan::CText;
use rustix::io::{Errno, Result};
use std::ffi::CStr;

/// The argv or environ of execve(2): strings with an array of pointers to them, made before the clone.
#[derive(Debug)]
pub(crate) struct StringArray {
    strings: Vec<CText>,
    pointers: Vec<*const libc::c_char>,
}

impl StringArray {
    /// Has room for one more string.
    pub(crate) fn new(strings: Vec<CText>) -> StringArray {
        let mut pointers: Vec<_> = Vec::with_capacity(strings.len() + 2);
        pointers.extend(strings.iter().map(|text| text.as_ptr()));
        pointers.extend([std::ptr::null(), std::ptr::null()]);
        StringArray { strings, pointers }
    }

    pub(crate) fn strings(&self) -> &[CText] {
        &self.strings
    }

    /// Executes `path` with these arguments and, in the environment, one more string. Returns only on failure.
    pub(crate) fn exec(&self, path: &CStr, environment: &mut StringArray, extra: Option<&CStr>) -> Errno {
        let spare = environment.strings.len();
        environment.pointers[spare] = extra.map_or(std::ptr::null(), CStr::as_ptr);
        execve(path, self, environment)
    }
}

impl serde::Serialize for StringArray {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_seq(&self.strings)
    }
}

/// execve(2); returns only on failure.
pub(crate) fn execve(path: &CStr, args: &StringArray, environment: &StringArray) -> Errno {
    // SAFETY: both arrays end in NULL and point to strings that the arrays own, or that outlive the call.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), environment.pointers.as_ptr()) };
    last_errno()
}

/// Marks every descriptor from `first` on to be closed by execve(2). close_range(2) is Linux 5.9, the flag 5.11.
pub(crate) fn close_range_cloexec(first: u32) -> Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: only integers are passed, and the flag closes nothing before execve.
    match answer(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }) {
        Ok(_) => Ok(()),
        Err(Errno::NOSYS | Errno::INVAL | Errno::PERM) => each_descriptor(first, |fd| {
            // SAFETY: only a flag of the descriptor changes; one that is not open is an error that does no harm.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }),
        Err(errno) => Err(errno),
    }
}

/// Closes what the caller left open from `first` on. Only for the beginning of the program, before anything of its
/// own is open.
pub(crate) fn close_range_now(first: u32) -> Result<()> {
    // SAFETY: nothing in this process owns a descriptor yet.
    match answer(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }) {
        Ok(_) => Ok(()),
        Err(Errno::NOSYS | Errno::PERM) => each_descriptor(first, |fd| {
            // SAFETY: nothing in this process owns a descriptor yet; the directory being read is closed last, by its
            // owner, since it is skipped.
            unsafe { libc::close(fd) };
        }),
        Err(errno) => Err(errno),
    }
}

/// Calls `with` for each number that can be open. Needs no /proc: the container's cannot be trusted, and the host's is
/// gone by then.
fn each_descriptor(first: u32, with: impl Fn(i32)) -> Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let top = limit.maximum.or(limit.current).unwrap_or(1 << 20).min(1 << 20);
    for fd in i64::from(first)..top as i64 {
        with(fd as i32);
    }
    Ok(())
}

/// _exit(2): no destructor, no buffer, nothing that belongs to the parent is touched.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: neither returns, unless a filter of system calls denies it.
    unsafe {
        libc::syscall(libc::SYS_exit_group, status);
        libc::syscall(libc::SYS_exit, status);
    }
    // Ends by a signal instead of trying for ever.
    std::process::abort()
}

/// In a new process: closes everything but the standard streams and these. What it inherited of the host, directories
/// above all, must be gone before anything in a container can look at it (CVE-2024-21626).
pub(crate) fn close_all_but(keep: &[i32]) -> Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|number| u32::try_from(*number).ok()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for number in keep.into_iter().filter(|number| *number >= 3) {
        if number > first {
            close_range_inherited(first, number - 1)?;
        }
        first = number + 1;
    }
    close_range_inherited(first, u32::MAX)
}

fn close_range_inherited(first: u32, last: u32) -> Result<()> {
    // SAFETY: the owners of these numbers are never used or dropped in this process, which ends by execve or _exit.
    match answer(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }) {
        Ok(_) => Ok(()),
        Err(Errno::NOSYS | Errno::PERM) => each_descriptor(first, |fd| {
            if u32::try_from(fd).is_ok_and(|fd| fd <= last) {
                // SAFETY: as above.
                unsafe { libc::close(fd) };
            }
        }),
        Err(errno) => Err(errno),
    }
}

/// Whether a descriptor of this number is open.
pub(crate) fn is_open(number: i32) -> bool {
    // SAFETY: only a flag is read.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// A caller may have closed them; what is opened next would then be a standard stream.
pub(crate) fn open_standard_streams() {
    let entry = |fd| libc::pollfd { fd, events: 0, revents: 0 };
    let mut streams = [entry(0), entry(1), entry(2)];
    // SAFETY: the kernel reads and writes three structs.
    unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    for stream in streams.iter().filter(|stream| stream.revents & libc::POLLNVAL != 0) {
        // SAFETY: the path is a constant. The lowest free number is this one, since those below are open; it stays open
        // for the life of the process.
        unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        debug_assert!(is_open(stream.fd));
    }
}
