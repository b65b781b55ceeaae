//! `slice:prefix:name`: which scope that is, and where in the tree of cgroups systemd puts it (systemd.slice(5)).

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// UNIT_NAME_MAX.
const UNIT_NAME_MAX: usize = 255;

/// A transient scope that holds a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scope {
    /// `proa-c1.scope`.
    pub(crate) unit: String,
    pub(crate) slice: String,
    /// Of a user's systemd, not the machine's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) user: bool,
    /// Whether it was made. Until then one of that name may be another container's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) started: bool,
}

impl Scope {
    /// Reads `cgroupsPath`; absent, the scope is `proa-ID.scope` in `system.slice`, or `user.slice` of a user's systemd.
    pub(crate) fn new(cgroups_path: Option<&str>, id: &str, user: bool) -> Result<Scope, Error> {
        let default = if user { "user.slice" } else { "system.slice" };
        let Some(text) = cgroups_path else { return Scope::from_parts("", default, "proa", id, user) };
        let mut parts = text.split(':');
        let (Some(slice), Some(prefix), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::NoScopePath { path: text.to_owned() });
        };
        Scope::from_parts(text, if slice.is_empty() { default } else { slice }, prefix, name, user)
    }

    fn from_parts(text: &str, slice: &str, prefix: &str, name: &str, user: bool) -> Result<Scope, Error> {
        let text = if text.is_empty() { name } else { text };
        let bad = |reason| Error::BadPath { path: text.to_owned(), reason };
        if name.is_empty() {
            return Err(bad("the name of the scope is empty"));
        }
        let unit = match prefix {
            "" => format!("{}.scope", escape(name)),
            prefix => format!("{}-{}.scope", escape(prefix), escape(name)),
        };
        if unit.len() > UNIT_NAME_MAX {
            return Err(bad("the name of the scope is longer than 255 bytes"));
        }
        if expand(slice).is_none() {
            return Err(bad("that is no name of a slice, such as \"system.slice\" or \"a-b.slice\""));
        }
        Ok(Scope { unit, slice: slice.to_owned(), user, started: false })
    }

    /// The path of its cgroup from that of the systemd it belongs to: `/a.slice/a-b.slice/proa-c1.scope`.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", expand(&self.slice).unwrap_or_default(), self.unit)
    }
}

/// Characters that a unit's name may have; the others are written as systemd-escape(1) does.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte {
            b'.' if at == 0 => escaped.push_str("\\x2e"),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'\\' | b'@' => escaped.push(byte.into()),
            byte => escaped.push_str(&format!("\\x{byte:02x}")),
        }
    }
    escaped
}

/// `a-b.slice` is inside `a.slice`; `-.slice` is the root of them all.
fn expand(slice: &str) -> Option<String> {
    let stem = slice.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(String::new());
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\@".contains(&byte);
    if slice.len() > UNIT_NAME_MAX || !stem.split('-').all(|part| !part.is_empty() && part.bytes().all(fits)) {
        return None;
    }
    let mut path = String::new();
    for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        path.push_str(&format!("/{}.slice", &stem[..at]));
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(path: Option<&str>) -> Result<(String, String), String> {
        let scope = Scope::new(path, "c1", false).map_err(|error| error.to_string())?;
        Ok((scope.path(), scope.unit))
    }

    #[test]
    fn three_parts_are_a_scope_in_a_slice() {
        let good = |path, expected: &str, unit: &str| {
            assert_eq!(scope(path), Ok((expected.to_owned(), unit.to_owned())), "{path:?}");
        };
        good(None, "/system.slice/proa-c1.scope", "proa-c1.scope");
        good(Some("machine.slice:libpod:x"), "/machine.slice/libpod-x.scope", "libpod-x.scope");
        good(Some(":p:x"), "/system.slice/p-x.scope", "p-x.scope");
        good(Some("a-b-c.slice::x"), "/a.slice/a-b.slice/a-b-c.slice/x.scope", "x.scope");
        good(Some("-.slice:p:x"), "/p-x.scope", "p-x.scope");
        good(Some("a.slice:p:x+y"), "/a.slice/p-x\\x2by.scope", "p-x\\x2by.scope");
        let user = Scope::new(None, "c1", true).unwrap();
        assert_eq!(user.path(), "/user.slice/proa-c1.scope");
    }

    #[test]
    fn what_is_no_scope_is_refused_with_the_reason() {
        let format = "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got";
        for path in ["/a/b", "a:b", "a.slice:b:c:d", ""] {
            let error = scope(Some(path)).unwrap_err();
            assert!(error.contains(&format!("{format} {path:?} instead")), "{error}");
        }
        let long = format!("a.slice:p:{}", "x".repeat(255));
        for (path, reason) in [
            ("a.slice:p:", "is empty"),
            ("a:p:x", "no name of a slice"),
            ("a/b.slice:p:x", "no name of a slice"),
            ("../x.slice:p:x", "no name of a slice"),
            ("-a.slice:p:x", "no name of a slice"),
            ("a--b.slice:p:x", "no name of a slice"),
            (".slice:p:x", "no name of a slice"),
            (&long, "longer than 255"),
        ] {
            let error = scope(Some(path)).unwrap_err();
            assert!(error.contains(reason), "{path:?}: {error}");
        }
        // A name cannot lead to another directory.
        assert_eq!(scope(Some("a.slice:p:../../x")).unwrap().1, "p-\\x2e.\\x2f..\\x2fx.scope");
    }
}
