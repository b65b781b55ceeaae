//! Networks of a container that is run by hand: CNI plugins, run by hooks of config.json, without a daemon.
//!
//! [`attach`] checks what a user asks for and says what of config.json has to be different. The hooks it writes call
//! proa again (`hook.rs`) and work below any runtime. Not here: networks themselves, which the plugins make.

mod attach;
mod cache;
mod chain;
mod conf;
mod dns;
mod hook;
mod namespace;
mod plugin;
mod ports;

pub(crate) use attach::attach_in;
#[allow(unused_imports)]
pub(crate) use attach::{Attachment, attach};
pub(crate) use cache::Networks;
pub(crate) use conf::{List, all};
pub(crate) use hook::{add, del, prune};

use crate::error::{Error, Result, bad};
use std::path::{Path, PathBuf};

/// Where networks are described, where their plugins are, and where it is kept what containers are attached to.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub config: PathBuf,
    /// Directories with a colon between them.
    pub plugins: String,
    pub cache: PathBuf,
}

impl Places {
    /// From flags, else from the environment variables that CNI's own tools read, else the usual ones.
    ///
    /// All become absolute: a hook runs in the directory of its bundle.
    pub(crate) fn new(config: Option<&str>, plugins: Option<&str>, cache: Option<&str>) -> Result<Places> {
        let of = |given: Option<&str>, variable: &str, default: &str| {
            let environment = || std::env::var(variable).ok().filter(|value| !value.is_empty());
            given.map(str::to_owned).or_else(environment).unwrap_or_else(|| default.to_owned())
        };
        let absolute =
            |path: &str| std::path::absolute(path).map_err(|error| bad(format_args!("directory {path:?}"), error));
        let plugins = of(plugins, "CNI_PATH", "/opt/cni/bin:/usr/lib/cni:/usr/libexec/cni");
        let plugins =
            plugins.split(':').filter(|dir| !dir.is_empty()).map(|dir| absolute(dir).and_then(|dir| text(&dir)));
        Ok(Places {
            config: absolute(&of(config, "NETCONFPATH", "/etc/cni/net.d"))?,
            plugins: plugins.collect::<Result<Vec<_>>>()?.join(":"),
            cache: absolute(cache.unwrap_or("/var/lib/proa/networks"))?,
        })
    }
}

/// A path for config.json and for plugins, which take UTF-8 alone.
fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| Error::Usage(format!("the path {path:?} is not UTF-8")))
}

/// Whether CNI allows this for the name of a network or the id of a container.
fn is_word(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests;
