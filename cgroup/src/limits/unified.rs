//! Files of cgroup v2 by name: whatever the kernel has, with what it should hold.

use super::controller::Controller;
use crate::Cgroup;
use crate::error::Error;
use crate::resources::{check_unified_name, unified_limit};

/// In the given order. The kernel takes one line at a time; to the empty text it listens only as a line.
pub(crate) fn apply(cgroup: &Cgroup, files: &[(String, String)]) -> Result<(), Error> {
    for (name, value) in files {
        let limit = unified_limit(name);
        if let Err(reason) = check_unified_name(name) {
            return Err(Error::BadUnified { reason }.limit(limit));
        }
        let controller = Controller::unified(cgroup, &limit)?;
        let lines: Vec<&str> = lines(value);
        controller.set_all(&limit, name, &lines)?;
    }
    Ok(())
}

fn lines(value: &str) -> Vec<&str> {
    let lines: Vec<&str> = value.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() { vec!["\n"] } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_line_by_line() {
        assert_eq!(lines("8:0 rbps=1\n8:16 rbps=max\n"), ["8:0 rbps=1", "8:16 rbps=max"]);
        assert_eq!(lines("max"), ["max"]);
        assert_eq!([lines(""), lines("\n")], [["\n"], ["\n"]]);
    }

    #[test]
    fn names_are_those_of_limits() {
        for good in ["memory.high", "hugetlb.2MB.rsvd.max", "cgroup.max.descendants", "io.cost.qos", "new.thing"] {
            check_unified_name(good).unwrap();
        }
        for (bad, why) in [
            ("../memory.max", "path"),
            ("a/memory.max", "path"),
            ("memory", "form"),
            (".max", "form"),
            ("memory.", "form"),
            ("", "form"),
            ("memory.max\n", "name of a file"),
            ("cgroup.procs", "no limit"),
            ("cgroup.subtree_control", "no limit"),
            ("cgroup.kill", "no limit"),
        ] {
            let reason = check_unified_name(bad).unwrap_err();
            assert!(reason.contains(why), "{bad:?}: {reason}");
        }
    }
}
