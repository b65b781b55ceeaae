//! Hooks of the runtime namespace and the state that every hook reads.

use crate::child::HookState;
use crate::error::{Error, Result};
use crate::hooks;
use crate::plan::Hook;
use crate::sys::StringArray;
use std::ffi::CString;

/// The state of runtime.md, without the pid.
pub(crate) struct HookDocument<'a> {
    pub oci_version: &'a str,
    pub id: &'a str,
    pub bundle: &'a str,
    pub annotations: Vec<(&'a str, &'a str)>,
}

impl HookDocument<'_> {
    /// The document around the pid.
    pub(crate) fn cut(&self, status: &str) -> HookState {
        let quote = |text: &str| serde_json::to_string(text).unwrap_or_default();
        let before = format!(
            "{{\"ociVersion\":{},\"id\":{},\"status\":{},\"pid\":",
            quote(self.oci_version),
            quote(self.id),
            quote(status)
        );
        let annotations: Vec<String> =
            self.annotations.iter().map(|(key, value)| format!("{}:{}", quote(key), quote(value))).collect();
        let after = format!(",\"bundle\":{},\"annotations\":{{{}}}}}", quote(self.bundle), annotations.join(","));
        HookState { before: before.into_bytes(), after: after.into_bytes() }
    }

    pub(super) fn whole(&self, status: &str, pid: i32) -> Vec<u8> {
        let HookState { mut before, after } = self.cut(status);
        before.extend_from_slice(pid.to_string().as_bytes());
        before.extend_from_slice(&after);
        before
    }
}

/// Runs a list in order, in the bundle; the first that fails ends it.
pub(crate) fn run(
    stage: &'static str,
    list: &[Hook],
    document: &HookDocument<'_>,
    status: &str,
    pid: i32,
) -> Result<()> {
    for (index, hook) in list.iter().enumerate() {
        run_one(stage, index, hook, document, status, pid)?;
    }
    Ok(())
}

/// Runs the poststop hooks in order; one that fails is warned about and the next one follows (runtime.md, Lifecycle 13).
/// The last that failed is left to the caller.
pub(crate) fn run_poststop(list: &[Hook], document: &HookDocument<'_>) -> Result<()> {
    let mut failed = None;
    for (index, hook) in list.iter().enumerate() {
        if let Err(error) = run_one("poststop", index, hook, document, "stopped", 0)
            && let Some(earlier) = failed.replace(error)
        {
            log::warn!("{earlier}");
        }
    }
    failed.map_or(Ok(()), Err)
}

fn run_one(
    stage: &'static str,
    index: usize,
    hook: &Hook,
    document: &HookDocument<'_>,
    status: &str,
    pid: i32,
) -> Result<()> {
    let state = document.whole(status, pid);
    let none = StringArray::new(Vec::new());
    let bundle = CString::new(document.bundle).unwrap_or_default();
    hooks::run(hook, &state, &none, Some(&bundle)).map_err(|failure| {
        let (what, number) = failure.kind.parts();
        Error::Hook {
            stage,
            index,
            path: hook.path.to_string(),
            problem: hooks::describe(what, number, &failure.output),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_json() {
        let document = HookDocument {
            oci_version: "1.3.0",
            id: "a",
            bundle: "/b \"c\"",
            annotations: vec![("k", "v\n"), ("l", "")],
        };
        let text = document.whole("creating", 7);
        let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(value["pid"], 7);
        assert_eq!(value["bundle"], "/b \"c\"");
        assert_eq!(value["annotations"]["k"], "v\n");
    }
}
