//! A registry of images that are made here, as much of one as a pull asks for: manifests and blobs over HTTP.
//!
//! It asks no one for a name, and takes a repository for the same whatever registry it is thought to be of.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use conformance::image::Image;

#[derive(Default)]
struct Content {
    /// The digest of a manifest by `REPOSITORY:TAG`.
    tags: BTreeMap<String, String>,
    blobs: BTreeMap<String, Vec<u8>>,
}

/// Serves `images` until the process ends.
pub(crate) fn serve(images: &[Image]) -> SocketAddr {
    let mut content = Content::default();
    for image in images {
        let parts = image.parts();
        let (_, path) = image.name().split_once('/').expect("the name of an image begins with its registry");
        content.tags.insert(path.to_owned(), parts.manifest);
        content.blobs.extend(parts.blobs);
    }
    let content = Arc::new(content);
    let listener = TcpListener::bind("127.0.0.1:0").expect("no port on the loopback");
    let address = listener.local_addr().expect("a bound socket");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let content = Arc::clone(&content);
            // A client that goes away is no concern of the registry's.
            std::thread::spawn(move || answer(&stream, &content).ok());
        }
    });
    address
}

/// Answers one request and closes.
fn answer(mut stream: &TcpStream, content: &Content) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The headers, up to the empty line: none of them matters.
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split('?').next().unwrap_or_default();
    let Some((kind, digest)) = find(path, content) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let data = &content.blobs[digest];
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nDocker-Content-Digest: {digest}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        data.len()
    );
    stream.write_all(head.as_bytes())?;
    if method == "HEAD" { Ok(()) } else { stream.write_all(data) }
}

/// The media type and the digest of what is at `/v2/REPOSITORY/manifests/TAG|DIGEST` or `/v2/REPOSITORY/blobs/DIGEST`.
fn find<'c>(path: &str, content: &'c Content) -> Option<(&'static str, &'c String)> {
    let path = path.strip_prefix("/v2/")?;
    let blob = |digest| content.blobs.get_key_value(digest).map(|(digest, _)| digest);
    if let Some((repository, reference)) = path.split_once("/manifests/") {
        let digest = content.tags.get(&format!("{repository}:{reference}")).or_else(|| blob(reference))?;
        return Some(("application/vnd.oci.image.manifest.v1+json", digest));
    }
    Some(("application/octet-stream", blob(path.split_once("/blobs/")?.1)?))
}
