//! Rules about config.json that concern no single section: a list, so that a new one is a function and a line.

use crate::config::spec::Spec;
use crate::error::{Result, bad};

const CHECKS: &[fn(&Spec<'_>) -> Result<()>] = &[version, root, annotations, hostname, personality];

pub(crate) fn run(spec: &Spec<'_>) -> Result<()> {
    CHECKS.iter().try_for_each(|check| check(spec))
}

fn version(spec: &Spec<'_>) -> Result<()> {
    let version = spec.oci_version.as_deref().unwrap_or_default();
    match semantic(version) {
        Some([0 | 1, ..]) => Ok(()),
        Some(_) => Err(bad("ociVersion", format_args!("{version:?} is newer than 1.3, which proa follows"))),
        None => Err(bad("ociVersion", format_args!("{version:?} is no version such as \"1.3.0\""))),
    }
}

/// Major, minor and patch of a version by SemVer 2.0.0; none if it is not one.
fn semantic(version: &str) -> Option<[u32; 3]> {
    let (version, build) = version.split_once('+').map_or((version, None), |(version, build)| (version, Some(build)));
    let (core, pre) = version.split_once('-').map_or((version, None), |(core, pre)| (core, Some(pre)));
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let digits = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    // Without leading zeros.
    let number = |text: &str| digits(text) && (text == "0" || !text.starts_with('0'));
    let good = build.is_none_or(|build| build.split('.').all(word))
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!digits(part) || number(part))));
    let mut parts = core.split('.').map(|text| text.parse().ok().filter(|_| number(text)));
    match (good, parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        (true, Some(major), Some(minor), Some(patch), None) => Some([major, minor, patch]),
        _ => None,
    }
}

fn root(spec: &Spec<'_>) -> Result<()> {
    match &spec.root {
        None => Err(bad("root", "missing")),
        Some(root) if root.path.as_deref().unwrap_or_default().is_empty() => Err(bad("root.path", "missing or empty")),
        Some(_) => Ok(()),
    }
}

fn annotations(spec: &Spec<'_>) -> Result<()> {
    match spec.annotations.iter().any(|(key, _)| key.is_empty()) {
        true => Err(bad("annotations", "a key is empty")),
        false => Ok(()),
    }
}

fn hostname(spec: &Spec<'_>) -> Result<()> {
    let has_uts = spec
        .linux
        .as_ref()
        .is_some_and(|linux| linux.namespaces.iter().any(|namespace| namespace.kind.as_deref() == Some("uts")));
    for (property, value) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        let Some(value) = value.as_deref().filter(|value| !value.is_empty()) else { continue };
        // Whether that is the host's is seen later.
        if !has_uts {
            return Err(bad(property, format_args!("{value:?} needs a uts namespace")));
        }
        if value.len() > 64 {
            return Err(bad(property, format_args!("{value:?} is longer than 64 bytes")));
        }
    }
    Ok(())
}

fn personality(spec: &Spec<'_>) -> Result<()> {
    let Some(personality) = spec.linux.as_ref().and_then(|linux| linux.personality.as_ref()) else { return Ok(()) };
    match personality.flags.first() {
        Some(flag) => Err(bad("linux.personality.flags", format_args!("{:?}: no flag is defined", &**flag))),
        None => Ok(()),
    }
}
