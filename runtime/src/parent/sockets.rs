//! Unix sockets that the command line names, and the container's start socket.

use crate::error::{Context, Error, Result};
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use std::time::Duration;

/// How long whoever is to get a descriptor may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to a stream socket for a descriptor that is sent there.
pub(crate) fn connect_stream(property: &str, path: &str) -> Result<OwnedFd> {
    stream(path).context(|| format!("{property} {path:?}"))
}

/// The same, with the bare errno.
pub(super) fn stream(path: &str) -> rustix::io::Result<OwnedFd> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Somebody who does not accept is not waited for.
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    connect(&socket, &address)?;
    Ok(socket)
}

/// A name in a directory, short enough for an address whatever the directory's path.
fn address_in(dir: BorrowedFd<'_>, name: &str) -> rustix::io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

/// The socket on which the container's init waits to be started.
pub(crate) fn listen_in(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let what = || format!("make the start socket {name}");
    let address = address_in(dir, name).context(what)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context(what)?;
    bind(&socket, &address).context(what)?;
    listen(&socket, 1).context(what)?;
    Ok(socket)
}

/// Connects to it; None if nobody listens any more.
pub(crate) fn connect_in(dir: BorrowedFd<'_>, name: &str) -> Result<Option<OwnedFd>> {
    let what = || format!("connect to the start socket {name}");
    let address = address_in(dir, name).context(what)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context(what)?;
    match connect(&socket, &address) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(None),
        Err(errno) => Err(Error::Sys { what: what(), errno }),
    }
}

/// `--pidfd-socket`: gives the container's process away as a descriptor; `kind` says who it is, as runc does.
pub(crate) fn send_pidfd(socket: &OwnedFd, kind: &str, pidfd: BorrowedFd<'_>) -> Result<()> {
    crate::sync::send_descriptor(socket.as_fd(), kind.as_bytes(), pidfd).context(|| "--pidfd-socket: send".to_owned())
}
