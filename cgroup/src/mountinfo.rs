//! Where cgroup file systems are mounted when not at the conventional places, from /proc/self/mountinfo.

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Context, Error};
use crate::files::read_all;

const FILE: &str = "/proc/self/mountinfo";

/// A mount of a cgroup file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupMount {
    /// The cgroup that is mounted, from the root of the hierarchy (or of the cgroup namespace).
    pub(crate) root: String,
    /// Where.
    pub(crate) point: String,
    /// The words of its super block's options; empty for cgroup v2.
    options: Vec<String>,
}

/// All mounts of cgroup file systems in this mount namespace.
pub(crate) fn cgroup_mounts() -> Result<Vec<CgroupMount>, Error> {
    let file = openat(CWD, FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context("open", FILE)?;
    let mut bytes = Vec::new();
    read_all(&file, &mut bytes).context("read", FILE)?;
    Ok(parse(&bytes))
}

/// The mount of one hierarchy, `cpu,cpuacct` or `name=x` or empty for v2, in which the cgroup `own` can be seen.
/// Another part of the hierarchy, as a container's bind mount shows it, is better than nothing.
pub(crate) fn find<'m>(mounts: &'m [CgroupMount], controllers: &str, own: &str) -> Option<&'m CgroupMount> {
    let of_hierarchy = |mount: &&CgroupMount| match controllers {
        "" => mount.options.is_empty(),
        words => words.split(',').all(|word| mount.options.iter().any(|option| option == word)),
    };
    let shows_own = |mount: &&CgroupMount| below(own, &mount.root).is_some();
    let mut mounts = mounts.iter().filter(of_hierarchy);
    let first = mounts.clone().next();
    mounts.find(shows_own).or(first)
}

/// `path` as seen from the cgroup `root`, if it is that or below it.
pub(crate) fn below<'p>(path: &'p str, root: &str) -> Option<&'p str> {
    match path.strip_prefix(root.trim_end_matches('/'))? {
        "" => Some("/"),
        rest if rest.starts_with('/') => Some(rest),
        _ => None,
    }
}

/// Lines that are not of a cgroup file system, or not UTF-8, are none of ours.
fn parse(bytes: &[u8]) -> Vec<CgroupMount> {
    bytes.split(|byte| *byte == b'\n').filter_map(|line| parse_line(std::str::from_utf8(line).ok()?)).collect()
}

/// `32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu`, see proc_pid_mountinfo(5).
fn parse_line(line: &str) -> Option<CgroupMount> {
    let (mount, super_block) = line.split_once(" - ")?;
    let mut super_block = super_block.split(' ');
    let options = match super_block.next()? {
        "cgroup" => super_block.nth(1)?.split(',').map(str::to_owned).collect(),
        "cgroup2" => Vec::new(),
        _ => return None,
    };
    let mut paths = mount.split(' ').skip(3).map(|field| String::from_utf8(unescape(field.as_bytes())));
    Some(CgroupMount { root: paths.next()?.ok()?, point: paths.next()?.ok()?, options })
}

/// Undoes the kernel's `\040` for white space and backslash in the files of /proc that list mounts.
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        match (first, tail) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
        40 31 0:35 /docker/x /var/a\\040b rw - cgroup cgroup rw,cpu,cpuacct\n\
        32 31 0:29 / /c/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
        37 31 0:37 / /c/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        38 31 0:38 / /c/unified rw shared:3 master:4 - cgroup2 cgroup2 rw,nsdelegate\n\
        \xff\xff\n";

    #[test]
    fn the_mount_that_shows_ones_own_cgroup_is_taken() {
        let mounts = parse(TEXT);
        let point = |controllers, own| find(&mounts, controllers, own).map(|mount| &*mount.point);
        assert_eq!(point("cpu,cpuacct", "/"), Some("/c/cpu"));
        assert_eq!(point("cpu,cpuacct", "/docker/x/y"), Some("/var/a b"));
        assert_eq!(point("cpu,cpuacct", "/docker/xy"), Some("/c/cpu"));
        assert_eq!(point("name=systemd", "/"), Some("/c/systemd"));
        assert_eq!(point("", "/q"), Some("/c/unified"));
        assert_eq!(point("memory", "/"), None);
        assert_eq!(find(&mounts[..1], "cpu,cpuacct", "/elsewhere").map(|mount| &*mount.root), Some("/docker/x"));
    }

    #[test]
    fn below_knows_whole_names_only() {
        assert_eq!(below("/a/b", "/"), Some("/a/b"));
        assert_eq!(below("/a/b", "/a"), Some("/b"));
        assert_eq!(below("/a", "/a"), Some("/"));
        assert_eq!(below("/ab", "/a"), None);
        assert_eq!(below("/", "/"), Some("/"));
    }
}
