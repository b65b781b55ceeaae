//! What several modules ask of the kernel, and where they keep their files.

use rustix::fd::BorrowedFd;
use rustix::fs::{FlockOperation, flock, stat};
use rustix::io::{Errno, Result, read};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// No small file is nearly as long: a command line could not say that much.
const MAX_SMALL: usize = 1 << 24;
/// PROC_USER_INIT_INO of the kernel.
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

pub(crate) fn is_in_user_namespace() -> bool {
    stat(c"/proc/self/ns/user").is_ok_and(|stat| stat.st_ino != FIRST_USER_NAMESPACE)
}

/// All of a small file.
pub(crate) fn read_all(file: BorrowedFd<'_>) -> Result<Vec<u8>> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match read(file, &mut buffer) {
            Ok(0) => return Ok(text),
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if text.len() > MAX_SMALL {
            return Err(Errno::FBIG);
        }
    }
}

pub(crate) fn wait_for_lock(file: BorrowedFd<'_>) -> Result<()> {
    loop {
        match flock(file, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            answer => return answer,
        }
    }
}

/// The file by which a store is known.
const MARK: &str = "store.json";
/// What others of proa's parts keep in the same directory.
const NEIGHBOUR: &str = "networks";

/// Whether a directory is a store, or can become one: it is not there, or has nothing in it. In all others what is not
/// known would be swept away.
pub(crate) fn may_be_store(dir: &Path) -> io::Result<bool> {
    let is_empty = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        entries => entries?.all(|entry| entry.is_ok_and(|entry| entry.file_name() == NEIGHBOUR)),
    };
    // Looked for afterwards: somebody may be making one just now, and begins with it.
    Ok(is_empty || dir.join(MARK).exists())
}

/// Makes the directory of a store, for its owner only.
pub(crate) fn make_store(dir: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match std::fs::File::create_new(dir.join(MARK)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => Ok(()),
        Ok(mut file) => io::Write::write_all(&mut file, b"{\"version\":1}\n"),
    }
}
