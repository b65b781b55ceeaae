//! The header block and its fields.

use super::sparse::{self, Extent};
use super::{Time, wrong};
use std::io;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 512;

/// What an entry makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

/// A header.
pub(super) struct Block(pub(super) [u8; BLOCK]);

#[derive(PartialEq)]
enum Format {
    Old,
    Ustar,
    Gnu,
}

impl Block {
    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// The sum of all bytes, those of the sum taken as spaces. Some old programs took bytes as signed.
    pub(super) fn check(&self) -> io::Result<()> {
        let spaces = 8 * i64::from(b' ');
        let others = || self.0[..148].iter().chain(&self.0[156..]);
        let unsigned: i64 = spaces + others().map(|byte| i64::from(*byte)).sum::<i64>();
        let signed: i64 = spaces + others().map(|byte| i64::from(*byte as i8)).sum::<i64>();
        let said = number(&self.0[148..156]).unwrap_or(-1);
        if said == unsigned || said == signed {
            Ok(())
        } else {
            Err(wrong("a header's checksum is wrong: no tar archive?"))
        }
    }

    fn format(&self) -> Format {
        match &self.0[257..265] {
            b"ustar  \0" => Format::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] => Format::Ustar,
            _ => Format::Old,
        }
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub(super) fn is_gnu_sparse(&self) -> bool {
        self.type_flag() == b'S'
    }

    pub(super) fn kind(&self, path: &[u8]) -> io::Result<Kind> {
        Ok(match self.type_flag() {
            // Before ustar directories were told by their name.
            b'0' | 0 if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'S' if self.format() == Format::Gnu => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => return Err(wrong(format!("entries of type {:?} are not supported", char::from(other)))),
        })
    }

    pub(super) fn path(&self) -> Vec<u8> {
        let name = field(&self.0[..100]);
        // GNU has other things where ustar has a prefix.
        let prefix = if self.format() == Format::Ustar { field(&self.0[345..500]) } else { &[] };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> Vec<u8> {
        field(&self.0[157..257]).to_vec()
    }

    pub(super) fn mode(&self) -> io::Result<u32> {
        number(&self.0[100..108]).map(|mode| mode as u32)
    }

    pub(super) fn uid(&self) -> io::Result<u64> {
        natural(&self.0[108..116])
    }

    pub(super) fn gid(&self) -> io::Result<u64> {
        natural(&self.0[116..124])
    }

    pub(super) fn size(&self) -> io::Result<u64> {
        natural(&self.0[124..136])
    }

    pub(super) fn mtime(&self) -> io::Result<Time> {
        number(&self.0[136..148]).map(|seconds| Time { seconds, nanoseconds: 0 })
    }

    pub(super) fn device(&self) -> io::Result<(u32, u32)> {
        if self.format() == Format::Old {
            return Ok((0, 0));
        }
        // What Linux has: it would take a larger number for another one, such as that of a whiteout.
        let part = |at: usize, most: u32| {
            let number = u32::try_from(number(&self.0[at..at + 8])?).ok().filter(|number| *number <= most);
            number.ok_or_else(|| wrong("a device number is out of range"))
        };
        Ok((part(329, 0xfff)?, part(337, 0xf_ffff)?))
    }

    /// Of an old GNU sparse file: the first pieces, and whether more blocks of them follow.
    pub(super) fn extents(&self) -> io::Result<(Vec<Extent>, bool)> {
        let mut extents = Vec::new();
        sparse::from_table(&self.0[386..482], &mut extents)?;
        Ok((extents, self.0[482] != 0))
    }

    pub(super) fn real_size(&self) -> io::Result<u64> {
        natural(&self.0[483..495])
    }
}

fn field(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

pub(super) fn natural(field: &[u8]) -> io::Result<u64> {
    u64::try_from(number(field)?).map_err(|_| wrong("a number is negative"))
}

/// Octal digits among spaces and NULs, nothing at all for zero, or binary where the first bit is set.
pub(super) fn number(field: &[u8]) -> io::Result<i64> {
    let out = || wrong("a number is out of range");
    if let Some(first @ 0x80..) = field.first().copied() {
        // Two's complement without the first bit; the second is the sign.
        let start: i64 = if first & 0x40 == 0 { i64::from(first & 0x3f) } else { i64::from(first as i8) };
        return field[1..].iter().try_fold(start, |value, byte| {
            value.checked_mul(256).and_then(|value| value.checked_add(i64::from(*byte))).ok_or_else(out)
        });
    }
    let text = field.trim_ascii_start();
    let mut value: i64 = 0;
    for byte in text {
        match byte {
            b'0'..=b'7' => {
                value = value.checked_mul(8).and_then(|v| v.checked_add(i64::from(byte - b'0'))).ok_or_else(out)?;
            }
            0 | b' ' => break,
            _ => return Err(wrong("a number is none")),
        }
    }
    Ok(value)
}
