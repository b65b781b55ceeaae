//! `proa spec`: a config.json to start from.

use super::App;
use crate::error::{Context, Error, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use std::path::Path;

pub(crate) const ROOT: &str = include_str!("spec.json");
pub(crate) const ROOTLESS: &str = include_str!("spec-rootless.json");

pub(super) fn command(app: &App<'_>) -> Result<()> {
    let path = Path::new(app.value("bundle").unwrap_or(".")).join("config.json");
    let text = if app.flag("rootless") {
        let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        ROOTLESS.replace("@UID@", &ids.0.to_string()).replace("@GID@", &ids.1.to_string())
    } else {
        ROOT.to_owned()
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let what = || format!("write {}", path.display());
    let file = match openat(CWD, &path, flags, Mode::from_raw_mode(0o666)) {
        Err(Errno::EXIST) => {
            return Err(Error::Usage(format!("File {} exists. Remove it first", path.display())));
        }
        opened => opened.context(what)?,
    };
    rustix::io::write(&file, text.as_bytes()).context(what)?;
    Ok(())
}
