//! What a process has in memory.

use std::fmt;
use std::fs;

/// Sizes in KiB, from /proc/PID/smaps_rollup (proc(5)).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) rss: u64,
    /// Shared pages are counted in part: what one more process costs.
    pub(crate) pss: u64,
    pub(crate) private_dirty: u64,
}

impl Memory {
    #[track_caller]
    pub(crate) fn of(pid: i32) -> Self {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
        let size = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
        };
        Self { rss: size("Rss"), pss: size("Pss"), private_dirty: size("Private_Dirty") }
    }

    /// The mean of several.
    pub(crate) fn mean(all: &[Self]) -> Self {
        let mean = |size: fn(&Self) -> u64| all.iter().map(size).sum::<u64>() / all.len().max(1) as u64;
        Self { rss: mean(|m| m.rss), pss: mean(|m| m.pss), private_dirty: mean(|m| m.private_dirty) }
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RSS {}, PSS {}, private dirty {} KiB", self.rss, self.pss, self.private_dirty)
    }
}
