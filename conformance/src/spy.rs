//! CVE-2016-9962: who may trace the processes of a container sees what one that enters has open, from its first moment.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::look;
use crate::test::{Skip, Test};

/// Executes something 150 times, called in the directory `caller`, in a container that watches, and returns those
/// directories of the host that it has seen, as device and inode: that one, the root, the runtime's state, cgroups.
///
/// # Errors
/// The machine cannot build what watches.
#[track_caller]
pub fn host_directories_seen(t: &Test<'_>, caller: &Path) -> Result<Vec<String>, Skip> {
    let seen = t.make_dir("seen");
    let mut bundle = t.bundle();
    bundle.capabilities(&["CAP_SYS_PTRACE"]).bind(&seen, "/seen", &["bind"]);
    t.probe(&bundle, "spy")?;
    bundle.sh("exec /bin/spy >/seen/log");
    let c = t.start(&bundle);
    look::eventually("the spy to watch", || fs::read_to_string(seen.join("log")).is_ok_and(|log| !log.is_empty()));
    for _ in 0..150 {
        c.exec(&["/bin/true"]).cwd(caller).output().ok();
    }
    c.kill("KILL");
    c.wait();
    let name = |path: &Path| fs::metadata(path).map(|meta| format!("{}:{}", meta.dev(), meta.ino())).ok();
    let state = t.runtime.root.join(&c.id);
    let mut host: Vec<_> =
        [caller, &t.runtime.root, &state, Path::new("/")].iter().filter_map(|path| name(path)).collect();
    host.extend(look::cgroup_dirs().iter().filter_map(|path| name(path)));
    let log = fs::read_to_string(seen.join("log")).expect("no log");
    Ok(log.lines().filter(|line| host.iter().any(|name| name == line)).map(str::to_owned).collect())
}
