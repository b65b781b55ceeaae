//! The mounts that a process sees, proc_pid_mountinfo(5).

use crate::error::{Context, Result};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub id: u64,
    /// Of the file system: `MAJOR:MINOR`.
    pub device: String,
    /// What of the file system is mounted.
    pub root: Vec<u8>,
    /// Where, as the process sees it.
    pub point: Vec<u8>,
    pub kind: String,
    /// Of the file system, joined by commas.
    pub options: String,
}

impl Mounted {
    /// It shows what is in the same place of another mount.
    pub(crate) fn is_on_itself(&self, other: &Mounted) -> bool {
        self.device == other.device && is_on_itself((&self.point, &self.root), (&other.point, &other.root))
    }
}

/// The same of points with the roots of what is mounted there.
pub(crate) fn is_on_itself(one: (&[u8], &[u8]), other: (&[u8], &[u8])) -> bool {
    let below = |path: &[u8], of: &[u8]| path.strip_prefix(of.strip_suffix(b"/").unwrap_or(of)).map(<[u8]>::to_vec);
    matches!((below(one.0, other.0), below(one.1, other.1)), (Some(point), Some(root)) if point == root && point.first() == Some(&b'/'))
}

/// All that the process sees, in the order in which they were mounted.
pub(crate) fn of(process: &str) -> Result<Vec<Mounted>> {
    let path = format!("/proc/{process}/mountinfo");
    let text = std::fs::read(&path).context(|| format!("read {path}"))?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// How many optional fields there are is told by the one that ends them.
fn parse(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|byte| *byte == b' ');
    let word = |field: &[u8]| std::str::from_utf8(field).ok().map(str::to_owned);
    let id = word(fields.next()?)?.parse().ok()?;
    let device = word(fields.nth(1)?)?;
    let root = cgroup::unescape(fields.next()?);
    let point = cgroup::unescape(fields.next()?);
    fields.by_ref().find(|field| *field == b"-")?;
    let kind = word(fields.next()?)?;
    Some(Mounted { id, device, root, point, kind, options: word(fields.nth(1)?)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line() {
        let line = b"36 35 98:0 /a /mnt1\\040b rw,noatime master:1 shared:2 - ext3 /dev/root rw";
        let mounted = parse(line).unwrap();
        assert_eq!((mounted.id, mounted.device.as_str(), mounted.kind.as_str()), (36, "98:0", "ext3"));
        assert_eq!((mounted.root.as_slice(), mounted.point.as_slice()), (b"/a".as_slice(), b"/mnt1 b".as_slice()));
        assert_eq!(mounted.options, "rw");
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"x 35 98:0 / /a rw - ext3 a rw"), None);
        assert!(of("self").unwrap().iter().any(|mounted| mounted.point == b"/proc"));
    }

    #[test]
    fn mounts_on_themselves() {
        let is = |one: (&str, &str), other: (&str, &str)| {
            is_on_itself((one.0.as_bytes(), one.1.as_bytes()), (other.0.as_bytes(), other.1.as_bytes()))
        };
        assert!(is(("/etc/passwd", "/b/rootfs/etc/passwd"), ("/", "/b/rootfs")));
        assert!(is(("/proc/sys", "/sys"), ("/proc", "/")));
        assert!(!is(("/etc/passwd", "/etc/passwd"), ("/", "/b/rootfs")));
        assert!(!is(("/etc/passwd", "/b/rootfs/etc/shadow"), ("/", "/b/rootfs")));
        assert!(!is(("/procsys", "/sys"), ("/proc", "/")));
        assert!(!is(("/proc", "/"), ("/proc", "/")));
    }
}
