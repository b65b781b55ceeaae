//! Where the files of an image are: in a directory, or as members of a tar archive that is read where it lies. An
//! archive is walked once, from header to header; nothing is copied out of it.

use super::tar::{BLOCK, Input, Kind, Reader, truncated};
use super::{Digest, Error};
use crate::sys::FdPath;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The largest document, such as a manifest, in bytes.
const MAX_DOCUMENT: u64 = 4 << 20;
/// More members than any archive of images has, those that come twice and extended headers among them.
const MAX_MEMBERS: u64 = 100_000;
/// Links from member to member.
const MAX_LINKS: usize = 8;

/// The files of an image, by their names in a layout.
pub(super) struct Source {
    path: PathBuf,
    files: Files,
}

enum Files {
    Directory,
    Archive { file: Arc<File>, members: HashMap<String, Member> },
}

enum Member {
    File { offset: u64, size: u64 },
    Link(String),
}

/// A piece of a file that can be read by several at once.
#[derive(Clone, Debug)]
pub(super) struct Blob {
    file: Arc<File>,
    offset: u64,
    pub(super) size: u64,
    path: PathBuf,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Source, Error> {
        let io = |what| move |error| Error::Io { what, path: path.to_owned(), error };
        let path_buf = path.to_owned();
        let (fd, stat) = look(path).map_err(io("open"))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return Ok(Source { path: path_buf, files: Files::Directory }),
            FileType::RegularFile => {}
            _ => return Err(Error::NoImage { path: path_buf, why: "is neither a directory nor a file".to_owned() }),
        }
        let file = read(&fd).map_err(io("open"))?;
        let mut magic = [0; 6];
        let length = file.read_at(&mut magic, 0).map_err(io("read"))?;
        if let Some(program) = compression(&magic[..length]) {
            let why = format!("the archive is compressed, uncompress it with {program} first");
            return Err(Error::NoImage { path: path_buf, why });
        }
        let members = members(&file).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
                Error::NoImage { path: path.to_owned(), why: format!("cannot be read as a tar archive: {error}") }
            }
            _ => io("read")(error),
        })?;
        Ok(Source { path: path_buf, files: Files::Archive { file: Arc::new(file), members } })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_archive(&self) -> bool {
        matches!(self.files, Files::Archive { .. })
    }

    /// The file of this name; `None` if it is not there.
    pub(super) fn find(&self, name: &str) -> Result<Option<Blob>, Error> {
        let (file, members) = match &self.files {
            Files::Directory => return self.in_directory(name),
            Files::Archive { file, members } => (file, members),
        };
        let mut name = normal(name.as_bytes());
        for _ in 0..MAX_LINKS {
            match name.as_ref().and_then(|name| members.get(name)) {
                None => return Ok(None),
                Some(Member::File { offset, size }) => {
                    let path = self.path.join(name.unwrap_or_default());
                    return Ok(Some(Blob { file: file.clone(), offset: *offset, size: *size, path }));
                }
                Some(Member::Link(target)) => name = Some(target.clone()),
            }
        }
        Ok(None)
    }

    fn in_directory(&self, name: &str) -> Result<Option<Blob>, Error> {
        let path = self.path.join(name);
        let failed = |what, error: io::Error| Error::Io { what, path: path.clone(), error };
        let (fd, stat) = match look(&path) {
            Ok(found) => found,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(failed("open", error)),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(failed("open", io::Error::other("it is no regular file")));
        }
        let file = read(&fd).map_err(|error| failed("open", error))?;
        Ok(Some(Blob { file: Arc::new(file), offset: 0, size: stat.st_size.unsigned_abs(), path }))
    }

    /// A small file as a whole.
    pub(super) fn document(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        self.find(name)?.map(|blob| blob.document(name)).transpose()
    }

    /// The file of a digest.
    pub(super) fn blob(&self, digest: &Digest) -> Result<Option<Blob>, Error> {
        self.find(&format!("blobs/{}/{}", digest.algorithm(), digest.hex()))
    }

    /// A document by its digest and size, both verified.
    pub(super) fn verified(&self, what: &str, digest: &Digest, size: u64) -> Result<Vec<u8>, Error> {
        let wrong = |why: String| Error::Content { what: format!("{what} {digest}"), why };
        let blob = self.blob(digest)?.ok_or_else(|| wrong("is not in the image".to_owned()))?;
        if blob.size != size {
            return Err(wrong(format!("has {} bytes in place of {size}", blob.size)));
        }
        let content = blob.document(what)?;
        let mut hasher = digest.hasher();
        hasher.update(&content);
        match hasher.finish() {
            found if found == *digest => Ok(content),
            found => Err(wrong(format!("its content has digest {found}"))),
        }
    }
}

/// What is at a path, not opened yet: that alone has a device do something, and may wait.
fn look(path: &Path) -> io::Result<(OwnedFd, Stat)> {
    let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&fd)?;
    Ok((fd, stat))
}

/// Opens the very file that was looked at.
fn read(fd: &OwnedFd) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(FdPath::new(fd.as_fd()).as_c_str(), flags, Mode::empty())?))
}

impl Blob {
    pub(super) fn reader(&self) -> BlobReader {
        BlobReader { blob: self.clone(), at: 0 }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, Error> {
        if self.size > MAX_DOCUMENT {
            let why = format!("has {} bytes, more than {MAX_DOCUMENT}", self.size);
            return Err(Error::Content { what: name.to_owned(), why });
        }
        let mut content = Vec::with_capacity(self.size as usize);
        self.reader().read_to_end(&mut content).map_err(|error| Error::Io {
            what: "read",
            path: self.path.clone(),
            error,
        })?;
        Ok(content)
    }
}

/// Reads a blob from its beginning.
pub(crate) struct BlobReader {
    blob: Blob,
    at: u64,
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.blob.size - self.at;
        let length = left.min(buffer.len() as u64) as usize;
        if length == 0 {
            return Ok(0);
        }
        let read = self.blob.file.read_at(&mut buffer[..length], self.blob.offset + self.at)?;
        if read == 0 {
            return Err(truncated());
        }
        self.at += read as u64;
        Ok(read)
    }
}

/// What packed it, by its first bytes.
fn compression(magic: &[u8]) -> Option<&'static str> {
    match magic {
        [0x1f, 0x8b, ..] => Some("gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        [0xfd, b'7', b'z', b'X', b'Z', 0] => Some("xz"),
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        _ => None,
    }
}

/// Reads headers, and seeks over what is between them.
struct Headers<'f> {
    file: &'f File,
    size: u64,
    /// Where the block in the buffer begins.
    at: u64,
    buffer: [u8; BLOCK],
    filled: usize,
    used: usize,
}

impl Read for Headers<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let length = there.len().min(to.len());
        to[..length].copy_from_slice(&there[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Headers<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used == self.filled {
            self.at += self.filled as u64;
            self.filled = self.file.read_at(&mut self.buffer, self.at)?;
            self.used = 0;
        }
        Ok(&self.buffer[self.used..self.filled])
    }

    fn consume(&mut self, bytes: usize) {
        self.used = (self.used + bytes).min(self.filled);
    }
}

impl Input for Headers<'_> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let target = self.position().checked_add(bytes).filter(|target| *target <= self.size).ok_or_else(truncated)?;
        (self.at, self.filled, self.used) = (target, 0, 0);
        Ok(())
    }

    fn position(&self) -> u64 {
        self.at + self.used as u64
    }
}

/// All members of the archive by name; of several with one name the last.
fn members(file: &File) -> io::Result<HashMap<String, Member>> {
    let size = file.metadata()?.len();
    let mut reader = Reader::new(Headers { file, size, at: 0, buffer: [0; BLOCK], filled: 0, used: 0 });
    let (mut members, mut count) = (HashMap::new(), 0);
    while let Some(entry) = reader.next()? {
        count += 1 + entry.extensions;
        if count > MAX_MEMBERS {
            return Err(super::tar::wrong("it has too many members for an archive of images"));
        }
        let Some(name) = normal(&entry.path) else { continue };
        let member = match entry.kind {
            Kind::File if entry.extents.is_none() => {
                Member::File { offset: reader.input().position(), size: entry.size }
            }
            Kind::Symlink => {
                let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
                match normal(&[parent.as_bytes(), b"/", &entry.link[..]].concat()) {
                    Some(target) => Member::Link(target),
                    None => continue,
                }
            }
            Kind::HardLink => match normal(&entry.link) {
                Some(target) => Member::Link(target),
                None => continue,
            },
            _ => continue,
        };
        members.insert(name, member);
    }
    Ok(members)
}

/// A name without `.` and `..`; `None` if it leads out of the archive or is no text.
fn normal(name: &[u8]) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in std::str::from_utf8(name).ok()?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}
