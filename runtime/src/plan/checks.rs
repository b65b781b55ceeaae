//! Rules about config.json that concern no single section: a list, so that a new one is a function and a line.

use crate::config::spec::Spec;
use crate::error::{Result, bad};

const CHECKS: &[fn(&Spec<'_>) -> Result<()>] = &[version, root, annotations, hostname, personality];

pub(crate) fn run(spec: &Spec<'_>) -> Result<()> {
    CHECKS.iter().try_for_each(|check| check(spec))
}

fn version(spec: &Spec<'_>) -> Result<()> {
    let version = spec.oci_version.as_deref().unwrap_or_default();
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<_> = core.split('.').map(str::parse::<u32>).collect();
    match numbers.as_slice() {
        [Ok(0 | 1), Ok(_), Ok(_)] => Ok(()),
        [Ok(_), Ok(_), Ok(_)] => {
            Err(bad("ociVersion", format_args!("{version:?} is newer than 1.3, which proa follows")))
        }
        _ => Err(bad("ociVersion", format_args!("{version:?} is no version such as \"1.3.0\""))),
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
