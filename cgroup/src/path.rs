//! `cgroupsPath` of config.json as text: what it means, and what is refused before anything is made.
//!
//! The cgroupfs driver's reading. `slice:prefix:name` means something to the systemd driver alone; here a colon is a
//! character like others.

use crate::error::Error;

/// The longest name of a directory, NAME_MAX.
const NAME_MAX: usize = 255;

/// A place wished for, below one or the other base; the same in every hierarchy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Below the mount point of the hierarchy; otherwise below a base of the runtime's choice.
    pub(crate) absolute: bool,
    /// `/a/b`: names only, at least one.
    pub(crate) path: String,
}

impl Wish {
    /// Reads `cgroupsPath`, or takes `id` as a relative one where it is absent.
    pub(crate) fn new(cgroups_path: Option<&str>, id: &str) -> Result<Wish, Error> {
        let text = cgroups_path.unwrap_or(id);
        let bad = |reason| Error::BadPath { path: text.to_owned(), reason };
        Ok(Wish { absolute: text.starts_with('/'), path: clean(text).map_err(bad)? })
    }
}

/// `a//b/./c/` as `/a/b/c`, or what is wrong with it. There is no link in a cgroup file system: what is below a
/// directory by its text is so in fact.
pub(crate) fn clean(text: &str) -> Result<String, &'static str> {
    let mut path = String::with_capacity(text.len() + 1);
    if text.is_empty() {
        return Err("it is empty");
    }
    if text.contains(['\0', '\n']) {
        return Err("a name contains NUL or a newline");
    }
    for name in text.split('/') {
        match name {
            "" | "." => continue,
            ".." => return Err("a name is \"..\""),
            name if name.len() > NAME_MAX => return Err("a name is longer than 255 bytes"),
            name => {
                path.push('/');
                path.push_str(name);
            }
        }
    }
    if path.is_empty() { Err("it names no cgroup below the root") } else { Ok(path) }
}

/// The directory above: `/a` of `/a/b`, `/` of `/a` and of `/`.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => &path[..end],
    }
}

/// `base` and the names of `path`, both of which start with a slash: `/` and `/a` make `/a`.
pub(crate) fn join(base: &str, path: &str) -> String {
    let base = base.trim_end_matches('/');
    match path {
        "/" if base.is_empty() => "/".to_owned(),
        "/" => base.to_owned(),
        path => format!("{base}{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(cgroups_path: Option<&str>) -> (bool, String) {
        let wish = Wish::new(cgroups_path, "c1").unwrap();
        (wish.absolute, wish.path)
    }

    #[test]
    fn absolute_relative_and_absent() {
        assert_eq!(wish(Some("/a/b")), (true, "/a/b".into()));
        assert_eq!(wish(Some("//a/./b//")), (true, "/a/b".into()));
        assert_eq!(wish(Some("a/b")), (false, "/a/b".into()));
        assert_eq!(wish(Some("./..a/b..")), (false, "/..a/b..".into()));
        assert_eq!(wish(Some("system.slice:proa:x")), (false, "/system.slice:proa:x".into()));
        assert_eq!(wish(None), (false, "/c1".into()));
    }

    #[test]
    fn what_names_no_place_is_refused_by_name() {
        let long = "x".repeat(256);
        let cases = [
            ("../x", "a name is \"..\""),
            ("/a/../../x", "a name is \"..\""),
            ("a/..", "a name is \"..\""),
            ("", "it is empty"),
            ("/", "it names no cgroup below the root"),
            (".", "it names no cgroup below the root"),
            ("/a\0b", "a name contains NUL or a newline"),
            ("/a\nb", "a name contains NUL or a newline"),
            (&long, "a name is longer than 255 bytes"),
        ];
        for (text, reason) in cases {
            let error = Wish::new(Some(text), "c1").unwrap_err();
            assert_eq!(error.to_string(), format!("linux.cgroupsPath {text:?}: {reason}"));
        }
        assert!(Wish::new(Some(&"x".repeat(255)), "c1").is_ok());
    }

    #[test]
    fn an_id_is_no_way_out_either() {
        assert!(Wish::new(None, "..").is_err());
        assert!(Wish::new(None, "").is_err());
    }

    #[test]
    fn parents_and_joins() {
        assert_eq!(["/", "/a", "/a/b", "/a/b/c"].map(parent), ["/", "/", "/a", "/a/b"]);
        assert_eq!(join("/", "/a"), "/a");
        assert_eq!(join("/x", "/a"), "/x/a");
        assert_eq!(join("/x", "/"), "/x");
        assert_eq!(join("/", "/"), "/");
    }
}
