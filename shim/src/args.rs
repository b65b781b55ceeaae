//! The command line that containerd gives a shim: Go's flags (`-id x`, `-id=x`, `--id x`), then an action.
//! Source: containerd's core/runtime/v2/README.md.

use std::path::PathBuf;

/// What the shim is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Action {
    /// Be the shim: serve on the socket that is passed as descriptor 3.
    #[default]
    Serve,
    /// Start a shim, or find the pod's, and print its address.
    Start,
    /// Clean up after a shim that has died.
    Delete,
    /// Tell what this shim and its runtime are.
    Info,
    /// Print the version.
    Version,
    /// Keep a pod's namespaces: of the shim's own use.
    Pause,
}

/// The command line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Args {
    /// What to do.
    pub(crate) action: Action,
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// The container, or the sandbox.
    pub(crate) id: String,
    /// containerd's gRPC socket.
    pub(crate) address: String,
    /// The bundle; the working directory where it is not given.
    pub(crate) bundle: Option<PathBuf>,
    /// Log more.
    pub(crate) debug: bool,
}

/// Reads the words after the program's name.
///
/// # Errors
/// One line about the first word that cannot be understood.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Args, String> {
    let mut args = Args::default();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            args.action = match word.as_str() {
                "start" => Action::Start,
                "delete" => Action::Delete,
                "pause" => Action::Pause,
                other => return Err(format!("unknown action {other:?}: start, delete, or none to serve")),
            };
            continue;
        };
        let (name, inline) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        match name {
            "v" | "version" => args.action = Action::Version,
            "info" => args.action = Action::Info,
            "debug" => args.debug = inline.is_none_or(|value| value == "true" || value == "1"),
            "namespace" | "id" | "address" | "bundle" | "socket" | "debug-socket" | "publish-binary" => {
                let value = inline.or_else(|| words.next()).ok_or_else(|| format!("-{name} wants a value"))?;
                match name {
                    "namespace" => args.namespace = value,
                    "id" => args.id = value,
                    "address" => args.address = value,
                    "bundle" => args.bundle = Some(value.into()),
                    // The socket is inherited, events go to containerd's own.
                    _ => {}
                }
            }
            _ => return Err(format!("unknown flag -{name}")),
        }
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Args, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn containerds_own_line() {
        let args = of("-namespace k8s.io -address /run/c.sock -publish-binary /bin/c -id=abc -debug start").unwrap();
        assert_eq!(args.action, Action::Start);
        assert_eq!((args.namespace.as_str(), args.id.as_str(), args.debug), ("k8s.io", "abc", true));
        assert_eq!(args.address, "/run/c.sock");
        assert_eq!(of("--id x -bundle /b delete").unwrap().bundle, Some("/b".into()));
    }

    #[test]
    fn mistakes() {
        assert!(of("-id").unwrap_err().contains("-id"));
        assert!(of("-nope").unwrap_err().contains("nope"));
        assert!(of("begin").unwrap_err().contains("begin"));
        assert_eq!(of("-debug=false").unwrap().debug, false);
    }
}
