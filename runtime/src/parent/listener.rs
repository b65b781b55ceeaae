//! `linux.seccomp.listenerPath`: gives the descriptor of a filter's listener away, with the container process state
//! (config-linux.md, The Container Process State).

use super::hooks::HookDocument;
use super::sockets;
use crate::error::{Context, Result, bad, text};
use crate::plan::Listener;
use crate::sync::send_descriptor;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

/// The process that has loaded the filter.
pub(super) struct Filtered<'a> {
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
    /// The listener's descriptor in that process.
    pub number: i32,
}

/// One connection, one message. pidfd_getfd(2) is Linux 5.6, and leaves the process itself nothing to do but say a number,
/// which a filter is less likely to forbid than a message with a descriptor.
pub(super) fn deliver(
    listener: &Listener,
    process: &Filtered<'_>,
    container: &HookDocument<'_>,
    status: &str,
    init: i32,
) -> Result<()> {
    let what = || format!("linux.seccomp: take the listener from process {}", process.pid);
    let fd = pidfd_getfd(process.pidfd, process.number, PidfdGetfdFlags::empty()).context(what)?;
    let property = format!("linux.seccomp.listenerPath {:?}", listener.path);
    // An errno of these must not be taken for one that tells of the end of the container's process.
    let failed = |what: &str, errno| bad(&property, format_args!("{what}: {}", text(errno)));
    let socket = sockets::stream(&listener.path).map_err(|errno| failed("connect", errno))?;
    let message = document(listener.metadata.as_deref(), process.pid, container, status, init);
    send_descriptor(socket.as_fd(), &message, fd.as_fd()).map_err(|errno| failed("send", errno))
}

fn document(metadata: Option<&str>, pid: i32, container: &HookDocument<'_>, status: &str, init: i32) -> Vec<u8> {
    let quote = |text: &str| serde_json::to_string(text).unwrap_or_default();
    let metadata = metadata.map(|metadata| format!("\"metadata\":{},", quote(metadata))).unwrap_or_default();
    let head = format!("\"ociVersion\":{},\"fds\":[\"seccompFd\"],\"pid\":{pid}", quote(container.oci_version));
    let mut text = format!("{{{head},{metadata}\"state\":").into_bytes();
    text.extend_from_slice(&container.whole(status, init));
    text.push(b'}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_json() {
        let container = HookDocument { oci_version: "1.3.0", id: "a", bundle: "/b", annotations: Vec::new() };
        let value = |metadata| -> serde_json::Value {
            serde_json::from_slice(&document(metadata, 8, &container, "running", 7)).unwrap()
        };
        let expected = serde_json::json!({
            "ociVersion": "1.3.0", "fds": ["seccompFd"], "pid": 8, "metadata": "m\"",
            "state": {"ociVersion": "1.3.0", "id": "a", "status": "running", "pid": 7, "bundle": "/b", "annotations": {}},
        });
        assert_eq!(value(Some("m\"")), expected);
        assert!(value(None).get("metadata").is_none());
    }
}
