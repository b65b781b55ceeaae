//! Images made by hand: OCI layouts and archives of `docker save` with any layers and any documents, right or wrong.
//!
//! Not here: images that are meant to be run by an engine, see [`crate::image`], and what is in a layer, see
//! [`crate::tarball`].

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::tarball::{Entry, tar};

/// A layer as it lies in an image.
#[derive(Debug, Clone)]
pub struct Layer {
    /// The last part of the media type, such as `tar+gzip`.
    pub form: &'static str,
    /// What lies in the image.
    pub blob: Vec<u8>,
    /// The digest of the tar.
    pub diff_id: String,
}

impl Layer {
    /// A tar as it is.
    pub fn plain(tar: Vec<u8>) -> Self {
        Self { form: "tar", diff_id: digest(&tar), blob: tar }
    }

    /// A plain layer of these entries.
    pub fn of(entries: &[Entry]) -> Self {
        Self::plain(tar(entries))
    }

    /// The same, compressed with gzip.
    #[must_use]
    pub fn gzip(self) -> Self {
        let packed = gzip(&self.blob);
        Self { form: "tar+gzip", blob: packed, ..self }
    }

    /// The same as a Zstandard stream, in which nothing is made smaller but runs of zeros.
    #[must_use]
    pub fn zstd(self) -> Self {
        let packed = zstd(&self.blob);
        Self { form: "tar+zstd", blob: packed, ..self }
    }
}

/// The files of a layout, or of an archive, by their paths.
pub type Files = BTreeMap<String, Vec<u8>>;

/// An image in the making: its layers, and what its documents say.
#[derive(Debug, Clone)]
pub struct Layout {
    layers: Vec<Layer>,
    /// The image's configuration but for `rootfs`.
    pub config: Value,
    /// Docker's media types instead of OCI's.
    pub docker: bool,
}

const OCI: &str = "application/vnd.oci.image";

impl Layout {
    /// An image of these layers, the lowest first, that runs /bin/sh.
    pub fn new(layers: impl IntoIterator<Item = Layer>) -> Self {
        let config = json!({ "architecture": architecture(), "os": "linux", "config": { "Cmd": ["/bin/sh"] } });
        Self { layers: layers.into_iter().collect(), config, docker: false }
    }

    /// Says something in the `config` part of its configuration.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.config["config"][key] = value;
        self
    }

    /// Has Docker's media types.
    #[must_use]
    pub fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    fn media(&self, what: &str) -> String {
        if !self.docker {
            return format!("{OCI}.{what}");
        }
        let what = match what {
            "config.v1+json" => "container.image.v1+json",
            "manifest.v1+json" => "distribution.manifest.v2+json",
            "layer.v1.tar" => "image.rootfs.diff.tar",
            "layer.v1.tar+gzip" => "image.rootfs.diff.tar.gzip",
            other => panic!("Docker has no {other}"),
        };
        format!("application/vnd.docker.{what}")
    }

    /// A layout with one image, called `latest`.
    pub fn files(&self) -> Files {
        self.files_with(|_| ())
    }

    /// The same with another manifest.
    pub fn files_with(&self, change: impl FnOnce(&mut Value)) -> Files {
        let mut files = Files::from([("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())]);
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| add(&mut files, &self.media(&format!("layer.v1.{}", layer.form)), layer.blob.clone()))
            .collect();
        let mut config = self.config.clone();
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        let config = add(&mut files, &self.media("config.v1+json"), config.to_string().into_bytes());
        let media = self.media("manifest.v1+json");
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": media, "config": config, "layers": layers });
        change(&mut manifest);
        let mut descriptor = add(&mut files, &media, manifest.to_string().into_bytes());
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
        set_index(&mut files, &[descriptor]);
        files
    }

    /// The files of an archive as `docker save` made them before it knew OCI's layout.
    pub fn docker_archive(&self, name: &str) -> Files {
        let mut files = Files::new();
        let mut paths = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            paths.push(format!("{number:064x}/layer.tar"));
            files.insert(paths[number].clone(), layer.blob.clone());
        }
        let mut config = self.config.clone();
        let diff_ids: Vec<&str> = self.layers.iter().map(|layer| layer.diff_id.as_str()).collect();
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        let config = config.to_string().into_bytes();
        let path = format!("{}.json", digest(&config).trim_start_matches("sha256:"));
        files.insert(path.clone(), config);
        let manifest = json!([{ "Config": path, "RepoTags": [name], "Layers": paths }]);
        files.insert("manifest.json".to_owned(), manifest.to_string().into_bytes());
        files
    }
}

/// Go's word for this machine's processor.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Adds a blob; its descriptor.
pub fn add(files: &mut Files, media: &str, data: Vec<u8>) -> Value {
    let digest = digest(&data);
    let descriptor = json!({ "mediaType": media, "digest": digest, "size": data.len() });
    files.insert(blob_path(&digest), data);
    descriptor
}

/// Writes index.json.
pub fn set_index(files: &mut Files, manifests: &[Value]) {
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    files.insert("index.json".to_owned(), index.to_string().into_bytes());
}

/// Where a layout has the blob of a digest.
pub fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

/// `sha256:HEX`.
pub fn digest(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Writes the files below a new directory.
pub fn write_dir(files: &Files, dir: &Path) {
    for (path, data) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("below a directory")).expect("cannot make a directory");
        fs::write(&path, data).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }
}

/// The files as one tar.
pub fn archive(files: &Files) -> Vec<u8> {
    let entries: Vec<Entry> = files.iter().map(|(path, data)| Entry::file(path, data)).collect();
    tar(&entries)
}

/// Compressed by gzip(1).
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let command = Command::new("gzip").arg("-cn1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = command.expect("cannot run gzip");
    let mut input = child.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || input.write_all(data).expect("cannot write to gzip"));
        child.wait_with_output().expect("gzip failed").stdout
    })
}

/// A Zstandard frame of blocks that are stored, or of one byte that repeats (RFC 8878).
pub fn zstd(data: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 128 << 10;
    // A window of 1 MiB, no size, no checksum.
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    let mut blocks = data.chunks(BLOCK).peekable();
    if data.is_empty() {
        out.extend([1, 0, 0]);
    }
    while let Some(block) = blocks.next() {
        let repeats = block.iter().all(|byte| *byte == block[0]);
        let kind = if repeats { 1 } else { 0 };
        let header = u32::from(blocks.peek().is_none()) | kind << 1 | (block.len() as u32) << 3;
        out.extend(&header.to_le_bytes()[..3]);
        out.extend(if repeats { &block[..1] } else { block });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_whole() {
        let layout = Layout::new([Layer::of(&[Entry::dir("a")]), Layer::of(&[Entry::file("a/b", "c")]).zstd()]);
        let files = layout.files();
        for (path, data) in files.iter().filter(|(path, _)| path.starts_with("blobs/")) {
            assert_eq!(path, &blob_path(&digest(data)));
        }
        let value = |path: &str| -> Value { serde_json::from_slice(&files[path]).unwrap() };
        let manifest = value(&blob_path(value("index.json")["manifests"][0]["digest"].as_str().unwrap()));
        assert_eq!(manifest["layers"][1]["mediaType"], "application/vnd.oci.image.layer.v1.tar+zstd");
        let config = value(&blob_path(manifest["config"]["digest"].as_str().unwrap()));
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert!(layout.docker_archive("a:b").contains_key("manifest.json"));
    }

    #[test]
    fn zeros_become_small() {
        assert!(zstd(&vec![0; 1 << 20]).len() < 100);
        assert_eq!(zstd(b"ab")[6..], [0b10001, 0, 0, b'a', b'b']);
    }
}
