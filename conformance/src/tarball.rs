//! Tars made by hand: every name, kind, time and record that a header can hold, right or wrong.
//!
//! Not here: what an image makes of a tar, see [`crate::layout`].

/// One entry: what is said of it, and its content.
#[derive(Debug, Clone)]
pub struct Entry {
    name: Vec<u8>,
    kind: u8,
    link: Vec<u8>,
    mode: u32,
    owner: (u64, u64),
    time: (i64, u32),
    device: (u32, u32),
    data: Vec<u8>,
    size: Option<u64>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
    gnu: bool,
}

/// Seconds since 1970 that entries have unless they say another time.
pub const TIME: i64 = 1_600_000_000;
const BLOCK: usize = 512;

impl Entry {
    /// An entry of any kind, by the letter of its header.
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        let (name, link, data, records) = (name.as_ref().to_vec(), Vec::new(), Vec::new(), Vec::new());
        let (owner, time, device) = ((0, 0), (TIME, 0), (0, 0));
        Self { name, kind, link, mode: 0o644, owner, time, device, data, size: None, records, gnu: false }
    }

    /// A file.
    pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        Self { data: data.as_ref().to_vec(), ..Self::new(b'0', name) }
    }

    /// A directory.
    pub fn dir(name: impl AsRef<[u8]>) -> Self {
        Self::new(b'5', [name.as_ref(), b"/"].concat()).mode(0o755)
    }

    /// A symbolic link.
    pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { link: target.as_ref().to_vec(), ..Self::new(b'2', name).mode(0o777) }
    }

    /// A further name of the file `target`.
    pub fn hard_link(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        Self { link: target.as_ref().to_vec(), ..Self::new(b'1', name) }
    }

    /// A FIFO.
    pub fn fifo(name: impl AsRef<[u8]>) -> Self {
        Self::new(b'6', name)
    }

    /// A character device.
    pub fn device(name: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(b'3', name) }
    }

    /// A block device.
    pub fn block_device(name: impl AsRef<[u8]>, major: u32, minor: u32) -> Self {
        Self { device: (major, minor), ..Self::new(b'4', name) }
    }

    /// What hides `dir/name` of the layers below.
    pub fn whiteout(dir: &str, name: &str) -> Self {
        Self::file(join(dir, &format!(".wh.{name}")), b"")
    }

    /// What hides all that the layers below have in a directory.
    pub fn opaque(dir: &str) -> Self {
        Self::file(join(dir, ".wh..wh..opq"), b"")
    }

    /// Permissions.
    #[must_use]
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// User and group.
    #[must_use]
    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Seconds since 1970, maybe before it, and nanoseconds beyond.
    #[must_use]
    pub fn time(mut self, seconds: i64, nanoseconds: u32) -> Self {
        self.time = (seconds, nanoseconds);
        self
    }

    /// A record of the extended header.
    #[must_use]
    pub fn record(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.records.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// An extended attribute.
    #[must_use]
    pub fn xattr(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.record(format!("SCHILY.xattr.{name}"), value)
    }

    /// A content, whatever the kind.
    #[must_use]
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().to_vec();
        self
    }

    /// What the header says of the size, whatever follows.
    #[must_use]
    pub fn size(mut self, size: u64) -> Self {
        self.size = Some(size);
        self
    }

    /// Says what is long as GNU tar does, not by an extended header.
    #[must_use]
    pub fn gnu(mut self) -> Self {
        self.gnu = true;
        self
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut records = self.records.clone();
        let (seconds, nanoseconds) = self.time;
        if self.gnu {
            for (kind, text) in [(b'L', &self.name), (b'K', &self.link)].into_iter().filter(|(_, it)| it.len() > 100) {
                block(out, &Self::new(kind, "././@LongLink"), text.len() as u64 + 1);
                content(out, &[text, &b"\0"[..]].concat());
            }
        } else {
            let mut also = |key: &str, value: &[u8]| records.push((key.into(), value.to_vec()));
            if self.name.len() > 100 {
                also("path", &self.name);
            }
            if self.link.len() > 100 {
                also("linkpath", &self.link);
            }
            if seconds < 0 || nanoseconds != 0 {
                also("mtime", decimal(seconds, nanoseconds).as_bytes());
            }
        }
        if !records.is_empty() {
            let text: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
            block(out, &Self::new(b'x', "PaxHeaders/x"), text.len() as u64);
            content(out, &text);
        }
        block(out, self, self.size.unwrap_or(self.data.len() as u64));
        content(out, &self.data);
    }
}

/// The entries as one tar, with its end.
pub fn tar<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Vec<u8> {
    let mut out = open_tar(entries);
    out.resize(out.len() + 2 * BLOCK, 0);
    out
}

/// The entries without the blocks that end a tar.
pub fn open_tar<'e>(entries: impl IntoIterator<Item = &'e Entry>) -> Vec<u8> {
    let mut out = Vec::new();
    entries.into_iter().for_each(|entry| entry.write(&mut out));
    out
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

/// A time of an extended header: the fraction counts away from zero.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
}

/// `LENGTH KEY=VALUE\n`, the length with its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length += 1;
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn content(out: &mut Vec<u8>, data: &[u8]) {
    out.extend(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

fn block(out: &mut Vec<u8>, entry: &Entry, size: u64) {
    let mut header = [0u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &entry.name[..entry.name.len().min(100)]);
    put(100, format!("{:07o}", entry.mode).as_bytes());
    put(108, &number(entry.owner.0 as i64, 8));
    put(116, &number(entry.owner.1 as i64, 8));
    put(124, &number(size as i64, 12));
    // What an octal number cannot say stands in the extended header.
    put(136, &number(if entry.gnu { entry.time.0 } else { entry.time.0.max(0) }, 12));
    put(148, b"        ");
    put(156, &[entry.kind]);
    put(157, &entry.link[..entry.link.len().min(100)]);
    put(257, if entry.gnu { b"ustar  \0" } else { b"ustar\x0000" });
    put(329, &number(i64::from(entry.device.0), 8));
    put(337, &number(i64::from(entry.device.1), 8));
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend(header);
}

/// Octal digits if they suffice, else GNU's binary form.
fn number(value: i64, width: usize) -> Vec<u8> {
    if value >= 0 && (value as u64) < 1 << (3 * (width - 1)) {
        return format!("{value:0digits$o}", digits = width - 1).into_bytes();
    }
    let mut bytes = vec![if value < 0 { 0xff } else { 0 }; width];
    bytes[width - 8..].copy_from_slice(&value.to_be_bytes());
    bytes[0] |= 0x80;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_reader_understands_it() {
        let long = "d/".repeat(80) + "file";
        let entries = [
            Entry::dir("a").mode(0o1777),
            Entry::file("a/b", "content").owner(5, 6).time(7, 0),
            Entry::file(&long, "x"),
            Entry::file(&long, "x").gnu(),
            Entry::symlink("s", "t"),
            Entry::device("n", 1, 3),
        ];
        let bytes = tar(&entries);
        let mut archive = tar::Archive::new(&bytes[..]);
        let found: Vec<_> = archive.entries().unwrap().map(Result::unwrap).collect();
        let names: Vec<String> = found.iter().map(|it| it.path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["a/", "a/b", &long, &long, "s", "n"]);
        assert_eq!((found[1].header().uid().unwrap(), found[1].header().mtime().unwrap()), (5, 7));
        assert_eq!(found[5].header().device_minor().unwrap(), Some(3));
    }

    #[test]
    fn times_and_records() {
        assert_eq!(decimal(-1, 500_000_000), "-0.500000000");
        assert_eq!(decimal(-5, 1), "-4.999999999");
        assert_eq!(decimal(3, 7), "3.000000007");
        assert_eq!(record(b"path", b"x"), b"9 path=x\n");
        assert_eq!(record(b"k", &[b'v'; 94]).len(), 101);
        assert_eq!(number(-1, 12), [0xff; 12]);
    }
}
