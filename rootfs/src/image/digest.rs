//! Digests of content: `sha256:…` and `sha512:…`, checked for form, computed while content streams by.

use super::Error;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use std::fmt;

/// `ALGORITHM:HEX` with an algorithm that can be computed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

const SHA256: &str = "sha256:";
const SHA512: &str = "sha512:";

impl Digest {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// [`Error::Digest`] unless it is sha256 or sha512 with as many lower-case hexadecimal digits as it takes.
    pub fn parse(text: &str) -> Result<Digest, Error> {
        let hex = |prefix: &str, digits: usize| {
            text.strip_prefix(prefix).is_some_and(|hex| {
                hex.len() == digits && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            })
        };
        if hex(SHA256, 64) || hex(SHA512, 128) {
            return Ok(Digest(text.to_owned()));
        }
        // A hostile text may be long.
        Err(Error::Digest(text.chars().take(100).collect()))
    }

    /// The sha256 of `content`.
    pub fn of(content: &[u8]) -> Digest {
        let mut hasher = Hasher::Sha256(Default::default());
        hasher.update(content);
        hasher.finish()
    }

    /// `sha256` or `sha512`.
    pub fn algorithm(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The digits.
    pub fn hex(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }

    /// All of it, as `Display` shows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What computes a digest to compare with this one.
    pub(crate) fn hasher(&self) -> Hasher {
        if self.0.starts_with(SHA512) { Hasher::Sha512(Default::default()) } else { Hasher::Sha256(Default::default()) }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Digest, Error> {
        Digest::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

/// A digest being computed.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        match self {
            Hasher::Sha256(hasher) => Digest(hex(SHA256, &hasher.finalize())),
            Hasher::Sha512(hasher) => Digest(hex(SHA512, &hasher.finalize())),
        }
    }
}

fn hex(prefix: &str, bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    let mut text = String::with_capacity(prefix.len() + 2 * bytes.len());
    text.push_str(prefix);
    for byte in bytes {
        text.push(digit(byte >> 4));
        text.push(digit(byte & 15));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nothing() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").as_str(), text);
        assert_eq!(Digest::parse(text).unwrap(), Digest::of(b""));
        assert_eq!((Digest::of(b"").algorithm(), Digest::of(b"").hex().len()), ("sha256", 64));
    }

    #[test]
    fn what_is_none() {
        for text in ["", "sha256", "sha256:", "sha256:../../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
            assert!(Digest::parse(text).is_err(), "{text}");
        }
        assert!(Digest::parse(&format!("sha256:{}", "A".repeat(64))).is_err());
        assert!(Digest::parse(&format!("sha512:{}", "a".repeat(64))).is_err());
        assert!(Digest::parse(&format!("sha256:{}", "é".repeat(32))).is_err());
    }
}
