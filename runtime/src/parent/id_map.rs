//! Id maps of a user namespace: written for a new one, compared for one that was joined (user_namespaces(7)).

use crate::error::{Context, Error, Result, bad};
use crate::plan::{IdMapping, IdMaps, Namespaces};
use rustix::fs::{CWD, Mode, OFlags, openat};

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
pub(super) fn write_both(pid: i32, maps: &IdMaps, owner: &str) -> Result<()> {
    write(pid, "uid_map", &maps.uid, &format!("{owner}.uidMappings"))?;
    write(pid, "gid_map", &maps.gid, &format!("{owner}.gidMappings"))
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
