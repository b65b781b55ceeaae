//! The console socket, on which a runtime sends the terminal that it has made.
//! Source: runc, docs/terminals.md.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// A socket in the bundle, removed when dropped.
#[derive(Debug)]
pub(crate) struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// Listens under a name in the bundle. The runtime, whose working directory is the bundle, is given the name alone: a
    /// bundle's path may be longer than a socket's can be.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub(crate) fn listen(bundle: &Path, name: &str) -> io::Result<Console> {
        let path = bundle.join(name);
        std::fs::remove_file(&path).ok();
        let directory = std::fs::File::open(bundle)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))?;
        listener.set_nonblocking(true)?;
        Ok(Console { listener, path })
    }

    /// The terminal that was sent: the call of the runtime is over, and it is there or will not come.
    ///
    /// # Errors
    /// Nothing was sent.
    pub(crate) fn receive(self) -> io::Result<OwnedFd> {
        let nothing = || io::Error::new(io::ErrorKind::UnexpectedEof, "the runtime has sent no terminal");
        let (stream, _) = self.listener.accept().map_err(|_| nothing())?;
        let mut name = [0; 4096];
        let mut space = nix::cmsg_space!([i32; 4]);
        let mut vectors = [IoSliceMut::new(&mut name)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut vectors, Some(&mut space), flags)?;
        let mut received = Vec::new();
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(descriptors) = control {
                received.extend(descriptors.into_iter().map(crate::sys::received));
            }
        }
        received.into_iter().next().ok_or_else(nothing)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        std::fs::remove_file(&self.path).ok();
    }
}
