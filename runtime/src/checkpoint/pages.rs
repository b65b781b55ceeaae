//! The memory of a checkpoint: pages in a file of their own. CRIU waits for ever for those that are missing there.

use super::image_file;
use super::images::Images;
use super::rpc::{PagemapEntry, PagemapHead};
use crate::error::{Context, Result, bad};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, statat};

/// In CRIU's magic.h.
const MAGIC: u32 = 0x5608_4025;
/// In the images of the pre-dump before.
const PARENT: u32 = 1;
/// In this file.
const PRESENT: u32 = 4;

/// # Errors
/// A file of pages is shorter than its map says, or missing.
pub(super) fn check(images: &Images) -> Result<()> {
    images.directories().iter().try_for_each(check_directory)
}

fn check_directory(dir: &OwnedFd) -> Result<()> {
    let page = rustix::param::page_size() as u64;
    for name in image_file::names(dir, "pagemap-")? {
        let (head, entries): (PagemapHead, Vec<PagemapEntry>) = image_file::read_headed(dir, &name, MAGIC)?;
        let is_here = |entry: &&PagemapEntry| match entry.flags {
            Some(flags) => flags & PARENT == 0 && flags & PRESENT != 0,
            None => entry.in_parent != Some(true),
        };
        let number = |entry: &PagemapEntry| entry.nr_pages.unwrap_or(u64::from(entry.compat_nr_pages));
        let count = entries.iter().filter(is_here).fold(0u64, |sum, entry| sum.saturating_add(number(entry)));
        if count == 0 {
            continue;
        }
        let pages = format!("pages-{}.img", head.pages_id);
        let found =
            statat(dir, &pages, AtFlags::SYMLINK_NOFOLLOW).context(|| format!("--image-path: {pages}"))?.st_size;
        if u64::try_from(found).unwrap_or_default() < count.saturating_mul(page) {
            return Err(bad("--image-path", format_args!("{pages} is cut off: {count} pages belong in it")));
        }
    }
    Ok(())
}
