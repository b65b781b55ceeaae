//! `proa checkpoint`, and the flags that it shares with `restore`.

use super::{App, with_record};
use crate::checkpoint::{self, CgroupMode, Dump, Flags, PageServerAddress};
use crate::error::{Context, Error, Result, bad};
use crate::state::{Status, view};
use std::path::PathBuf;

pub(super) fn command(app: &App<'_>) -> Result<()> {
    let number = |name: &str| -> Result<Option<i32>> {
        let parse = |text: &str| text.parse().ok().filter(|number| *number >= 0);
        app.value(name)
            .map(|text| parse(text).ok_or_else(|| bad(format_args!("--{name}"), format_args!("{text:?} is no number"))))
            .transpose()
    };
    let request = Dump {
        flags: flags(app)?,
        leave_running: app.flag("leave-running"),
        pre_dump: app.flag("pre-dump"),
        parent_path: app.value("parent-path").map(str::to_owned),
        tcp_skip_in_flight: app.flag("tcp-skip-in-flight"),
        link_remap: app.flag("link-remap"),
        status_fd: number("status-fd")?,
        page_server: app.value("page-server").map(page_server).transpose()?,
    };
    if request.flags.lazy_pages && (request.leave_running || request.pre_dump) {
        return Err(Error::Usage("--lazy-pages: the memory is served by a container that has ended".to_owned()));
    }
    with_record(app, |root, dir, record| {
        dir.lock()?;
        let (status, init) = view(dir, record)?;
        match (status, init) {
            (Status::Running | Status::Paused, Some(init)) => checkpoint::dump(root, dir, record, &init, &request),
            (Status::Stopped, _) => Err(Error::NotRunning(dir.id.clone())),
            (status, _) => {
                Err(Error::Status { verb: "checkpoint", article: "a", status: status.word(), id: dir.id.clone() })
            }
        }
    })
}

/// Those that both commands have.
pub(super) fn flags(app: &App<'_>) -> Result<Flags> {
    let absolute = |name: &str, path: &str| std::path::absolute(path).context(|| format!("--{name} {path:?}"));
    let image_path: PathBuf = absolute("image-path", app.value("image-path").unwrap_or("checkpoint"))?;
    let cgroup_mode = app.value("manage-cgroups-mode").map(|word| match word {
        "soft" => Ok(CgroupMode::Soft),
        "full" => Ok(CgroupMode::Full),
        "strict" => Ok(CgroupMode::Strict),
        "ignore" => Ok(CgroupMode::Ignore),
        _ => Err(bad("--manage-cgroups-mode", format_args!("{word:?} is none of soft, full, strict, ignore"))),
    });
    let mut empty_namespaces = 0;
    for word in app.parsed.values.all("empty-ns") {
        match word {
            "network" => empty_namespaces |= libc::CLONE_NEWNET,
            _ => {
                return Err(bad("--empty-ns", format_args!("{word:?} is not network, the only one that can be empty")));
            }
        }
    }
    Ok(Flags {
        image_path,
        work_path: app.value("work-path").map(|path| absolute("work-path", path)).transpose()?,
        tcp_established: app.flag("tcp-established"),
        ext_unix_sk: app.flag("ext-unix-sk"),
        shell_job: app.flag("shell-job"),
        file_locks: app.flag("file-locks"),
        lazy_pages: app.flag("lazy-pages"),
        auto_dedup: app.flag("auto-dedup"),
        cgroup_mode: cgroup_mode.transpose()?,
        empty_namespaces,
    })
}

/// `ADDRESS:PORT`; the address may be one of IPv6, in brackets or not.
fn page_server(text: &str) -> Result<PageServerAddress> {
    let wrong = || bad("--page-server", format_args!("{text:?} is not ADDRESS:PORT"));
    let (address, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    match address.is_empty() {
        true => Err(wrong()),
        false => Ok(PageServerAddress { address: address.to_owned(), port }),
    }
}

#[cfg(test)]
mod tests {
    use super::page_server;

    #[test]
    fn addresses() {
        let of = |text| page_server(text).map(|server| (server.address, server.port)).ok();
        assert_eq!(of("10.0.0.1:27"), Some(("10.0.0.1".to_owned(), 27)));
        assert_eq!(of("[::1]:27"), Some(("::1".to_owned(), 27)));
        for bad in ["10.0.0.1", ":27", "a:0", "a:65536", "a:b", ""] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
