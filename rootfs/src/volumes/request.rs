//! The words after `--volume`: what is mounted where, and how. Nothing is looked up on the host.

use super::{Error, Result, check_name};
use crate::resolve::clean;

/// One `--volume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What is mounted.
    pub source: Source,
    /// Where, in the container: absolute, without `.`, `..` and double slashes, and not the root.
    pub destination: String,
    /// Not to be written to.
    pub read_only: bool,
    /// The files are to get a label of SELinux.
    pub relabel: Option<Relabel>,
    /// An empty volume stays empty.
    pub nocopy: bool,
    /// The files show the ids of the container's user namespace.
    pub idmap: bool,
    /// What is mounted below the source comes with it.
    pub recursive: bool,
    /// The word for how mount events propagate.
    pub propagation: &'static str,
    /// `exec`, `noexec`, `dev`, `nodev`, `suid`, `nosuid`, as they were given.
    pub flags: Vec<&'static str>,
}

/// What a container gets to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A volume by name, which is made where there is none.
    Named(String),
    /// A path of the host, absolute or relative to the working directory, that must exist.
    Host(String),
    /// A new volume, which goes with its bundle.
    Anonymous,
}

/// Whose the files are as SELinux sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relabel {
    /// `z`: of all containers.
    Shared,
    /// `Z`: of this container.
    Private,
}

/// Options that say one thing in several ways: of each line one may be given.
const KINDS: &[&[&str]] = &[
    &["ro", "rw"],
    &["z", "Z"],
    &["nocopy"],
    &["idmap"],
    &["private", "rprivate", "slave", "rslave", "shared", "rshared"],
    &["exec", "noexec"],
    &["dev", "nodev"],
    &["suid", "nosuid"],
    &["bind", "rbind"],
];

/// Reads `NAME:/DIR[:OPTIONS]`, `/HOST/PATH:/DIR[:OPTIONS]`, `./PATH:/DIR[:OPTIONS]` or `/DIR`.
///
/// # Errors
/// [`Error::Refused`], which has the word and what is wrong with it.
pub fn parse(word: &str) -> Result<Request> {
    let refuse = |problem: &str| Err(Error::Refused(format!("--volume {word:?}: {problem}")));
    if word.contains('\0') {
        return refuse("it has a NUL");
    }
    let parts: Vec<&str> = word.split(':').collect();
    let (source, destination, options) = match parts[..] {
        [destination] => (None, destination, ""),
        [source, destination] => (Some(source), destination, ""),
        [source, destination, options] => (Some(source), destination, options),
        _ => return refuse("there are more parts than SOURCE:DIR:OPTIONS"),
    };
    let source = match source {
        None => Source::Anonymous,
        Some("") => return refuse("the source is empty"),
        Some(path) if path.starts_with('/') || matches!(path.split('/').next(), Some("." | "..")) => {
            Source::Host(path.to_owned())
        }
        Some(name) if name.contains('/') => {
            return refuse("a volume's name has no '/'; a path of the host begins with '/', './' or '../'");
        }
        Some(name) => match check_name(name) {
            Ok(()) => Source::Named(name.to_owned()),
            Err(error) => return refuse(&error.to_string()),
        },
    };
    if !destination.starts_with('/') {
        return refuse(&format!("{destination:?} is no absolute path in the container"));
    }
    let mut request = Request {
        source,
        destination: clean(destination),
        read_only: false,
        relabel: None,
        nocopy: false,
        idmap: false,
        recursive: true,
        propagation: "rprivate",
        flags: Vec::new(),
    };
    if request.destination == "/" {
        return refuse("a volume cannot be the container's root");
    }
    match request.take(options) {
        Ok(()) => Ok(request),
        Err(problem) => refuse(&problem),
    }
}

impl Request {
    fn take(&mut self, options: &str) -> std::result::Result<(), String> {
        let mut seen: Vec<Option<&'static str>> = vec![None; KINDS.len()];
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let place = KINDS.iter().enumerate().find_map(|(kind, words)| {
                let word = words.iter().find(|word| **word == option)?;
                Some((kind, *word))
            });
            let Some((kind, word)) = place else {
                return Err(match option {
                    "U" => "the option U is not supported: files are not given to other owners; \
                            idmap shows them under the container's ids"
                        .to_owned(),
                    _ => format!("unknown option {option:?}"),
                });
            };
            match seen[kind].replace(word) {
                Some(before) if before != word => return Err(format!("{before} and {word} exclude each other")),
                Some(_) => continue,
                None => {}
            }
            match word {
                "ro" => self.read_only = true,
                "z" => self.relabel = Some(Relabel::Shared),
                "Z" => self.relabel = Some(Relabel::Private),
                "nocopy" if matches!(self.source, Source::Host(_)) => {
                    return Err("nocopy is for volumes: nothing is copied to a path of the host".to_owned());
                }
                "nocopy" => self.nocopy = true,
                "idmap" => self.idmap = true,
                "bind" => self.recursive = false,
                "rw" | "rbind" => {}
                _ if word.ends_with("private") || word.ends_with("slave") || word.ends_with("shared") => {
                    self.propagation = word;
                }
                _ => self.flags.push(word),
            }
        }
        Ok(())
    }
}

/// Whether no two volumes are mounted at one place.
///
/// # Errors
/// [`Error::Refused`], which has the place.
pub fn check_destinations(requests: &[Request]) -> Result<()> {
    let mut seen = std::collections::BTreeSet::new();
    match requests.iter().find(|request| !seen.insert(&request.destination)) {
        Some(twice) => Err(Error::Refused(format!("--volume: two of them are mounted at {:?}", twice.destination))),
        None => Ok(()),
    }
}
