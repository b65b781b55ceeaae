//! Extended attributes of files that were opened in any way, by their paths in /proc (xattr(7)).

use crate::sys::FdPath;
use rustix::fd::BorrowedFd;
use rustix::fs::{XattrFlags, getxattr, getxattr_query, listxattr, listxattr_query, setxattr};
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString};

/// A value may have grown between the question for its size and that for itself.
const MAX_TRIES: usize = 8;

/// The names of all; none on a file system that has no attributes.
pub(crate) fn names(file: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let path = FdPath::new(file);
    let list = match sized(|| listxattr_query(path.as_c_str()), |buffer| listxattr(path.as_c_str(), buffer)) {
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        list => list?,
    };
    let names = list.split_inclusive(|byte| *byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok());
    Ok(names.map(CStr::to_owned).collect())
}

/// The value of one.
pub(crate) fn value(file: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>> {
    let path = FdPath::new(file);
    sized(|| getxattr_query(path.as_c_str(), name), |buffer| getxattr(path.as_c_str(), name, buffer))
}

/// Sets one.
pub(crate) fn set(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    setxattr(FdPath::new(file).as_c_str(), name, value, XattrFlags::empty())
}

/// Whether it is one by which overlayfs says where layers are: copied from one file to another it would be a false mark.
pub(crate) fn is_overlays(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

fn sized(query: impl Fn() -> Result<usize>, get: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    for _ in 0..MAX_TRIES {
        let mut buffer = vec![0; query()?];
        if buffer.is_empty() {
            return Ok(buffer);
        }
        match get(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(Errno::RANGE) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::RANGE)
}
