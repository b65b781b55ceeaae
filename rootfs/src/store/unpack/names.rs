//! Names of entries, and those that are marks of what a layer hides.

use std::ffi::CString;

const WHITEOUT: &[u8] = b".wh.";
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// As deep as an entry may lie. Each directory is looked for from the root on.
const DEEPEST: usize = 512;

/// What an entry is about, with the path of its directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name {
    Root,
    Entry(Vec<u8>, CString),
    /// Hides this name.
    Whiteout(Vec<u8>, CString),
    /// Hides all in this directory.
    Opaque(Vec<u8>),
    /// Nothing that belongs to the tree.
    Dropped,
}

impl Name {
    pub(super) fn of(path: &[u8]) -> Result<Name, &'static str> {
        let Some((parent, name)) = split(path) else {
            return if path.contains(&0) { Err("its name has a NUL") } else { Ok(Name::Root) };
        };
        if parent.iter().filter(|byte| **byte == b'/').count() >= DEEPEST {
            return Err("it lies more than 512 directories deep");
        }
        let above = |prefix: &[u8]| parent.split(|byte| *byte == b'/').any(|part| part.starts_with(prefix));
        if above(AUFS) {
            return Ok(Name::Dropped);
        }
        if above(WHITEOUT) {
            return Err("a directory above has a name that is a whiteout");
        }
        let bytes = name.as_bytes();
        if bytes == OPAQUE {
            return Ok(Name::Opaque(parent));
        }
        if bytes.starts_with(AUFS) {
            return Ok(Name::Dropped);
        }
        match bytes.strip_prefix(WHITEOUT) {
            None => Ok(Name::Entry(parent, name)),
            Some(b"" | b"." | b"..") => Err("a whiteout of no name"),
            Some(hidden) => {
                let hidden = CString::new(hidden).map_err(|_| "its name has a NUL")?;
                Ok(Name::Whiteout(parent, hidden))
            }
        }
    }
}

/// Directory and last part of a path, without `.`, and `..` taken by the letter, nowhere above the root. `None` for the
/// root itself, and if there is a NUL.
pub(super) fn split(path: &[u8]) -> Option<(Vec<u8>, CString)> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let name = CString::new(parts.pop()?).ok()?;
    let parent = parts.join(&b'/');
    if parent.contains(&0) { None } else { Some((parent, name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(parent: &str, name: &str) -> Name {
        Name::Entry(parent.into(), CString::new(name).unwrap())
    }

    #[test]
    fn paths_stay_below_the_root() {
        for path in ["a/b", "/a/b", "./a/./b/", "../../a/b", "x/../a/b", "a/b/c/..", "/../a//b"] {
            assert_eq!(Name::of(path.as_bytes()), Ok(entry("a", "b")), "{path}");
        }
        for path in ["", "/", ".", "./", "..", "../..", "a/.."] {
            assert_eq!(Name::of(path.as_bytes()), Ok(Name::Root), "{path}");
        }
        assert!(Name::of(b"a\0b").is_err());
        assert!(Name::of(b"a\0/b").is_err());
    }

    #[test]
    fn marks() {
        let whiteout = |parent: &str, name: &str| Name::Whiteout(parent.into(), CString::new(name).unwrap());
        assert_eq!(Name::of(b"a/.wh.b"), Ok(whiteout("a", "b")));
        assert_eq!(Name::of(b"./.wh.b"), Ok(whiteout("", "b")));
        assert_eq!(Name::of(b".wh...a"), Ok(whiteout("", "..a")));
        assert_eq!(Name::of(b"a/.wh..wh..opq"), Ok(Name::Opaque("a".into())));
        for dropped in ["a/.wh..wh.plnk", ".wh..wh.orph/x", ".wh..wh.aufs", ".wh..wh..opq/x", ".wh..wh."] {
            assert_eq!(Name::of(dropped.as_bytes()), Ok(Name::Dropped), "{dropped}");
        }
        for wrong in [".wh.", "a/.wh.", "a/.wh..", "a/.wh...", ".wh.a/b"] {
            assert!(Name::of(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
