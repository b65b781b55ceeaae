//! A root made of layers, by annotations: config.json has no property for it. Another runtime finds no `root.path` and
//! refuses the bundle.

use super::{clean, host::is_in_user_namespace, text};
use crate::config::spec::Spec;
use crate::error::{Result, bad};
use rootfs::plan::{CText, Layers, Parameter, Writable};
use rustix::fs::FileType;
use std::path::Path;

/// Absolute paths of the layers' directories with colons between them, the topmost first.
pub(crate) const LAYERS: &str = "io.github.proa.root.layers";
/// A directory, relative to the bundle, that has `upper` for what is written and `work` for overlayfs.
pub(crate) const WRITABLE: &str = "io.github.proa.root.writable";
/// Words of overlayfs with commas between them.
pub(crate) const OPTIONS: &str = "io.github.proa.root.overlay-options";

/// The words that may be used: none names a directory, and none changes whose files are seen.
const WORDS: [&str; 11] = [
    "volatile",
    "metacopy=on",
    "metacopy=off",
    "redirect_dir=on",
    "redirect_dir=off",
    "redirect_dir=follow",
    "redirect_dir=nofollow",
    "index=on",
    "index=off",
    "xino=auto",
    "xino=off",
];
/// As many as overlayfs takes (OVL_MAX_STACK).
pub(crate) const MOST_LAYERS: usize = 500;

/// The layers; None where `root.path` is the root.
pub(super) fn of(spec: &Spec<'_>, bundle: &Path) -> Result<Option<Layers>> {
    let Some(list) = spec.annotation(LAYERS) else {
        return match [WRITABLE, OPTIONS].into_iter().find(|key| spec.annotation(key).is_some()) {
            Some(key) => Err(bad(property(key), format_args!("without annotations[{LAYERS:?}]"))),
            None => Ok(None),
        };
    };
    let lower = list.split(':').map(|path| absolute(LAYERS, path)).collect::<Result<Vec<_>>>()?;
    if lower.len() > MOST_LAYERS {
        return Err(bad(property(LAYERS), format_args!("{} layers, overlayfs takes {MOST_LAYERS}", lower.len())));
    }
    let writable = spec.annotation(WRITABLE).map(|path| writable(bundle, path)).transpose()?;
    if writable.is_none() && spec.root.as_ref().is_none_or(|root| root.readonly != Some(true)) {
        let problem = format_args!("has to be true without annotations[{WRITABLE:?}]");
        return Err(bad("root.readonly", problem));
    }
    let mut options = Vec::new();
    for word in spec.annotation(OPTIONS).into_iter().flat_map(|words| words.split(',')) {
        if !WORDS.contains(&word) {
            return Err(bad(property(OPTIONS), format_args!("{word:?} is none of {}", WORDS.join(", "))));
        }
        options.push(parameter(word)?);
    }
    if !rustix::process::geteuid().is_root() || is_in_user_namespace() {
        // Nobody there can read the marks of root.
        options.push(parameter("userxattr")?);
    }
    Ok(Some(Layers { lower, writable, options }))
}

fn property(annotation: &str) -> String {
    format!("annotations[{annotation:?}]")
}

fn absolute(annotation: &str, path: &str) -> Result<CText> {
    if !path.starts_with('/') || clean(path) != path || path == "/" {
        return Err(bad(property(annotation), format_args!("{path:?} is no absolute path without . and ..")));
    }
    directory(annotation, path)
}

/// It has to be there.
fn directory(annotation: &str, path: &str) -> Result<CText> {
    let found = rustix::fs::stat(path).map(|stat| FileType::from_raw_mode(stat.st_mode));
    match found {
        Ok(FileType::Directory) => text(property(annotation), path),
        Ok(_) => Err(bad(property(annotation), format_args!("{path:?} is no directory"))),
        Err(errno) => Err(bad(property(annotation), format_args!("{path:?}: {}", crate::error::text(errno)))),
    }
}

fn writable(bundle: &Path, path: &str) -> Result<Writable> {
    if path.is_empty() {
        return Err(bad(property(WRITABLE), "is empty"));
    }
    let Some(bundle) = bundle.to_str() else { return Err(bad("--bundle", "is no UTF-8")) };
    let whole = clean(if path.starts_with('/') { path.to_owned() } else { format!("{bundle}/{path}") }.as_str());
    let below = |name: &str| directory(WRITABLE, &format!("{whole}/{name}"));
    Ok(Writable { upper: below("upper")?, work: below("work")? })
}

fn parameter(word: &str) -> Result<Parameter> {
    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
    let value = value.map(|value| text(property(OPTIONS), value)).transpose()?;
    Ok(Parameter { name: text(property(OPTIONS), name)?, value })
}
