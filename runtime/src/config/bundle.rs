//! A bundle's directory and the text of its config.json; errors name the line, the column and the property.

use super::spec::{Process, Resources, Spec};
use crate::error::{Context, Error, Result};
use rustix::fs::{FileType, OFlags};
use serde::Deserialize;
use std::io::Read;
use std::path::{Path, PathBuf};

/// A bundle on disk.
pub(crate) struct Bundle {
    /// Absolute, links resolved in the directory part only as the kernel does.
    pub path: PathBuf,
    pub text: String,
}

impl Bundle {
    /// Reads `config`, by default the bundle's config.json.
    pub(crate) fn read(bundle: &str, config: Option<&str>) -> Result<Bundle> {
        let path = std::path::absolute(if bundle.is_empty() { "." } else { bundle })
            .context(|| format!("--bundle {bundle:?}"))?;
        let file = config.map_or_else(|| path.join("config.json"), PathBuf::from);
        let text = read_regular(&file).map_err(|error| explain(&path, &file, &error))?;
        let text = String::from_utf8(text).map_err(|error| Error::Document {
            file: file.display().to_string(),
            problem: format!("not UTF-8: {error}"),
        })?;
        Ok(Bundle { path, text })
    }
}

/// Larger than any that an engine writes.
const MAX_CONFIG: u64 = 64 << 20;

/// A pipe or a device would be waited for, or read for ever.
fn read_regular(file: &Path) -> std::io::Result<Vec<u8>> {
    let open = rustix::fs::open(
        file,
        OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let stat = rustix::fs::fstat(&open)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(std::io::Error::other("is no regular file"));
    }
    let size = stat.st_size as u64;
    let mut text = Vec::with_capacity(size.min(MAX_CONFIG) as usize + 1);
    let mut file = std::fs::File::from(open);
    // All at once; what has grown meanwhile, or has no size, takes more.
    let read = rustix::io::retry_on_intr(|| rustix::io::read(&file, rustix::buffer::spare_capacity(&mut text)))?;
    if read as u64 != size || size == 0 {
        file.by_ref().take(MAX_CONFIG + 1).read_to_end(&mut text)?;
    }
    match text.len() as u64 > MAX_CONFIG {
        true => Err(std::io::Error::other("is larger than 64 MiB")),
        false => Ok(text),
    }
}

fn explain(bundle: &Path, file: &Path, error: &std::io::Error) -> Error {
    let problem = match error.kind() {
        std::io::ErrorKind::NotFound if !bundle.is_dir() => {
            format!("the bundle {} is no directory", bundle.display())
        }
        std::io::ErrorKind::NotFound => "JSON specification file config.json not found".to_owned(),
        _ => error.to_string(),
    };
    Error::Document { file: file.display().to_string(), problem }
}

/// Parses config.json.
pub(crate) fn parse_spec(text: &str) -> Result<Spec<'_>> {
    serde_json::from_str(text).map_err(|_| locate::<Spec<'_>>("config.json", text))
}

/// Parses the process of `exec --process`.
pub(crate) fn parse_process<'a>(file: &str, text: &'a str) -> Result<Process<'a>> {
    serde_json::from_str(text).map_err(|_| locate::<Process<'_>>(file, text))
}

/// Parses linux.resources as `update --resources` takes it.
pub(crate) fn parse_resources<'a>(file: &str, text: &'a str) -> Result<Resources<'a>> {
    serde_json::from_str(text).map_err(|_| locate::<Resources<'_>>(file, text))
}

/// Parses again, slowly, to say where in the document the error is.
fn locate<'a, T: Deserialize<'a>>(file: &str, text: &'a str) -> Error {
    let mut json = serde_json::Deserializer::from_str(text);
    let problem = match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(error) => match place(error.path()) {
            place if place.is_empty() => error.inner().to_string(),
            place => format!("{place}: {}", error.inner()),
        },
        // The value is fine, so what follows it is not.
        Ok(_) => json.end().err().map_or_else(String::new, |error| error.to_string()),
    };
    Error::Document { file: file.to_owned(), problem }
}

/// The property that an error is about, or the one around it where a name is expected.
fn place(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    match path.iter().next_back() {
        None => String::new(),
        Some(Segment::Unknown) => path.to_string().trim_end_matches(['?', '.']).to_owned(),
        Some(_) => path.to_string(),
    }
}

/// The properties that no field here stands for, as paths. They are ignored (config.md, Extensibility), which is how a
/// misspelt one goes unnoticed.
pub(crate) fn unknown_properties(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut json = serde_json::Deserializer::from_str(text);
    let parsed: std::result::Result<Spec<'_>, _> =
        serde_ignored::deserialize(&mut json, |path| paths.push(property(&path)));
    if parsed.is_err() {
        paths.clear();
    }
    paths
}

/// `mounts[3].options`, without the steps that are only types.
fn property(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path as P;
    match path {
        P::Root => String::new(),
        P::Seq { parent, index } => format!("{}[{index}]", property(parent)),
        P::Map { parent, key } => {
            let parent = property(parent);
            if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") }
        }
        P::Some { parent } | P::NewtypeStruct { parent } | P::NewtypeVariant { parent } => property(parent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_a_place() {
        let message = parse_spec("{\n  \"mounts\": [{}, {\"destination\": 7}]}").unwrap_err().to_string();
        assert!(message.contains("mounts[1].destination") && message.contains("line 2 column 34"), "{message}");
        let message = parse_spec("{\"ociVersion\": \"1.0.0\",}").unwrap_err().to_string();
        assert!(message.contains("line 1 column 24"), "{message}");
        let message = parse_spec("{} x").unwrap_err().to_string();
        assert!(message.contains("trailing characters"), "{message}");
    }

    #[test]
    fn names_that_stand_twice_are_errors() {
        assert!(parse_spec(r#"{"hostname":"a","hostname":"b"}"#).is_err());
        assert!(parse_spec(r#"{"annotations":{"a":"1","a":"2"}}"#).is_err());
    }

    #[test]
    fn null_is_absent() {
        let spec =
            parse_spec(r#"{"mounts":null,"process":{"args":null,"user":null},"linux":{"sysctl":null}}"#).unwrap();
        assert!(spec.mounts.is_empty() && spec.process.unwrap().user.is_none());
    }

    #[test]
    fn unknown_properties_are_listed() {
        let text = r#"{"hostName":"x","linux":{"namespaces":[{"type":"pid","pth":1}]},"annotations":{"a":"b"}}"#;
        assert_eq!(unknown_properties(text), ["hostName", "linux.namespaces[0].pth"]);
    }
}
