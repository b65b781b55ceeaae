//! Landlock (landlock(7)) for the container's processes, by an annotation: the specification has no property for it.
//!
//! ```json
//! "io.github.proa.landlock":
//!   "{\"rules\": [{\"paths\": [\"/usr\", \"/etc\"], \"allow\": [\"read\", \"execute\"]},
//!                 {\"paths\": [\"/tmp\"], \"allow\": [\"read\", \"write\"]}]}"
//! ```
//! What no rule allows is denied. `handled` lists the rights that are meant by that, all unless it is given;
//! `bestEffort` leaves those out that the kernel does not know.

use super::{Host, text};
use crate::error::{Result, bad};
use rootfs::plan::CText;
use serde::{Deserialize, Serialize};

pub(crate) const ANNOTATION: &str = "io.github.proa.landlock";

/// Rights by their names in linux/landlock.h without the prefix LANDLOCK_ACCESS_FS_, in the order of their bits, with the
/// version of Landlock that brought them.
const RIGHTS: [(&str, u32); 16] = [
    ("execute", 1),
    ("write_file", 1),
    ("read_file", 1),
    ("read_dir", 1),
    ("remove_dir", 1),
    ("remove_file", 1),
    ("make_char", 1),
    ("make_dir", 1),
    ("make_reg", 1),
    ("make_sock", 1),
    ("make_fifo", 1),
    ("make_block", 1),
    ("make_sym", 1),
    ("refer", 2),
    ("truncate", 3),
    ("ioctl_dev", 5),
];
const EXECUTE: u64 = 1;
const READ: u64 = 0b1100;
const ALL: u64 = (1 << RIGHTS.len()) - 1;

/// What the process restricts itself to.
#[derive(Debug, Serialize)]
pub(crate) struct Landlock {
    /// LANDLOCK_ACCESS_FS_* that are denied but where a rule allows them.
    pub handled: u64,
    pub rules: Vec<Rule>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Rule {
    /// In the container; links count.
    pub path: CText,
    /// LANDLOCK_ACCESS_FS_*.
    pub access: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    handled: Option<Vec<String>>,
    rules: Vec<DocumentRule>,
    #[serde(default)]
    best_effort: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentRule {
    paths: Vec<String>,
    allow: Vec<String>,
}

/// Reads the annotation's value.
pub(super) fn plan(value: &str, no_new_privileges: bool, host: &Host) -> Result<Landlock> {
    let property = format!("annotations[{ANNOTATION:?}]");
    let document: Document = serde_json::from_str(value).map_err(|error| bad(&property, error))?;
    if !no_new_privileges {
        return Err(bad(property, "needs process.noNewPrivileges"));
    }
    let version =
        host.landlock_version().ok_or_else(|| bad(&property, "this kernel has no Landlock, or not turned on"))?;
    let known =
        RIGHTS.iter().enumerate().filter(|(_, (_, since))| *since <= version).fold(0, |set, (at, _)| set | 1 << at);
    let asked = document.handled.as_ref().map_or(Ok(known), |names| rights(&property, names))?;
    let missing = asked & !known;
    if missing != 0 && !document.best_effort {
        let (name, since) = RIGHTS[missing.trailing_zeros() as usize];
        let problem = format_args!("{name:?} needs version {since} of Landlock, and this kernel has {version}");
        return Err(bad(property, problem));
    }
    let handled = asked & known;
    if handled == 0 {
        return Err(bad(property, "handled has no right in it"));
    }
    let mut rules = Vec::new();
    for rule in &document.rules {
        let access = rights(&property, &rule.allow)? & handled;
        for path in &rule.paths {
            if !path.starts_with('/') {
                return Err(bad(property, format_args!("path {path:?} is not absolute")));
            }
            // What grants nothing is no rule to the kernel.
            if access != 0 {
                rules.push(Rule { path: text(&property, path)?, access });
            }
        }
    }
    Ok(Landlock { handled, rules })
}

fn rights(property: &str, names: &[String]) -> Result<u64> {
    names.iter().try_fold(0, |set, name| match name.as_str() {
        "read" => Ok(set | READ),
        "write" => Ok(set | (ALL & !READ & !EXECUTE)),
        name => match RIGHTS.iter().position(|(known, _)| *known == name) {
            Some(at) => Ok(set | 1 << at),
            None => Err(bad(property, format_args!("{name:?} is no right"))),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_names() {
        let set = |names: &[&str]| {
            rights("x", &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        assert_eq!(set(&["execute", "read"]), Ok(0b1101));
        assert_eq!(set(&["read", "write", "execute"]), Ok(ALL));
        assert_eq!(set(&["ioctl_dev"]), Ok(1 << 15));
        assert_eq!(set(&["fly"]), Err("x: \"fly\" is no right".to_owned()));
    }
}
