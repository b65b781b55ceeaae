//! A layer as a stream: one thread reads, hashes and decompresses, the caller hashes what comes out and uses it. Between
//! them are a few buffers, so that neither runs ahead and no layer is ever in memory as a whole.

use super::exchange::Exchange;
use super::source::BlobReader;
use super::tar::{self, truncated};
use super::{Digest, Error, Layer};
use crate::image::digest::Hasher;
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, BufReader, Read};

/// Bytes of one buffer.
const CHUNK: usize = 256 * 1024;
/// Bytes read from the blob at once.
const READ: usize = 128 * 1024;

/// Told how many more bytes there are; its error ends the stream.
pub(crate) type Meter<'a> = &'a (dyn Fn(u64) -> io::Result<()> + Sync);

/// Calls `consume` with the layer's uncompressed content. `read` is told of each piece of the blob, `unpacked` of each
/// piece of what comes out of it.
pub(crate) fn stream<T>(
    layer: &Layer,
    read: Meter<'_>,
    unpacked: Meter<'_>,
    consume: impl FnOnce(&mut Chunks<'_>) -> T,
) -> Result<T, Error> {
    let Some(blob) = &layer.blob else {
        let what = layer.digest.as_ref().unwrap_or(&layer.diff_id);
        let why = "is not in the image, which leaves it to be fetched from elsewhere".to_owned();
        return Err(Error::Content { what: format!("layer {what}"), why });
    };
    let exchange = Exchange::default();
    let source = Compressed { reader: blob.reader(), read, hasher: layer.digest.as_ref().map(Digest::hasher) };
    std::thread::scope(|scope| {
        let producer = || exchange.end(produce(source, layer, &exchange));
        let spawned = std::thread::Builder::new().name("layer".to_owned()).spawn_scoped(scope, producer);
        spawned.map_err(|error| Error::Io { what: "start a thread for", path: blob.path().to_owned(), error })?;
        let hasher = layer.diff_id.hasher();
        let mut chunks = Chunks { exchange: &exchange, chunk: Vec::new(), at: 0, unpacked, hasher, ended: false };
        Ok(consume(&mut chunks))
    })
}

/// The blob as it is read, with its digest.
struct Compressed<'a> {
    reader: BlobReader,
    read: Meter<'a>,
    /// Without one the diff id is the digest.
    hasher: Option<Hasher>,
}

impl Read for Compressed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..length]);
        }
        (self.read)(length as u64)?;
        Ok(length)
    }
}

/// Sends all chunks, as long as somebody wants them.
fn produce(mut source: Compressed<'_>, layer: &Layer, exchange: &Exchange) -> io::Result<()> {
    if layer.digest.as_ref() == Some(&layer.diff_id) {
        source.hasher = None;
    }
    let mut source = BufReader::with_capacity(READ, source);
    let magic = source.fill_buf()?;
    let mut source = match magic {
        [0x1f, 0x8b, ..] => Decoder::Gzip(Box::new(MultiGzDecoder::new(source))),
        // The second is a frame to be skipped, with which some writers begin.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            Decoder::Zstd(Box::new(Frames { source, decoder: FrameDecoder::new(), inside: false }))
        }
        _ => Decoder::Plain(Box::new(source)),
    };
    loop {
        let mut chunk = exchange.empty();
        chunk.resize(CHUNK, 0);
        let mut filled = 0;
        while filled < CHUNK {
            match source.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(source.explain(error, layer)),
            }
        }
        if filled == 0 {
            return source.verify(layer);
        }
        chunk.truncate(filled);
        if !exchange.send(chunk) {
            return Ok(());
        }
    }
}

enum Decoder<'a> {
    Plain(Box<BufReader<Compressed<'a>>>),
    Gzip(Box<MultiGzDecoder<BufReader<Compressed<'a>>>>),
    Zstd(Box<Frames<BufReader<Compressed<'a>>>>),
}

impl Read for Decoder<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Plain(source) => source.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl<'a> Decoder<'a> {
    fn source(&mut self) -> &mut BufReader<Compressed<'a>> {
        match self {
            Decoder::Plain(source) => source,
            Decoder::Gzip(decoder) => decoder.get_mut(),
            Decoder::Zstd(decoder) => &mut decoder.source,
        }
    }

    /// What is wrong with the blob: if its digest is, then that.
    fn explain(&mut self, error: io::Error, layer: &Layer) -> io::Error {
        if !matches!(
            error.kind(),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof
        ) {
            return error;
        }
        match self.verify(layer) {
            Err(digest) if digest.kind() == io::ErrorKind::InvalidData => digest,
            _ => tar::wrong(format!("its compressed data cannot be read: {error}")),
        }
    }

    /// Compares the digest of the blob, when all of it has been read.
    fn verify(&mut self, layer: &Layer) -> io::Result<()> {
        let source = self.source();
        io::copy(source, &mut io::sink())?;
        let (Some(hasher), Some(digest)) = (source.get_mut().hasher.take(), &layer.digest) else { return Ok(()) };
        match hasher.finish() {
            found if found == *digest => Ok(()),
            found => Err(tar::wrong(format!("blob {digest} has content with digest {found}"))),
        }
    }
}

/// Zstandard frames one after another, and such that are to be skipped between them.
struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    inside: bool,
}

impl<R: BufRead> Frames<R> {
    /// Begins the next frame with content; false at the end.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => {
                    self.inside = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? != length {
                        return Err(truncated());
                    }
                }
                Err(error) => return Err(tar::wrong(error.to_string())),
            }
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.inside && !self.begin()? {
                return Ok(0);
            }
            while self.decoder.can_collect() < buffer.len() && !self.decoder.is_finished() {
                let strategy = BlockDecodingStrategy::UptoBytes(buffer.len() - self.decoder.can_collect());
                self.decoder
                    .decode_blocks(&mut self.source, strategy)
                    .map_err(|error| tar::wrong(error.to_string()))?;
            }
            match self.decoder.read(buffer)? {
                0 if !buffer.is_empty() => self.inside = false,
                read => return Ok(read),
            }
        }
    }
}

/// The uncompressed content of a layer, hashed as it comes.
pub(crate) struct Chunks<'a> {
    exchange: &'a Exchange,
    chunk: Vec<u8>,
    at: usize,
    unpacked: Meter<'a>,
    hasher: Hasher,
    ended: bool,
}

impl Chunks<'_> {
    /// The digest of all that has been read.
    pub(crate) fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let length = there.len().min(buffer.len());
        buffer[..length].copy_from_slice(&there[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Chunks<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() && !self.ended {
            let used = std::mem::take(&mut self.chunk);
            self.at = 0;
            match self.exchange.receive(used) {
                Ok(Some(chunk)) => {
                    self.hasher.update(&chunk);
                    self.chunk = chunk;
                    (self.unpacked)(self.chunk.len() as u64)?;
                }
                Ok(None) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Err(error);
                }
            }
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, bytes: usize) {
        self.at = (self.at + bytes).min(self.chunk.len());
    }
}

impl Drop for Chunks<'_> {
    fn drop(&mut self) {
        self.exchange.leave();
    }
}

impl tar::Input for Chunks<'_> {}
