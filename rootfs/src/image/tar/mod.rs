//! Reads tar archives as they stream by: ustar, PAX and GNU, sparse files too. Says what stands there; what to do with
//! it, and whether it is allowed, is for others.
//!
//! Whatever the archive says, no more than [`MAX_EXTENSION`] of it is ever in memory.

mod header;
mod pax;
mod sparse;
#[cfg(test)]
mod tests;

pub(crate) use header::{BLOCK, Kind};
pub(crate) use sparse::Extent;

use header::Block;
use pax::Records;
use std::io::{self, BufRead};

/// The largest PAX header, long name or map of a sparse file that is read.
pub(crate) const MAX_EXTENSION: u64 = 1 << 20;
/// Headers that may stand before the one of an entry: one of each kind about the entry, and some about all that follow.
const MAX_EXTENSIONS: u64 = 16;

/// A stream that can leave out bytes.
pub(crate) trait Input: BufRead {
    /// Leaves out exactly this many; an error at the end of the stream.
    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let there = self.fill_buf()?.len();
            if there == 0 {
                return Err(truncated());
            }
            let step = bytes.min(there as u64);
            self.consume(step as usize);
            bytes -= step;
        }
        Ok(())
    }

    /// How many bytes have been read so far, for who wants to come back.
    fn position(&self) -> u64 {
        0
    }
}

impl Input for &[u8] {}

impl<I: Input> Input for &mut I {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        (**self).skip(bytes)
    }

    fn position(&self) -> u64 {
        (**self).position()
    }
}

/// Seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// One entry as the archive has it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
    /// Target of a symbolic link, other name of a hard link.
    pub(crate) link: Vec<u8>,
    /// Permissions with set-id and sticky bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) atime: Option<Time>,
    /// Of a file; holes included.
    pub(crate) size: u64,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data of a sparse file belongs, in their order; without it they are the file.
    pub(crate) extents: Option<Vec<Extent>>,
    /// Headers that stood before its own.
    pub(crate) extensions: u64,
}

/// Reads entries one after another, each with its data.
pub(crate) struct Reader<R> {
    input: R,
    /// Bytes of data of the present entry that nobody has taken yet.
    left: u64,
    /// Bytes behind them, to the next header.
    padding: u64,
}

impl<R: Input> Reader<R> {
    pub(crate) fn new(input: R) -> Reader<R> {
        Reader { input, left: 0, padding: 0 }
    }

    pub(crate) fn input(&mut self) -> &mut R {
        &mut self.input
    }

    /// The next entry; `None` at the end of the archive. Data of the one before that nobody took is left out.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let (mut records, mut long_path, mut long_link) = (None, None, None);
        for extensions in 0..=MAX_EXTENSIONS {
            self.finish()?;
            let Some(block) = self.header()? else {
                let lonely = records.is_some() || long_path.is_some() || long_link.is_some();
                return if lonely { Err(truncated()) } else { Ok(None) };
            };
            match block.type_flag() {
                b'x' => once(&mut records, Records::parse(&self.extension(&block)?)?)?,
                // Says nothing about files.
                b'g' => drop(self.extension(&block)?),
                b'L' => once(&mut long_path, text(self.extension(&block)?))?,
                b'K' => once(&mut long_link, text(self.extension(&block)?))?,
                _ => {
                    let entry = self.entry(&block, records.unwrap_or_default(), long_path, long_link)?;
                    return Ok(Some(Entry { extensions, ..entry }));
                }
            }
        }
        Err(wrong("too many extended headers follow each other"))
    }

    /// The next piece of the entry's data, however large it comes; empty at its end.
    pub(crate) fn data(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Ok(&[]);
        }
        let there = self.input.fill_buf()?.len();
        if there == 0 {
            return Err(truncated());
        }
        let length = self.left.min(there as u64) as usize;
        Ok(&self.input.fill_buf()?[..length])
    }

    /// So many bytes of what [`Reader::data`] gave have been used.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.input.consume(bytes);
        self.left = self.left.saturating_sub(bytes as u64);
    }

    /// Bytes of data that are left of the entry.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// After the last entry: reads on to the end of the stream, where only zeros may be.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            if bytes.iter().any(|byte| *byte != 0) {
                return Err(wrong("something follows the end of the archive"));
            }
            let length = bytes.len();
            self.input.consume(length);
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        if rest == 0 { Ok(()) } else { self.input.skip(rest) }
    }

    /// The next header; `None` at the mark of the end, or where the stream ends in place of a header.
    fn header(&mut self) -> io::Result<Option<Block>> {
        let Some(block) = self.block()? else { return Ok(None) };
        if block.is_zero() {
            return match self.block()? {
                Some(second) if !second.is_zero() => Err(wrong("a header is empty")),
                _ => Ok(None),
            };
        }
        block.check()?;
        Ok(Some(block))
    }

    fn block(&mut self) -> io::Result<Option<Block>> {
        let mut bytes = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            let there = self.input.fill_buf()?;
            if there.is_empty() {
                return if filled == 0 { Ok(None) } else { Err(truncated()) };
            }
            let step = there.len().min(BLOCK - filled);
            bytes[filled..filled + step].copy_from_slice(&there[..step]);
            self.input.consume(step);
            filled += step;
        }
        Ok(Some(Block(bytes)))
    }

    /// The content of a header that is about the next.
    fn extension(&mut self, block: &Block) -> io::Result<Vec<u8>> {
        let size = block.size()?;
        if size > MAX_EXTENSION {
            return Err(wrong("an extended header or a long name is larger than 1 MiB"));
        }
        self.begin(size);
        let mut content = Vec::with_capacity(size as usize);
        while self.left > 0 {
            let piece = self.data()?;
            let length = piece.len();
            content.extend_from_slice(piece);
            self.consume(length);
        }
        self.finish()?;
        Ok(content)
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn entry(
        &mut self,
        block: &Block,
        records: Records,
        long_path: Option<Vec<u8>>,
        long_link: Option<Vec<u8>>,
    ) -> io::Result<Entry> {
        let path = records.path.or(long_path).unwrap_or_else(|| block.path());
        let link = records.link.or(long_link).unwrap_or_else(|| block.link());
        let kind = block.kind(&path)?;
        let id = |id: u64| u32::try_from(id).map_err(|_| wrong("an owner is no 32-bit number"));
        let mut entry = Entry {
            kind,
            path,
            link,
            mode: block.mode()? & 0o7777,
            uid: id(records.uid.map_or_else(|| block.uid(), Ok)?)?,
            gid: id(records.gid.map_or_else(|| block.gid(), Ok)?)?,
            mtime: records.mtime.map_or_else(|| block.mtime(), Ok)?,
            atime: records.atime,
            size: 0,
            device: if matches!(kind, Kind::Character | Kind::Block) { block.device()? } else { (0, 0) },
            xattrs: records.xattrs.into_iter().collect(),
            extents: None,
            extensions: 0,
        };
        if kind != Kind::File {
            // As others read it: what has no content has none, whatever its header says.
            self.begin(0);
            return Ok(entry);
        }
        let size = records.size.map_or_else(|| block.size(), Ok)?;
        if size > i64::MAX as u64 {
            return Err(wrong("a size is out of range"));
        }
        entry.size = size;
        if block.is_gnu_sparse() {
            let (mut extents, more) = block.extents()?;
            if more {
                self.more_extents(&mut extents)?;
            }
            entry.size = block.real_size()?;
            entry.extents = Some(extents);
            self.begin(size);
        } else if let Some(map) = records.sparse {
            self.begin(size);
            entry.size = map.size.ok_or_else(|| wrong("a sparse file without a size"))?;
            if let Some(name) = map.name {
                entry.path = name;
            }
            entry.extents = Some(match map.extents {
                Some(extents) => extents,
                None => self.map_in_data()?,
            });
        } else {
            self.begin(size);
        }
        if let Some(extents) = &entry.extents {
            sparse::check(extents, entry.size, self.left)?;
        }
        Ok(entry)
    }

    /// The blocks that follow the header of an old GNU sparse file.
    fn more_extents(&mut self, extents: &mut Vec<Extent>) -> io::Result<()> {
        loop {
            let block = self.block()?.ok_or_else(truncated)?;
            if !sparse::from_block(&block, extents)? {
                return Ok(());
            }
            if extents.len() as u64 > MAX_EXTENSION / 24 {
                return Err(wrong("a sparse file has too many pieces"));
            }
        }
    }

    /// The map that stands in front of the data: numbers, one a line, filled up to a block.
    fn map_in_data(&mut self) -> io::Result<Vec<Extent>> {
        let mut numbers = sparse::Lines::default();
        let mut read = 0;
        while !numbers.is_complete()? {
            if self.left < BLOCK as u64 || read > MAX_EXTENSION {
                return Err(wrong("the map of a sparse file is too long"));
            }
            let block = self.block()?.ok_or_else(truncated)?;
            self.left -= BLOCK as u64;
            read += BLOCK as u64;
            numbers.feed(&block.0)?;
        }
        numbers.extents()
    }
}

/// Keeps what is said of an entry, which may be said once.
fn once<T>(said: &mut Option<T>, value: T) -> io::Result<()> {
    match said.replace(value) {
        None => Ok(()),
        Some(_) => Err(wrong("an entry has two extended headers or long names")),
    }
}

/// The content of a long name: up to the first NUL.
fn text(mut content: Vec<u8>) -> Vec<u8> {
    if let Some(end) = content.iter().position(|byte| *byte == 0) {
        content.truncate(end);
    }
    content
}

pub(crate) fn wrong(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

pub(crate) fn truncated() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "it is truncated")
}
