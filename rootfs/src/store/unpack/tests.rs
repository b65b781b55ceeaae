//! Layers that cost more than they are long.

use super::super::budget::Budget;
use super::super::{Limits, Silent};
use super::*;
use std::fs;
use std::io::{BufRead, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use tar::{Builder, EntryType, Header};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("rootfs-unpack-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn time(&self, name: &str) -> i64 {
        fs::metadata(self.0.join(name)).unwrap().mtime()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A name that ends in a slash is a directory's; the number is its time.
fn layer(entries: &[(String, u64)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, time) in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(if name.ends_with('/') { EntryType::Directory } else { EntryType::Regular });
        header.set_mode(0o755);
        header.set_size(0);
        header.set_mtime(*time);
        header.set_uid(u64::from(rustix::process::geteuid().as_raw()));
        header.set_gid(u64::from(rustix::process::getegid().as_raw()));
        builder.append_data(&mut header, name, &[][..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpack_to(scratch: &Scratch, form: Form, input: impl Input, bytes: u64) -> Result<Facts> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&scratch.0, flags, Mode::empty()).unwrap();
    let budget = Budget::new(Limits { bytes, ..Limits::default() });
    unpack(root, form, &mut Reader::new(input), &Warnings::new(&Silent, true), &Share::of(&budget))
}

#[test]
fn more_directories_than_are_remembered_have_their_times() {
    let long = "n".repeat(60);
    let path = |number: u64| format!("d{number}{long}/");
    let directories = || (0..100).map(|number| (path(number), 1000 + number));
    let files = |name: &'static str| (0..100).map(move |number| (path(number) + name, 5));
    let scratch = Scratch::new("times");
    let entries: Vec<_> = directories().chain(files("a")).chain(files("b")).collect();
    let layer_of_all = layer(&entries);
    // Not only at the end.
    let look = || assert_eq!(scratch.time(&path(0)), 1000);
    let input = Meddling { rest: &layer_of_all, at: layer(&[]).len() + 200 * 512, act: Some(look) };
    unpack_to(&scratch, Form::Alone(Xattrs::User), input, u64::MAX).unwrap();
    for number in 0..100 {
        assert_eq!(scratch.time(&path(number)), 1000 + number as i64, "{number}");
    }
    // Of a layer that is applied, directories of the layers below keep theirs.
    let entries: Vec<_> = files("c").chain(files("d")).chain(files(".wh.a")).collect();
    unpack_to(&scratch, Form::Applied, &layer(&entries)[..], u64::MAX).unwrap();
    for number in 0..100 {
        assert_eq!(scratch.time(&path(number)), 1000 + number as i64, "{number}");
    }
}

#[test]
fn headers_that_make_nothing_count_as_entries() {
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_ustar();
    header.set_size(0);
    builder.append_pax_extensions([("comment", &b"x"[..])]).unwrap();
    builder.append_data(&mut header, "file", &[][..]).unwrap();
    let layer = builder.into_inner().unwrap();
    let of = |entries| {
        let (scratch, limits) = (Scratch::new("headers"), Limits { entries, ..Limits::default() });
        let root = rustix::fs::open(&scratch.0, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let (warnings, share) = (Warnings::new(&Silent, true), Share::of(&Budget::new(limits)));
        unpack(root, Form::Applied, &mut Reader::new(&layer[..]), &warnings, &share)
    };
    assert!(matches!(of(1), Err(Stop::Failed(why)) if why.contains("more than 1 entries")));
    of(2).unwrap();
}

#[test]
fn more_marks_than_can_be_noted_down_take_the_layers_below() {
    let marks = |count: usize| {
        let directory = |number| format!("{number}{}/", "n".repeat(80));
        let both = |number| [(directory(number), 0), (directory(number) + ".wh.x", 0)];
        let scratch = Scratch::new("marks");
        let entries: Vec<_> = (0..count).flat_map(both).collect();
        unpack_to(&scratch, Form::Alone(Xattrs::User), &layer(&entries)[..], u64::MAX)
            .map(|facts| facts.whiteouts.len())
    };
    assert!(matches!(marks(30), Ok(30)));
    assert!(matches!(marks(100), Err(Stop::Depends)));
}

#[test]
fn directories_cost_a_block_each() {
    let refused = |name: &str, form: Form, entries: &[(String, u64)], limit: u64| {
        let failed = |limit| {
            let scratch = Scratch::new(name);
            unpack_to(&scratch, form, &layer(entries)[..], limit).map(|facts| facts.size)
        };
        let Err(Stop::Failed(why)) = failed(limit - 1) else { panic!("{name} is not refused") };
        assert!(why.contains("which is the limit"), "{why}");
        assert_eq!(failed(limit).unwrap(), limit, "{name}");
    };
    let said: Vec<_> = (0..20).map(|number| (format!("{number}/"), 0)).collect();
    refused("said", Form::Alone(Xattrs::User), &said, 20 * 4096);
    refused("implied", Form::Applied, &[("d/".repeat(50) + "file", 0)], 50 * 4096);
}

#[test]
fn directories_behind_a_link_to_nothing_cost_too() {
    let scratch = Scratch::new("link");
    std::os::unix::fs::symlink("d/".repeat(30), scratch.0.join("link")).unwrap();
    let facts = unpack_to(&scratch, Form::Applied, &layer(&[("link/file".into(), 0)])[..], u64::MAX).unwrap();
    assert_eq!(facts.size, 30 * 4096);
}

/// Does something once so many bytes are left.
struct Meddling<'a, F> {
    rest: &'a [u8],
    at: usize,
    act: Option<F>,
}

impl<F: FnOnce()> Read for Meddling<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl<F: FnOnce()> BufRead for Meddling<'_, F> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.rest.len() <= self.at
            && let Some(act) = self.act.take()
        {
            act();
        }
        Ok(&self.rest[..self.rest.len().min(512)])
    }

    fn consume(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }
}

impl<F: FnOnce()> Input for Meddling<'_, F> {}

#[test]
fn a_directory_is_searched_once_for_what_its_marks_hide() {
    let scratch = Scratch::new("opaque");
    fs::create_dir_all(scratch.0.join("d/e")).unwrap();
    fs::write(scratch.0.join("d/e/below"), "").unwrap();
    let entries = ["d/e/own", "d/e/.wh..wh..opq", "d/.wh..wh..opq", "d/e/.wh..wh..opq", ".wh.d"];
    let layer = layer(&entries.map(|name| (name.to_owned(), 0)));
    let planted = scratch.0.join("d/e/planted");
    // When the second mark is read: whoever looks at the directory again would find it.
    let input = Meddling { rest: &layer, at: layer.len() - 1024, act: Some(|| fs::write(&planted, "").unwrap()) };
    unpack_to(&scratch, Form::Applied, input, u64::MAX).unwrap();
    assert!(scratch.0.join("d/e/own").exists() && planted.exists());
    assert!(!scratch.0.join("d/e/below").exists());
}
