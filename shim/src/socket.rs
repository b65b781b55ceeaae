//! The socket of a shim: where it is, listening on it, and whether a shim answers there.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Where sockets are when containerd does not say.
const DIRECTORY: &str = "/run/containerd/s";
/// unix(7): what fits into sun_path, without its end.
const LONGEST: usize = 107;

/// The path for a container, or for all containers of a group: the same from every containerd that is reached at the same
/// address, so that shims are found again.
///
/// # Errors
/// One line: it is longer than a socket's path can be.
pub(crate) fn path(
    directory: Option<&str>,
    grpc_address: &str,
    namespace: &str,
    group: &str,
) -> Result<PathBuf, String> {
    let hash = Sha256::digest(format!("{grpc_address}/{namespace}/{group}"));
    let name: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let path = Path::new(directory.unwrap_or(DIRECTORY)).join(name);
    match path.as_os_str().len() {
        length if length > LONGEST => Err(format!("socket path {} has {length} bytes; {LONGEST} fit", path.display())),
        _ => Ok(path),
    }
}

/// As containerd writes it.
pub(crate) fn address(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// What a socket is found to be.
pub(crate) enum Socket {
    /// New, and nobody else's.
    Listening(UnixListener),
    /// A shim of the same group listens there already.
    Served,
}

/// Listens at the path, unless a shim does that already. A socket that nobody listens on is replaced.
///
/// # Errors
/// The directory or the socket cannot be made.
pub(crate) fn listen(path: &Path) -> io::Result<Socket> {
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    for _ in 0..3 {
        match UnixListener::bind(path) {
            Ok(listener) => {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
                return Ok(Socket::Listening(listener));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => match answers(path) {
                true => return Ok(Socket::Served),
                false => remove(path)?,
            },
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::from(io::ErrorKind::AddrInUse))
}

/// Whether somebody listens.
pub(crate) fn answers(path: &Path) -> bool {
    UnixStream::connect(path).is_ok()
}

/// Removes the socket; it is no error that there is none.
///
/// # Errors
/// It cannot be removed.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_stable_and_fits() {
        let one = path(None, "/run/containerd/containerd.sock", "k8s.io", "abc").unwrap();
        assert_eq!(one, path(None, "/run/containerd/containerd.sock", "k8s.io", "abc").unwrap());
        assert_ne!(one, path(None, "/run/containerd/containerd.sock", "k8s.io", "abd").unwrap());
        assert!(path(Some(&"x".repeat(50)), "", "", "").unwrap_err().contains("107"));
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_kept() {
        let path = std::env::temp_dir().join(format!("shim-socket-{}", std::process::id()));
        let Socket::Listening(listener) = listen(&path).unwrap() else { panic!("served by nobody") };
        assert!(matches!(listen(&path).unwrap(), Socket::Served));
        drop(listener);
        assert!(matches!(listen(&path).unwrap(), Socket::Listening(_)));
        remove(&path).unwrap();
        remove(&path).unwrap();
    }
}
