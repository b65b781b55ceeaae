//! The records of a PAX extended header that are about files.

use super::sparse::{self, Extent};
use super::{Time, wrong};
use std::collections::BTreeMap;
use std::io;

const XATTR: &[u8] = b"SCHILY.xattr.";
/// Extended attributes of one entry. A list of more is longer than the kernel gives, unless their names are very short.
const MAX_XATTRS: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) atime: Option<Time>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: Option<Map>,
}

/// What is said of a sparse file. Without extents they stand in front of its data.
#[derive(Debug, Default)]
pub(super) struct Map {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) extents: Option<Vec<Extent>>,
    /// The version is 1.0.
    in_data: bool,
    /// Offset that waits for its length, in version 0.0.
    offset: Option<u64>,
}

impl Records {
    pub(super) fn parse(mut text: &[u8]) -> io::Result<Records> {
        let mut records = Records::default();
        while !text.is_empty() {
            let (key, value, rest) = record(text).ok_or_else(|| wrong("an extended header is malformed"))?;
            // A value without content takes the key back, and a later one replaces it.
            if !value.is_empty() || key == b"GNU.sparse.map" {
                records.set(key, value)?;
            }
            text = rest;
        }
        if let Some(map) = &records.sparse
            && map.extents.is_none()
            && !map.in_data
        {
            return Err(wrong("a sparse file without a map"));
        }
        Ok(records)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let name = || match value.contains(&0) {
            true => Err(wrong("a name has a NUL")),
            false => Ok(value.to_vec()),
        };
        match key {
            b"path" => self.path = Some(name()?),
            b"linkpath" => self.link = Some(name()?),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"atime" => self.atime = Some(time(value)?),
            _ => {
                if let Some(attribute) = key.strip_prefix(XATTR) {
                    if attribute.is_empty() || attribute.contains(&0) {
                        return Err(wrong("an extended attribute without a proper name"));
                    }
                    self.xattrs.insert(attribute.to_vec(), value.to_vec());
                    if self.xattrs.len() > MAX_XATTRS {
                        return Err(wrong("an entry has too many extended attributes"));
                    }
                } else if let Some(word) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse(word, value)?;
                }
            }
        }
        Ok(())
    }

    fn sparse(&mut self, word: &[u8], value: &[u8]) -> io::Result<()> {
        let map = self.sparse.get_or_insert_with(Map::default);
        match word {
            b"name" if value.contains(&0) => return Err(wrong("a name has a NUL")),
            b"name" => map.name = Some(value.to_vec()),
            b"size" | b"realsize" => map.size = Some(decimal(value)?),
            b"major" => map.in_data = decimal(value)? == 1,
            b"minor" if decimal(value)? > 1 => return Err(wrong("a sparse file of a version that is not known")),
            b"map" => map.extents = Some(sparse::from_list(value)?),
            b"offset" => map.offset = Some(decimal(value)?),
            b"numbytes" => {
                let offset = map.offset.take().ok_or_else(|| wrong("the map of a sparse file lacks an offset"))?;
                let length = decimal(value)?;
                map.extents.get_or_insert_default().push(Extent { offset, length });
            }
            _ => {}
        }
        Ok(())
    }
}

/// `LENGTH KEY=VALUE\n`, and what follows.
fn record(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = text.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&text[..space]).ok()?).ok()?;
    if length > text.len() || length < space + 3 {
        return None;
    }
    let (record, rest) = text.split_at(length);
    let record = record[space + 1..].strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    (equals > 0).then_some((&record[..equals], &record[equals + 1..], rest))
}

pub(super) fn decimal(text: &[u8]) -> io::Result<u64> {
    let number = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.and_then(|text| text.parse().ok()).ok_or_else(|| wrong("a number in an extended header is none"))
}

/// Seconds with a fraction; before 1970 both are negative.
fn time(text: &[u8]) -> io::Result<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = match text.iter().position(|byte| *byte == b'.') {
        Some(dot) => (&text[..dot], &text[dot + 1..]),
        None => (text, &[][..]),
    };
    let seconds = i64::try_from(decimal(whole)?).map_err(|_| wrong("a time is out of range"))?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(wrong("a time is none"));
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |value: u32, digit| value * 10 + u32::from(digit - b'0'));
    Ok(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: -seconds, nanoseconds },
        (true, _) => Time { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
    })
}
