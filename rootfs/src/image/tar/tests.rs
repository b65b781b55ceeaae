//! Archives that cost more than they are long, or say what Linux does not have.

use super::*;
use ::tar::{EntryType, Header};

fn header(archive: &mut Vec<u8>, kind: u8, data: &[u8], device: (u32, u32)) {
    let mut header = Header::new_gnu();
    header.set_path("name").unwrap();
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(data.len() as u64);
    header.set_device_major(device.0).unwrap();
    header.set_device_minor(device.1).unwrap();
    header.set_cksum();
    archive.extend(header.as_bytes());
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(BLOCK), 0);
}

/// An archive of these headers with a file at its end.
fn read(headers: &[(u8, &[u8])]) -> io::Result<Entry> {
    let mut archive = Vec::new();
    headers.iter().for_each(|(kind, data)| header(&mut archive, *kind, data, (0, 0)));
    header(&mut archive, b'0', b"", (0, 0));
    Reader::new(&archive[..]).next().map(|entry| entry.unwrap())
}

#[test]
fn one_header_of_a_kind_is_about_an_entry() {
    let header = |kind: u8, data: &'static str| (kind, data.as_bytes());
    let (records, about_all) = (header(b'x', "8 uid=7\n"), header(b'g', "8 uid=9\n"));
    let (long, link) = (header(b'L', "long\0"), header(b'K', "link\0"));
    let entry = read(&[about_all, about_all, records, long, link]).unwrap();
    assert_eq!((entry.extensions, entry.uid, &*entry.path, &*entry.link), (5, 7, &b"long"[..], &b"link"[..]));
    for twice in [records, long, link] {
        let why = read(&[twice, about_all, twice]).unwrap_err().to_string();
        assert!(why.contains("two extended headers"), "{why}");
    }
    assert_eq!(read(&[about_all; 16]).unwrap().extensions, 16);
    let why = read(&[about_all; 17]).unwrap_err().to_string();
    assert!(why.contains("too many extended headers"), "{why}");
}

#[test]
fn attributes_are_not_without_end() {
    let attributes = |count: usize| {
        let record = |number: usize| format!("25 SCHILY.xattr.u{number:05}=v\n");
        (0..count).map(record).collect::<String>().into_bytes()
    };
    // The last of those with one name counts.
    let mut records = attributes(4096);
    records.extend(b"25 SCHILY.xattr.u00007=w\n");
    let entry = read(&[(b'x', &records)]).unwrap();
    assert_eq!(entry.xattrs.len(), 4096);
    assert!(entry.xattrs.contains(&(b"u00007".to_vec(), b"w".to_vec())));
    let why = read(&[(b'x', &attributes(4097))]).unwrap_err().to_string();
    assert!(why.contains("too many extended attributes"), "{why}");
}

#[test]
fn devices_have_numbers_that_linux_has() {
    let device = |kind, numbers| {
        let mut archive = Vec::new();
        header(&mut archive, kind, b"", numbers);
        Reader::new(&archive[..]).next().map(|entry| entry.unwrap().device)
    };
    for kind in *b"34" {
        assert_eq!(device(kind, (0xfff, 0xf_ffff)).unwrap(), (0xfff, 0xf_ffff));
        for numbers in [(0x1000, 0), (0, 0x10_0000), (0x1000, 0x10_0000)] {
            let why = device(kind, numbers).unwrap_err().to_string();
            assert!(why.contains("device number"), "{numbers:?}: {why}");
        }
    }
}
