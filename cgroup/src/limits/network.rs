//! The `net_cls` and `net_prio` controllers of cgroup v1: marks on packets. cgroup v2 has no such files.

use super::controller::Controller;
use crate::error::Error;

/// The class that traffic control sees.
pub(crate) fn apply_class(files: &Controller<'_>, class: u32) -> Result<(), Error> {
    files.set("network.classID", "net_cls.classid", class)
}

/// Priorities by the names that devices have in this process's network namespace.
pub(crate) fn apply_priorities(files: &Controller<'_>, priorities: &[(String, u32)]) -> Result<(), Error> {
    for (index, (name, priority)) in priorities.iter().enumerate() {
        let limit = format!("network.priorities[{index}]");
        files.set(&limit, "net_prio.ifpriomap", format_args!("{name} {priority}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn each_device_is_a_line() {
        let fake = Fake::new(&[("net_prio.ifpriomap", ""), ("net_cls.classid", "0")]);
        apply_priorities(&fake.v1(), &[("lo".into(), 2), ("eth0".into(), 0)]).unwrap();
        apply_class(&fake.v1(), 0x10_0001).unwrap();
        assert_eq!(fake.log(), ["net_prio.ifpriomap=lo 2", "net_prio.ifpriomap=eth0 0", "net_cls.classid=1048577"]);
    }
}
