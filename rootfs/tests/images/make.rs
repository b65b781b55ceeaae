//! Tar archives, layers and images, made by hand so that they may be wrong.

use rootfs::image::Digest;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A directory that is removed with all that is in it.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Scratch {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("rootfs-images-{}-{count}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A layer in the making.
#[derive(Clone, Default)]
pub(crate) struct Tar(pub(crate) Vec<u8>);

/// One entry, with what most of them share.
#[derive(Clone)]
pub(crate) struct Entry<'a> {
    pub(crate) kind: u8,
    pub(crate) name: &'a [u8],
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: u64,
    pub(crate) data: &'a [u8],
    pub(crate) device: (u32, u32),
    /// Records of an extended header in front of it.
    pub(crate) pax: Vec<(&'a str, &'a [u8])>,
}

pub(crate) fn entry(kind: u8, name: &str) -> Entry<'_> {
    let mode = if kind == b'5' { 0o755 } else { 0o644 };
    Entry {
        kind,
        name: name.as_bytes(),
        link: b"",
        mode,
        owner: (0, 0),
        mtime: 1_600_000_000,
        data: b"",
        device: (0, 0),
        pax: vec![],
    }
}

pub(crate) fn file<'a>(name: &'a str, data: &'a str) -> Entry<'a> {
    Entry { data: data.as_bytes(), ..entry(b'0', name) }
}

pub(crate) fn dir(name: &str) -> Entry<'_> {
    entry(b'5', name)
}

pub(crate) fn symlink<'a>(name: &'a str, to: &'a str) -> Entry<'a> {
    Entry { link: to.as_bytes(), ..entry(b'2', name) }
}

pub(crate) fn hard_link<'a>(name: &'a str, to: &'a str) -> Entry<'a> {
    Entry { link: to.as_bytes(), ..entry(b'1', name) }
}

impl Tar {
    pub(crate) fn of(entries: &[Entry<'_>]) -> Tar {
        let mut tar = Tar::default();
        entries.iter().for_each(|entry| tar.add(entry));
        tar.end()
    }

    pub(crate) fn add(&mut self, entry: &Entry<'_>) {
        if !entry.pax.is_empty() {
            let records: Vec<u8> = entry.pax.iter().flat_map(|(key, value)| record(key, value)).collect();
            self.header(b'x', b"pax", b"", &Entry { data: &records, ..entry.clone() }, records.len() as u64);
            self.data(&records);
        }
        for (kind, text) in [(b'L', entry.name), (b'K', entry.link)] {
            if text.len() > 100 {
                self.header(kind, b"././@LongLink", b"", entry, text.len() as u64 + 1);
                self.data(&[text, b"\0"].concat());
            }
        }
        let short = |text: &[u8]| text[..text.len().min(100)].to_vec();
        self.header(entry.kind, &short(entry.name), &short(entry.link), entry, entry.data.len() as u64);
        self.data(entry.data);
    }

    /// A header of any size.
    pub(crate) fn header(&mut self, kind: u8, name: &[u8], link: &[u8], entry: &Entry<'_>, size: u64) {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.0);
        header.set_gid(entry.owner.1);
        header.set_mtime(entry.mtime);
        header.set_size(size);
        header.set_device_major(entry.device.0).unwrap();
        header.set_device_minor(entry.device.1).unwrap();
        header.set_cksum();
        self.0.extend(header.as_bytes());
    }

    pub(crate) fn data(&mut self, data: &[u8]) {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
    }

    pub(crate) fn end(mut self) -> Tar {
        self.0.resize(self.0.len() + 1024, 0);
        self
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

/// How a layer is packed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Packed {
    Plain,
    Gzip,
    Zstd,
}

pub(crate) fn pack(tar: &[u8], packed: Packed) -> Vec<u8> {
    match packed {
        Packed::Plain => tar.to_vec(),
        Packed::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
        // Between two frames one that is to be skipped, as some writers make them.
        Packed::Zstd => {
            let (first, second) = tar.split_at(tar.len() / 2);
            let frame = |part| ruzstd::encoding::compress_to_vec(part, ruzstd::encoding::CompressionLevel::Fastest);
            [&frame(first)[..], &[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3], &frame(second)].concat()
        }
    }
}

pub(crate) const OCI: &str = "application/vnd.oci.image";

/// An image layout under construction.
pub(crate) struct Layout {
    pub(crate) path: PathBuf,
    pub(crate) manifests: Vec<Value>,
}

impl Layout {
    pub(crate) fn new(path: &Path) -> Layout {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let layout = Layout { path: path.to_owned(), manifests: vec![] };
        layout.write_index();
        layout
    }

    pub(crate) fn blob(&self, content: &[u8], media_type: &str) -> Value {
        let digest = Digest::of(content);
        fs::write(self.path.join("blobs/sha256").join(digest.hex()), content).unwrap();
        json!({"mediaType": media_type, "digest": digest.as_str(), "size": content.len()})
    }

    pub(crate) fn json(&self, content: &Value, media_type: &str) -> Value {
        self.blob(content.to_string().as_bytes(), media_type)
    }

    /// A manifest of these layers for a platform.
    pub(crate) fn manifest(&self, layers: &[&Tar], packed: Packed, platform: (&str, &str)) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|tar| Digest::of(&tar.0).to_string()).collect();
        let ending = match packed {
            Packed::Plain => "",
            Packed::Gzip => "+gzip",
            Packed::Zstd => "+zstd",
        };
        let media_type = format!("{OCI}.layer.v1.tar{ending}");
        let layers: Vec<Value> = layers.iter().map(|tar| self.blob(&pack(&tar.0, packed), &media_type)).collect();
        self.manifest_of(
            json!({
                "os": platform.0, "architecture": platform.1, "created": null,
                "config": {"Env": ["A=b"], "Volumes": null, "Cmd": ["sh"]},
                "rootfs": {"type": "layers", "diff_ids": diff_ids},
            }),
            &layers,
        )
    }

    pub(crate) fn manifest_of(&self, config: Value, layers: &[Value]) -> Value {
        let config = self.json(&config, &format!("{OCI}.config.v1+json"));
        self.json(&json!({"schemaVersion": 2, "config": config, "layers": layers}), &format!("{OCI}.manifest.v1+json"))
    }

    pub(crate) fn add(&mut self, mut descriptor: Value, name: Option<&str>) {
        if let Some(name) = name {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        self.manifests.push(descriptor);
        self.write_index();
    }

    pub(crate) fn write_index(&self) {
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }

    /// The same as a tar archive.
    pub(crate) fn archive(&self, path: &Path) {
        let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
        builder.append_dir_all("./", &self.path).unwrap();
        builder.finish().unwrap();
    }
}

/// An image of layers for this machine, called `test`.
pub(crate) fn image(path: &Path, layers: &[&Tar]) -> Layout {
    packed_image(path, layers, Packed::Gzip)
}

pub(crate) fn packed_image(path: &Path, layers: &[&Tar], packed: Packed) -> Layout {
    let mut layout = Layout::new(path);
    let platform = rootfs::image::Platform::host();
    layout.add(layout.manifest(layers, packed, (&platform.os, &platform.architecture)), Some("library/test"));
    layout
}
