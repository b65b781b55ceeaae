//! CRIU's image files: two magic numbers, then messages, each after its length.

use super::images;
use crate::error::{Context, Result, bad};
use prost::Message;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::Dir;

/// Of every image that is about one thing (IMG_COMMON in CRIU's magic.h).
const COMMON: u32 = 0x5456_4319;

/// The names of images that begin so.
pub(super) fn names(dir: &OwnedFd, prefix: &str) -> Result<Vec<String>> {
    let what = || "--image-path: read".to_owned();
    let mut names = Vec::new();
    for entry in Dir::read_from(dir.as_fd()).context(what)? {
        let name = entry.context(what)?.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) && name.ends_with(".img") {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// All messages of an image.
pub(super) fn read<M: Message + Default>(dir: &OwnedFd, name: &str, magic: u32) -> Result<Vec<M>> {
    let parts = parts(dir, name, magic)?;
    parts.iter().map(|part| decode(name, part)).collect()
}

/// The same, of which the first is of another kind.
pub(super) fn read_headed<H: Message + Default, M: Message + Default>(
    dir: &OwnedFd,
    name: &str,
    magic: u32,
) -> Result<(H, Vec<M>)> {
    let parts = parts(dir, name, magic)?;
    let Some((head, rest)) = parts.split_first() else { return Err(malformed(name, "is cut off")) };
    Ok((decode(name, head)?, rest.iter().map(|part| decode(name, part)).collect::<Result<_>>()?))
}

fn malformed(name: &str, problem: impl std::fmt::Display) -> crate::error::Error {
    bad("--image-path", format_args!("{name}: {problem}"))
}

fn decode<M: Message + Default>(name: &str, part: &[u8]) -> Result<M> {
    M::decode(part).map_err(|error| malformed(name, error))
}

fn parts(dir: &OwnedFd, name: &str, magic: u32) -> Result<Vec<Vec<u8>>> {
    let bytes = images::read_file(dir, name)?;
    split(&bytes, magic).map_err(|problem| malformed(name, problem))
}

fn split(mut bytes: &[u8], magic: u32) -> std::result::Result<Vec<Vec<u8>>, &'static str> {
    if number(&mut bytes) != Some(COMMON) || number(&mut bytes) != Some(magic) {
        return Err("is no such image");
    }
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let length = number(&mut bytes).and_then(|length| usize::try_from(length).ok());
        let Some((part, rest)) = length.and_then(|length| bytes.split_at_checked(length)) else {
            return Err("is cut off");
        };
        parts.push(part.to_vec());
        bytes = rest;
    }
    Ok(parts)
}

fn number(bytes: &mut &[u8]) -> Option<u32> {
    let (first, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    Some(u32::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn whole_and_cut() {
        let image = [0x19, 0x43, 0x56, 0x54, 1, 0, 0, 0, 2, 0, 0, 0, 7, 8, 0, 0, 0, 0];
        assert_eq!(split(&image, 1), Ok(vec![vec![7, 8], vec![]]));
        assert_eq!(split(&image[..13], 1), Err("is cut off"));
        assert_eq!(split(&image[..10], 1), Err("is cut off"));
        assert_eq!(split(&image, 2), Err("is no such image"));
        assert_eq!(split(&[], 1), Err("is no such image"));
    }
}
