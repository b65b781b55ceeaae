//! Maps of sparse files, in the three forms that GNU tar has written.

use super::header::{Block, natural};
use super::{MAX_EXTENSION, pax, wrong};
use std::io;

/// Where a piece of the data belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// Pieces have to follow one another inside the file and to be all of the data, or a later step would be led astray.
pub(super) fn check(extents: &[Extent], size: u64, data: u64) -> io::Result<()> {
    let (mut end, mut sum) = (0, 0u64);
    for extent in extents {
        let next = extent.offset.checked_add(extent.length).filter(|next| *next <= size && extent.offset >= end);
        end = next.ok_or_else(|| wrong("the map of a sparse file makes no sense"))?;
        sum += extent.length;
    }
    if sum == data && size <= i64::MAX as u64 { Ok(()) } else { Err(wrong("a sparse file's map and data differ")) }
}

/// Pairs of numbers of twelve bytes; an empty one ends them.
pub(super) fn from_table(table: &[u8], extents: &mut Vec<Extent>) -> io::Result<()> {
    for pair in table.chunks_exact(24) {
        if pair[0] == 0 {
            break;
        }
        extents.push(Extent { offset: natural(&pair[..12])?, length: natural(&pair[12..])? });
    }
    Ok(())
}

/// A block of them; true if another follows.
pub(super) fn from_block(block: &Block, extents: &mut Vec<Extent>) -> io::Result<bool> {
    from_table(&block.0[..504], extents)?;
    Ok(block.0[504] != 0)
}

/// `offset,length,offset,length`.
pub(super) fn from_list(text: &[u8]) -> io::Result<Vec<Extent>> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = text.split(|byte| *byte == b',').map(pax::decimal).collect::<io::Result<Vec<u64>>>()?;
    if numbers.len() % 2 != 0 {
        return Err(wrong("the map of a sparse file lacks a number"));
    }
    Ok(numbers.chunks_exact(2).map(|pair| Extent { offset: pair[0], length: pair[1] }).collect())
}

/// The form in front of the data: how many pieces, then offset and length of each, every number on a line.
#[derive(Default)]
pub(super) struct Lines {
    numbers: Vec<u64>,
    partial: Vec<u8>,
}

impl Lines {
    pub(super) fn feed(&mut self, block: &[u8]) -> io::Result<()> {
        for byte in block {
            if self.is_complete()? {
                // What fills the block up.
                return Ok(());
            }
            match byte {
                b'\n' => {
                    self.numbers.push(pax::decimal(&self.partial)?);
                    self.partial.clear();
                }
                _ if self.partial.len() < 20 => self.partial.push(*byte),
                _ => return Err(wrong("the map of a sparse file is malformed")),
            }
        }
        Ok(())
    }

    pub(super) fn is_complete(&self) -> io::Result<bool> {
        match self.numbers.first() {
            Some(pieces) if *pieces > MAX_EXTENSION => Err(wrong("a sparse file has too many pieces")),
            Some(pieces) => Ok(self.numbers.len() as u64 > 2 * pieces),
            None => Ok(false),
        }
    }

    pub(super) fn extents(self) -> io::Result<Vec<Extent>> {
        Ok(self.numbers[1..].chunks_exact(2).map(|pair| Extent { offset: pair[0], length: pair[1] }).collect())
    }
}
