//! How much the volumes of one bundle may be filled with: an image may want the same of its directories in many.

use super::{Error, Result};
use crate::store::Limits;
use crate::tree::Step;
use rustix::io::Errno;

/// What [`super::Volumes::fill`] may still copy.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    bytes: u64,
    entries: u64,
    /// It was not enough.
    exceeded: bool,
}

impl Budget {
    /// For all volumes that are filled from one image.
    pub fn new(limits: &Limits) -> Budget {
        Budget { limits: *limits, bytes: limits.bytes, entries: limits.entries, exceeded: false }
    }

    /// Room on the disk, before it is taken.
    pub(super) fn take_bytes(&mut self, bytes: u64) -> rustix::io::Result<()> {
        self.bytes = self.taken(self.bytes.checked_sub(bytes))?;
        Ok(())
    }

    pub(super) fn take_entry(&mut self) -> Step<()> {
        self.entries = self.taken(self.entries.checked_sub(1)).map_err(|errno| ("copy".to_owned(), errno))?;
        Ok(())
    }

    fn taken(&mut self, left: Option<u64>) -> rustix::io::Result<u64> {
        self.exceeded |= left.is_none();
        left.ok_or(Errno::DQUOT)
    }

    /// Says that it was not enough, if that is why something failed.
    pub(super) fn explain<T>(&self, done: Result<T>) -> Result<T> {
        done.map_err(|error| match self.exceeded {
            false => error,
            true => Error::Refused(format!(
                "the image would fill volumes with more than {} bytes or {} files, which is the limit",
                self.limits.bytes, self.limits.entries
            )),
        })
    }
}
