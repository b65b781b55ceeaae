//! Operating system and processor that an image is for.

use std::fmt;

/// `os/architecture[/variant]`, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v8`; where none is wanted the first image of the architecture is taken.
    pub variant: Option<String>,
}

impl Platform {
    /// That of this machine.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7".to_owned())),
            "powerpc64" => (if cfg!(target_endian = "little") { "ppc64le" } else { "ppc64" }, None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Platform { os: "linux".to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// Reads `os/architecture[/variant]` or `architecture`; `None` if it is neither.
    pub fn parse(text: &str) -> Option<Platform> {
        let words: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match words[..] {
            [architecture] => ("linux", architecture, None),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(variant)),
            _ => return None,
        };
        if [os, architecture].contains(&"") || variant == Some("") {
            return None;
        }
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Some(Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) })
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read() {
        for text in ["linux/amd64", "linux/arm/v7", "windows/amd64"] {
            assert_eq!(Platform::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Platform::parse("aarch64").unwrap().to_string(), "linux/arm64");
        assert_eq!(Platform::parse(&Platform::host().to_string()), Some(Platform::host()));
        for text in ["", "/", "linux/", "/amd64", "a/b/c/d", "a/b/"] {
            assert_eq!(Platform::parse(text), None, "{text}");
        }
    }
}
