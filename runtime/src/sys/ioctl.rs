//! ioctl(2) requests and socket options without a wrapper elsewhere.

use super::{answer, last_errno};
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Result;

/// The CLONE_NEW* flag of a namespace's descriptor (NS_GET_NSTYPE, Linux 4.11).
pub(crate) fn namespace_type(fd: BorrowedFd<'_>) -> Result<i32> {
    const NS_GET_NSTYPE: u64 = 0xb703;
    // SAFETY: the request takes no argument.
    answer(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), NS_GET_NSTYPE) }).map(|kind| kind as i32)
}

/// Brings the loopback device of this network namespace up (netdevice(7)). The socket is closed with what building the
/// root leaves open.
pub(crate) fn loopback_up() -> Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    let socket: OwnedFd = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut request = Request { name: [0; 16], flags: (libc::IFF_UP | libc::IFF_RUNNING) as i16, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    // SAFETY: SIOCSIFFLAGS reads a struct ifreq of 40 bytes.
    let rc = unsafe { libc::syscall(libc::SYS_ioctl, socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    std::mem::forget(socket);
    if rc == 0 { Ok(()) } else { Err(last_errno()) }
}
