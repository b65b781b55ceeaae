//! Id maps of a user namespace: written for a new one, compared for one that was joined (user_namespaces(7)).

use crate::error::{Context, Error, Result, bad};
use crate::hooks;
use crate::plan::{Hook, IdMapping, IdMaps, Namespaces, text};
use crate::sys::StringArray;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// Answers a process that waits for its maps.
pub(crate) fn answer(pid: i32, namespaces: &Namespaces) -> Result<()> {
    if let Some(maps) = &namespaces.ids {
        write_both(pid, maps, "linux")?;
    }
    if let Some(expected) = &namespaces.expected_ids {
        compare(pid, "uid_map", &expected.uid, "linux.uidMappings")?;
        compare(pid, "gid_map", &expected.gid, "linux.gidMappings")?;
    }
    Ok(())
}

/// `owner` is the property that has the two lists.
pub(crate) fn write_both(pid: i32, maps: &IdMaps, owner: &str) -> Result<()> {
    give(pid, &UID, &maps.uid, &format!("{owner}.uidMappings"))?;
    give(pid, &GID, &maps.gid, &format!("{owner}.gidMappings"))
}

/// What is different for user and group ids.
struct Kind {
    file: &'static str,
    /// From shadow's uidmap: it may map what /etc/subuid or /etc/subgid gives the caller.
    program: &'static str,
}

const UID: Kind = Kind { file: "uid_map", program: "newuidmap" };
const GID: Kind = Kind { file: "gid_map", program: "newgidmap" };

/// By a write if the kernel allows it, as it does for root, and for others' own id alone if supplementary groups are
/// given up; else by the program that may do more.
fn give(pid: i32, kind: &Kind, map: &[IdMapping], property: &str) -> Result<()> {
    let refused = match write(pid, kind.file, map, property) {
        Err(error @ Error::Sys { errno: Errno::PERM, .. }) => error,
        done => return done,
    };
    if let [IdMapping { size: 1, host, .. }] = map
        && kind.file == GID.file
        && *host == rustix::process::getegid().as_raw()
    {
        let path = format!("/proc/{pid}/setgroups");
        std::fs::write(&path, "deny").context(|| format!("{property}: write {path}"))?;
        return write(pid, kind.file, map, property);
    }
    if rustix::process::geteuid().is_root() {
        return Err(refused);
    }
    map_by_program(pid, kind, map, property)
}

/// newuidmap(1) and newgidmap(1), with the caller's PATH.
fn map_by_program(pid: i32, kind: &Kind, map: &[IdMapping], property: &str) -> Result<()> {
    /// Seconds. It reads two files, and may ask a directory service.
    const PATIENCE: i64 = 30;
    let name = kind.program;
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain(["/usr/bin", "/bin"])
        .map(|dir| format!("{dir}/{name}"))
        .find(|path| path.starts_with('/') && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok());
    let Some(program) = found else {
        let problem =
            format!("an unprivileged user can map other ids than the own only with {name}, which is not here");
        return Err(bad(property, problem));
    };
    let ids = map.iter().flat_map(|map| [map.container, map.host, map.size]).map(|id| id.to_string());
    let words = [name.to_owned(), pid.to_string()].into_iter().chain(ids);
    let words = words.map(|word| text(property, &word)).collect::<Result<_>>()?;
    let (path, args) = (text(property, &program)?, StringArray::new(words));
    let hook = Hook { path, args, env: None, timeout: Some(PATIENCE) };
    hooks::run(&hook, &[], &StringArray::new(Vec::new()), None).map_err(|failure| {
        let (what, number) = failure.kind.parts();
        bad(property, format_args!("{program} {}", hooks::describe(what, number, &failure.output)))
    })
}

fn write(pid: i32, file: &str, map: &[IdMapping], property: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let lines = IdMaps::lines(map);
    // The kernel takes the map in one write or not at all.
    let written = openat(CWD, &path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::write(&file, lines.as_bytes()))
        .context(|| format!("{property}: write {path}"))?;
    if written == lines.len() { Ok(()) } else { Err(bad(property, format_args!("{path} took only a part"))) }
}

fn compare(pid: i32, file: &str, expected: &[IdMapping], property: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let mut text = vec![0u8; 16384];
    let length = crate::state::read_file(&path, &mut text).context(|| format!("read {path}"))?;
    let mut found = parse(&String::from_utf8_lossy(&text[..length]))
        .ok_or_else(|| Error::Usage(format!("{path} is not a list of id mappings")))?;
    let mut expected = expected.to_vec();
    found.sort_unstable_by_key(|m| m.container);
    expected.sort_unstable_by_key(|m| m.container);
    match found == expected {
        true => Ok(()),
        false => Err(bad(property, "differs from the mappings of the user namespace to join")),
    }
}

fn parse(text: &str) -> Option<Vec<IdMapping>> {
    text.lines()
        .map(|line| {
            let mut fields = line.split_ascii_whitespace().map(|field| field.parse().ok());
            Some(IdMapping { container: fields.next()??, host: fields.next()??, size: fields.next()?? })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernels_columns() {
        let map = super::parse("         0     100000      65536\n     65536          1          1\n").unwrap();
        assert_eq!((map[0].host, map[1].container), (100_000, 65536));
        assert!(super::parse("a b c\n").is_none());
    }
}
