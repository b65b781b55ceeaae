//! What proc_pid_status(5) says of a thread.

use crate::error::{Context, Error, Result};

/// The lines that are looked at; ids are those of the host's first user namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ThreadStatus {
    /// Real, effective, saved, of the file system.
    pub uids: Vec<u32>,
    pub gids: Vec<u32>,
    pub groups: Vec<u32>,
    pub inheritable: u64,
    pub permitted: u64,
    pub effective: u64,
    pub bounding: u64,
    pub ambient: u64,
    pub no_new_privileges: bool,
}

impl ThreadStatus {
    pub(super) fn read(process: i32, thread: i32) -> Result<ThreadStatus> {
        let path = format!("/proc/{process}/task/{thread}/status");
        let text = std::fs::read_to_string(&path).context(|| format!("read {path}"))?;
        parse(&text).ok_or_else(|| Error::Usage(format!("{path} is not understood")))
    }
}

fn parse(text: &str) -> Option<ThreadStatus> {
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let numbers = |name: &str| value(name)?.split_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>();
    let mask = |name: &str| u64::from_str_radix(value(name)?, 16).ok();
    Some(ThreadStatus {
        uids: numbers("Uid")?,
        gids: numbers("Gid")?,
        groups: numbers("Groups")?,
        inheritable: mask("CapInh")?,
        permitted: mask("CapPrm")?,
        effective: mask("CapEff")?,
        bounding: mask("CapBnd")?,
        ambient: mask("CapAmb")?,
        no_new_privileges: value("NoNewPrivs")? == "1",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_thread_can_be_read() {
        let own = std::process::id() as i32;
        let status = ThreadStatus::read(own, own).unwrap();
        assert_eq!((status.uids.len(), status.gids.len()), (4, 4));
    }

    #[test]
    fn a_missing_line_is_no_permission() {
        assert_eq!(parse("Uid:\t0\t0\t0\t0\n"), None);
    }
}
