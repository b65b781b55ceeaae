//! Why an image cannot be read.

use super::Platform;
use std::io;
use std::path::{Path, PathBuf};

/// Why an image cannot be read. One sentence each, for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the image, or the archive, cannot be read.
    #[error("{what} {}: {error}", path.display())]
    Io {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// The path leads to no image.
    #[error("{}: {why}", path.display())]
    NoImage {
        /// The path.
        path: PathBuf,
        /// What it is instead, or lacks.
        why: String,
    },
    /// A document is not what it has to be.
    #[error("image: {what}: {why}")]
    Document {
        /// Which one, such as index.json or a digest.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// Several images, and none was chosen.
    #[error("{}: has several images, name one: {}", path.display(), list(names))]
    Ambiguous {
        /// The path.
        path: PathBuf,
        /// The names there are.
        names: Vec<String>,
    },
    /// The name is not there.
    #[error("{}: has no image {name:?}{}", path.display(), those(names))]
    NoSuchName {
        /// The path.
        path: PathBuf,
        /// What was asked for.
        name: String,
        /// The names there are.
        names: Vec<String>,
    },
    /// The image is not for this machine.
    #[error("{}: has no image for {platform}{}", path.display(), those(there))]
    NoPlatform {
        /// The path.
        path: PathBuf,
        /// The platform wanted.
        platform: Platform,
        /// The platforms there are.
        there: Vec<String>,
    },
    /// Content that is not what its digest or size says.
    #[error("image: {what}: {why}")]
    Content {
        /// The digest of the blob, or its name in an archive.
        what: String,
        /// How it differs.
        why: String,
    },
    /// Not a digest that can be verified.
    #[error("image: {0:?} is not a digest with sha256 or sha512")]
    Digest(String),
}

impl Error {
    /// The same with the path of the image, where it says only which part of it is wrong.
    pub(super) fn about(self, path: &Path) -> Error {
        let with = |what: String| format!("{}: {what}", path.display());
        match self {
            Error::Document { what, why } => Error::Document { what: with(what), why },
            Error::Content { what, why } => Error::Content { what: with(what), why },
            other => other,
        }
    }
}

fn those(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!(", but {}", list(names)) }
}

/// Each name once, and not more than a person reads.
fn list(names: &[String]) -> String {
    const MOST: usize = 12;
    let mut names: Vec<&String> = names.iter().collect();
    names.sort();
    names.dedup();
    let shown: Vec<String> = names
        .iter()
        .take(MOST)
        .map(|name| name.chars().take(256).collect::<String>().escape_debug().to_string())
        .collect();
    match names.len().saturating_sub(MOST) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
