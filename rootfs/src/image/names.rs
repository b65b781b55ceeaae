//! What images are called: the names that a layout or an archive gives them, and those that the store keeps.

use super::Digest;
use std::path::Path;

/// As long as a name may be.
const MAX_NAME: usize = 255;
/// What is not said of an image in the name of its file.
const EXTENSIONS: [&str; 5] = [".tar", ".oci", ".gz", ".zst", ".tgz"];

/// A name without what Docker leaves out of it.
pub(crate) fn familiar(name: &str) -> &str {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    name.strip_prefix("library/").unwrap_or(name)
}

/// The tag of a name.
pub(super) fn tag(name: &str) -> Option<&str> {
    name.rsplit_once(':').map(|(_, tag)| tag).filter(|tag| !tag.contains('/'))
}

pub(super) fn is_digest(reference: &str) -> bool {
    Digest::parse(reference).is_ok()
}

/// Whether an image may be called so. Others are as if they were not there: an image could take the place of another by
/// what looks like its digest or the digits of one, and a terminal shows something else for what is no plain text.
pub(super) fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:/+".contains(&byte);
    let short = familiar(name);
    !short.is_empty()
        && name.len() <= MAX_NAME
        && name.bytes().all(plain)
        && !["sha256:", "sha512:"].iter().any(|algorithm| short.strip_prefix(algorithm).is_some_and(is_hex))
        // A tag may have such digits alone, as it never is the whole name in the store.
        && (is_tag(name) || !is_hex(short))
}

/// The name in the store, where a tag alone would be everybody's: it is put behind what the file at `path` is called.
pub(super) fn stored(path: &Path, name: &str) -> Option<String> {
    if !is_tag(name) {
        return Some(name.to_owned());
    }
    let name = format!("{}:{name}", repository(path)?);
    is_name(&name).then_some(name)
}

/// Not a name, which has a repository.
fn is_tag(name: &str) -> bool {
    !name.contains([':', '/'])
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What a repository may be called, from the name of a layout or an archive.
fn repository(path: &Path) -> Option<String> {
    let last = path.file_name().map(ToOwned::to_owned);
    // `.` has a name too.
    let last = last.or_else(|| std::fs::canonicalize(path).ok()?.file_name().map(ToOwned::to_owned))?;
    let name = last.to_str()?.to_ascii_lowercase();
    let mut name = name.as_str();
    while let Some(shorter) = EXTENSIONS.iter().find_map(|extension| name.strip_suffix(extension)) {
        name = shorter;
    }
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = ends(name.bytes().next()) && ends(name.bytes().last()) && name.bytes().all(inner);
    fits.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name() {
        let digest = Digest::of(b"").to_string();
        for name in ["latest", "1", "3.20", "busybox:1", "example.org:5000/a/b:c", "docker.io/library/x", "x:cafe"] {
            assert!(is_name(name), "{name}");
        }
        for name in [
            "",
            &digest,
            &digest[..14],
            "docker.io/library/sha256:12ab",
            "library/cafe",
            "x@sha256:12ab",
            "a b:c",
            "a\nb:c",
            "x:\x1b[2J",
            "x:\u{202e}c",
            &"n".repeat(256),
        ] {
            assert!(!is_name(name), "{name:?}");
        }
    }

    #[test]
    fn a_tag_gets_the_name_of_the_file() {
        let of = |path: &str, name: &str| stored(Path::new(path), name);
        for (path, name) in [
            ("busybox", "busybox:1"),
            ("./Web/", "web:1"),
            ("/srv/a.b_c-d.oci.tar", "a.b_c-d:1"),
            ("x.tar.gz", "x:1"),
            ("/srv/../srv/x", "x:1"),
        ] {
            assert_eq!(of(path, "1").as_deref(), Some(name), "{path}");
        }
        for path in ["a b", "ü", "-x", ".tar", "sha256", "/"] {
            assert_eq!(of(path, "1"), None, "{path}");
        }
        assert_eq!(of("x", "y:1").as_deref(), Some("y:1"));
        assert_eq!(of("x", "example.org/y").as_deref(), Some("example.org/y"));
        assert_ne!(of(".", "1"), None);
    }
}
