//! `hooks`: checked and turned into what execve(2) takes.

use super::text;
use crate::config::spec::{self, Spec};
use crate::error::{Result, bad};
use crate::sys::StringArray;
use rootfs::plan::CText;
use serde::Serialize;

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hooks {
    pub prestart: Vec<Hook>,
    pub create_runtime: Vec<Hook>,
    pub create_container: Vec<Hook>,
    pub start_container: Vec<Hook>,
    pub poststart: Vec<Hook>,
    pub poststop: Vec<Hook>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Hook {
    pub path: CText,
    pub args: StringArray,
    /// None: what its stage gives a hook without an environment of its own.
    pub env: Option<StringArray>,
    /// Seconds.
    pub timeout: Option<i64>,
}

impl Hooks {
    pub(crate) fn new(spec: &Spec<'_>) -> Result<Hooks> {
        let Some(hooks) = &spec.hooks else { return Ok(Hooks::default()) };
        Ok(Hooks {
            prestart: hooks_of("hooks.prestart", &hooks.prestart)?,
            create_runtime: hooks_of("hooks.createRuntime", &hooks.create_runtime)?,
            create_container: hooks_of("hooks.createContainer", &hooks.create_container)?,
            start_container: hooks_of("hooks.startContainer", &hooks.start_container)?,
            poststart: hooks_of("hooks.poststart", &hooks.poststart)?,
            poststop: hooks_of("hooks.poststop", &hooks.poststop)?,
        })
    }
}

/// One list.
pub(crate) fn hooks_of(property: &str, list: &[spec::Hook<'_>]) -> Result<Vec<Hook>> {
    list.iter().enumerate().map(|(index, hook)| one(&format!("{property}[{index}]"), hook)).collect()
}

fn one(property: &str, hook: &spec::Hook<'_>) -> Result<Hook> {
    let path = hook.path.as_deref().unwrap_or_default();
    if !path.starts_with('/') {
        return Err(bad(format_args!("{property}.path"), format_args!("{path:?} is not absolute")));
    }
    if let Some(timeout) = hook.timeout
        && timeout <= 0
    {
        return Err(bad(format_args!("{property}.timeout"), format_args!("{timeout} is not above zero")));
    }
    let strings = |name: &str, list: &[spec::Str<'_>]| -> Result<Vec<CText>> {
        list.iter().enumerate().map(|(at, value)| text(format_args!("{property}.{name}[{at}]"), value)).collect()
    };
    let path = text(format_args!("{property}.path"), path)?;
    let mut args = strings("args", &hook.args)?;
    if args.is_empty() {
        args.push(path.clone());
    }
    let env = strings("env", &hook.env)?;
    let env = (!env.is_empty()).then(|| StringArray::new(env));
    Ok(Hook { path, args: StringArray::new(args), env, timeout: hook.timeout })
}
