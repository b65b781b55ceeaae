//! An image that every engine takes without a registry: an OCI image layout as one tar, with a layer of a static
//! busybox, maybe one of more files, and, for `docker load` and `podman load`, Docker's manifest.json.
//!
//! Not here: what an engine makes of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// The name that tests use where any will do. A full one, so that no engine has to guess at a registry.
pub const BUSYBOX: &str = "docker.io/library/busybox:local";

/// Where Debian's busybox-static puts its binary.
const BINARIES: &[&str] = &["/bin/busybox", "/usr/bin/busybox"];
const DIRS: &[&str] = &["bin", "dev", "etc", "home", "home/guest", "proc", "root", "run", "sys", "tmp", "usr", "var"];
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:a guest:/home/guest:/bin/sh\n\
    nobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\ntty:x:5:\nguest:x:1000:\nnogroup:x:65534:\n";

/// An image of busybox: its name, and the part of its config that says how it is run.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    config: Value,
    files: Vec<(String, u32, Vec<u8>)>,
}

/// What a registry serves of an image: the digest of its manifest, and all of it by digest.
#[derive(Debug)]
pub struct Parts {
    /// The digest of the manifest, as `sha256:HEX`.
    pub manifest: String,
    /// Manifest, config and layers by digest.
    pub blobs: BTreeMap<String, Vec<u8>>,
}

impl Image {
    /// An image of this name (`REGISTRY/PATH:TAG`) that runs /bin/sh.
    pub fn new(name: &str) -> Self {
        let config = json!({ "Env": ["PATH=/bin"], "Cmd": ["/bin/sh"] });
        Self { name: name.to_owned(), config, files: Vec::new() }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds a file of root's, or replaces one, by a second layer that lies on the one of busybox.
    #[must_use]
    pub fn file(mut self, path: &str, mode: u32, data: &[u8]) -> Self {
        self.files.push((path.to_owned(), mode, data.to_vec()));
        self
    }

    /// The program that is run unless the user names one.
    #[must_use]
    pub fn cmd(self, words: &[&str]) -> Self {
        self.with("Cmd", json!(words))
    }

    /// What stands before the program, also before one that the user names.
    #[must_use]
    pub fn entrypoint(self, words: &[&str]) -> Self {
        self.with("Entrypoint", json!(words))
    }

    /// Adds a variable, as `NAME=VALUE`; the last of a name counts.
    #[must_use]
    pub fn env(mut self, variable: &str) -> Self {
        self.config["Env"].as_array_mut().expect("a list").push(json!(variable));
        self
    }

    /// The user, as `USER[:GROUP]`: names or numbers. The image knows root, guest (1000) and nobody.
    #[must_use]
    pub fn user(self, user: &str) -> Self {
        self.with("User", json!(user))
    }

    /// The working directory.
    #[must_use]
    pub fn dir(self, dir: &str) -> Self {
        self.with("WorkingDir", json!(dir))
    }

    /// Any other member of the specification's `config`, such as `StopSignal` or `Volumes`.
    #[must_use]
    pub fn with(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }

    /// Writes the image to the file `path`.
    pub fn write(&self, path: &Path) {
        fs::write(path, self.tar()).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
    }

    /// What a registry serves of it.
    #[must_use]
    pub fn parts(&self) -> Parts {
        let (manifest, _, blobs) = self.build();
        let of = |hex: &str| format!("sha256:{hex}");
        let digest = manifest["digest"].as_str().expect("a digest").to_owned();
        Parts { manifest: digest, blobs: blobs.into_iter().map(|(hex, data)| (of(&hex), data)).collect() }
    }

    /// The descriptor of the manifest, the manifest, and all blobs by the hex digits of their digests.
    fn build(&self) -> (Value, Value, BTreeMap<String, Vec<u8>>) {
        let mut blobs = BTreeMap::new();
        let mut layers = vec![blob(&mut blobs, "layer.v1.tar", layer())];
        if !self.files.is_empty() {
            let mut tar = Builder::new(Vec::new());
            self.files.iter().for_each(|(path, mode, data)| file(&mut tar, path, *mode, data));
            layers.push(blob(&mut blobs, "layer.v1.tar", tar.into_inner().expect("a tar in memory")));
        }
        let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let config = blob_of(
            &mut blobs,
            "config.v1+json",
            &json!({
                "architecture": architecture,
                "os": "linux",
                "config": self.config,
                // An uncompressed layer has the same digest in both roles.
                "rootfs": { "type": "layers", "diff_ids": diff_ids },
            }),
        );
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": layers,
        });
        (blob_of(&mut blobs, "manifest.v1+json", &manifest), manifest, blobs)
    }

    fn tar(&self) -> Vec<u8> {
        let (mut descriptor, manifest, blobs) = self.build();
        // containerd reads the first name, the specification's tools the second.
        let tag = self.name.rsplit_once(':').map_or("latest", |(_, tag)| tag);
        descriptor["annotations"] =
            json!({ "io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        let layers: Vec<String> = manifest["layers"].as_array().expect("a list").iter().map(path_of).collect();
        let docker = json!([{ "Config": path_of(&manifest["config"]), "RepoTags": [self.name], "Layers": layers }]);

        let mut tar = Builder::new(Vec::new());
        file(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
        file(&mut tar, "index.json", 0o644, index.to_string().as_bytes());
        file(&mut tar, "manifest.json", 0o644, docker.to_string().as_bytes());
        for (digest, data) in &blobs {
            file(&mut tar, &format!("blobs/sha256/{digest}"), 0o644, data);
        }
        tar.into_inner().expect("a tar in memory")
    }
}

/// The root file system, as the tar of one layer.
pub fn layer() -> Vec<u8> {
    let busybox = BINARIES.iter().find(|path| Path::new(path).exists());
    let busybox = busybox.expect("no /bin/busybox: install Debian's package busybox-static");
    let list = Command::new(busybox).arg("--list").output().expect("cannot run busybox").stdout;
    let list = String::from_utf8(list).expect("names of applets");

    let mut tar = Builder::new(Vec::new());
    for dir in DIRS {
        let mut header = header(EntryType::Directory, if *dir == "tmp" { 0o1777 } else { 0o755 });
        if dir.ends_with("guest") {
            header.set_uid(1000);
            header.set_gid(1000);
        }
        tar.append_data(&mut header, format!("{dir}/"), std::io::empty()).expect("a tar in memory");
    }
    file(&mut tar, "bin/busybox", 0o755, &fs::read(busybox).expect("cannot read busybox"));
    // Hard links, as in busybox's own image: what covers one applet leaves the others.
    for applet in list.lines().filter(|applet| *applet != "busybox") {
        let mut header = header(EntryType::Link, 0o755);
        tar.append_link(&mut header, format!("bin/{applet}"), "bin/busybox").expect("a tar in memory");
    }
    file(&mut tar, "etc/passwd", 0o644, PASSWD.as_bytes());
    file(&mut tar, "etc/group", 0o644, GROUP.as_bytes());
    tar.into_inner().expect("a tar in memory")
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

fn file(tar: &mut Builder<Vec<u8>>, path: &str, mode: u32, data: &[u8]) {
    let mut header = header(EntryType::Regular, mode);
    header.set_size(data.len() as u64);
    tar.append_data(&mut header, path, data).expect("a tar in memory");
}

/// Keeps `data` under its digest and returns the descriptor of it.
fn blob(blobs: &mut BTreeMap<String, Vec<u8>>, media: &str, data: Vec<u8>) -> Value {
    let digest: String = Sha256::digest(&data).iter().map(|byte| format!("{byte:02x}")).collect();
    let descriptor = json!({
        "mediaType": format!("application/vnd.oci.image.{media}"),
        "digest": format!("sha256:{digest}"),
        "size": data.len(),
    });
    blobs.insert(digest, data);
    descriptor
}

fn blob_of(blobs: &mut BTreeMap<String, Vec<u8>>, media: &str, value: &Value) -> Value {
    blob(blobs, media, value.to_string().into_bytes())
}

fn path_of(descriptor: &Value) -> String {
    descriptor["digest"].as_str().expect("a digest").replacen("sha256:", "blobs/sha256/", 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn every_blob_is_found_under_its_digest_and_the_name_stands_where_engines_look() {
        let tar = Image::new("example.org/a/b:c").cmd(&["true"]).env("A=b").user("guest").tar();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(&tar[..]).entries().unwrap() {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut data = Vec::new();
            entry.read_to_end(&mut data).unwrap();
            files.insert(path, data);
        }
        let json = |path: &str| -> Value { serde_json::from_slice(&files[path]).unwrap() };
        for (path, data) in files.iter().filter(|(path, _)| path.starts_with("blobs/")) {
            let digest: String = Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(path, &format!("blobs/sha256/{digest}"));
        }
        let manifest = &json("index.json")["manifests"][0];
        assert_eq!(manifest["annotations"]["io.containerd.image.name"], "example.org/a/b:c");
        assert_eq!(manifest["annotations"]["org.opencontainers.image.ref.name"], "c");
        assert_eq!(manifest["size"], files[&path_of(manifest)].len());
        let config = json(&path_of(&json(&path_of(manifest))["config"]));
        assert_eq!(config["config"], json!({"Env": ["PATH=/bin", "A=b"], "Cmd": ["true"], "User": "guest"}));
        assert_eq!(json("manifest.json")[0]["RepoTags"], json!(["example.org/a/b:c"]));
        assert!(files.contains_key(json("manifest.json")[0]["Layers"][0].as_str().unwrap()));
    }
}
