//! The `memory` controller: memory and swap, in bytes.

use rustix::io::Errno;

use super::controller::{Controller, Version};
use crate::Cgroup;
use crate::error::Error;
use crate::resources::{Limit, Memory};

/// Everything that is set.
pub(crate) fn apply(files: &Controller<'_>, memory: &Memory) -> Result<(), Error> {
    match files.version {
        Version::V1 => apply_v1(files, memory),
        Version::V2 => apply_v2(files, memory),
    }
}

/// A limit as cgroup v1 has it.
fn v1(limit: Limit) -> String {
    match limit {
        Limit::Unlimited => "-1".to_owned(),
        Limit::Of(bytes) => bytes.to_string(),
    }
}

fn apply_v1(files: &Controller<'_>, memory: &Memory) -> Result<(), Error> {
    if let Some(all) = memory.use_hierarchy {
        files.set("memory.useHierarchy", "memory.use_hierarchy", u8::from(all))?;
    }
    if let Some(disabled) = memory.disable_oom_killer {
        files.set("memory.disableOOMKiller", "memory.oom_control", u8::from(disabled))?;
    }
    if let Some(swappiness) = memory.swappiness {
        files.set("memory.swappiness", "memory.swappiness", swappiness)?;
    }
    if let Some(bytes) = memory.kernel_tcp {
        files.set("memory.kernelTCP", "memory.kmem.tcp.limit_in_bytes", v1(bytes))?;
    }
    limit_and_swap_v1(files, memory.limit, memory.swap)?;
    match memory.reservation {
        Some(bytes) => files.set("memory.reservation", "memory.soft_limit_in_bytes", v1(bytes)),
        None => Ok(()),
    }
}

/// The limit on memory with swap may at no moment be below that on memory: the one that grows goes first.
fn limit_and_swap_v1(files: &Controller<'_>, limit: Option<Limit>, swap: Option<Limit>) -> Result<(), Error> {
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    let set_limit = |limit| set_limit_v1(files, limit);
    let set_swap = |swap| files.set("memory.swap", SWAP, v1(swap));
    match (limit, swap) {
        // No limit on memory, so none on both; a kernel that does not count swap has none.
        (Some(Limit::Unlimited), None | Some(Limit::Unlimited)) => {
            match files.try_set(SWAP, -1) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(files.failure("memory.swap", SWAP, "-1", errno)),
            }
            set_limit(Limit::Unlimited)
        }
        (Some(limit), Some(Limit::Unlimited)) => {
            set_swap(Limit::Unlimited)?;
            set_limit(limit)
        }
        (Some(limit), Some(Limit::Of(swap))) => {
            if files.number("memory.limit", "memory.limit_in_bytes")? <= swap {
                set_swap(Limit::Of(swap))?;
                set_limit(limit)
            } else {
                set_limit(limit)?;
                set_swap(Limit::Of(swap))
            }
        }
        (Some(limit), None) => set_limit(limit),
        (None, Some(swap)) => set_swap(swap),
        (None, None) => Ok(()),
    }
}

/// cgroup v1 refuses a limit below what is in use and cannot be reclaimed.
fn set_limit_v1(files: &Controller<'_>, limit: Limit) -> Result<(), Error> {
    const LIMIT: &str = "memory.limit_in_bytes";
    match files.try_set(LIMIT, v1(limit)) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => {
            let number = |file| files.number("memory.limit", file);
            let (usage, peak) = (number("memory.usage_in_bytes")?, number("memory.max_usage_in_bytes")?);
            Err(Error::MemoryInUse { limit: v1(limit), usage, peak }.limit("memory.limit"))
        }
        Err(errno) => Err(files.failure("memory.limit", LIMIT, &v1(limit), errno)),
    }
}

fn apply_v2(files: &Controller<'_>, memory: &Memory) -> Result<(), Error> {
    if let Some((name, _)) = memory.v1_only().into_iter().find(|(_, set)| *set) {
        return Err(Error::no_v1("memory").limit(name));
    }
    if memory.check_before_update {
        check_usage(files, memory)?;
    }
    const SWAP: &str = "memory.swap.max";
    if let Some(swap) = swap_v2(memory.limit, memory.swap).map_err(|reason| reason.limit("memory.swap"))? {
        match files.try_set(SWAP, swap) {
            // A kernel that does not count swap gives as much as there is, or there is none.
            Err(Errno::NOENT) if matches!(swap, Limit::Unlimited | Limit::Of(0)) && has_controller(files) => {}
            Err(errno) => return Err(files.failure("memory.swap", SWAP, &swap.to_string(), errno)),
            Ok(()) => {}
        }
    }
    if let Some(limit) = memory.limit {
        files.set("memory.limit", "memory.max", limit)?;
    }
    match memory.reservation {
        Some(bytes) => files.set("memory.reservation", "memory.low", bytes),
        None => Ok(()),
    }
}

/// Asked only where the file for swap is missing.
fn has_controller(files: &Controller<'_>) -> bool {
    files.get("memory.swap", "memory.max").is_ok()
}

/// What cgroup v2 counts as swap is without the memory.
pub(crate) fn swap_v2(limit: Option<Limit>, swap: Option<Limit>) -> Result<Option<Limit>, Error> {
    match (limit, swap) {
        (Some(Limit::Unlimited), None) | (_, Some(Limit::Unlimited)) => Ok(Some(Limit::Unlimited)),
        (_, None) => Ok(None),
        (Some(Limit::Unlimited), Some(swap)) => Ok(Some(swap)),
        (Some(Limit::Of(limit)), Some(Limit::Of(swap))) => {
            swap.checked_sub(limit).map(|swap| Some(Limit::Of(swap))).ok_or(Error::SwapBelowLimit { swap, limit })
        }
        (None, Some(Limit::Of(_))) => Err(Error::SwapWithoutLimit),
    }
}

/// cgroup v2 takes a limit below what is in use, and kills for it.
fn check_usage(files: &Controller<'_>, memory: &Memory) -> Result<(), Error> {
    let given = [("memory.swap", "memory+swap", memory.swap), ("memory.limit", "memory", memory.limit)];
    if !given.iter().any(|(_, _, limit)| matches!(limit, Some(Limit::Of(_)))) {
        return Ok(());
    }
    let usage = files.number("memory.checkBeforeUpdate", "memory.current")?;
    for (name, what, limit) in given {
        match limit {
            Some(Limit::Of(limit)) if limit <= usage => {
                return Err(Error::BelowUsage { what, limit, usage }.limit(name));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is in force. cgroup v1 says "none" by the largest number of whole pages.
pub(crate) fn memory_limit(cgroup: &Cgroup) -> Result<Option<Limit>, Error> {
    const NONE: u64 = i64::MAX as u64 & !0xffff;
    let files = Controller::of(cgroup, "memory", "memory")?;
    let file = match files.version {
        Version::V1 => "memory.limit_in_bytes",
        Version::V2 => "memory.max",
    };
    match files.number("memory", file) {
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        Ok(bytes) if bytes >= NONE => Ok(Some(Limit::Unlimited)),
        bytes => Ok(Some(Limit::Of(bytes?))),
    }
}

/// How many processes of the cgroup, and of cgroups below, were killed for want of memory.
pub(crate) fn oom_kills(cgroup: &Cgroup) -> Result<u64, Error> {
    let files = Controller::of(cgroup, "memory", "memory")?;
    let file = match files.version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    let text = match files.get("memory", file) {
        // No controller, or no cgroup any more.
        Err(error) if matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV)) => return Ok(0),
        text => text?,
    };
    let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
    Ok(count.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;
    use Limit::{Of, Unlimited};

    const MAX: &str = "9223372036854771712";

    fn kernel_v1(limit: &str, memsw: &str) -> Fake {
        let files = [
            ("memory.limit_in_bytes", limit),
            ("memory.memsw.limit_in_bytes", memsw),
            ("memory.soft_limit_in_bytes", MAX),
            ("memory.swappiness", "60"),
            ("memory.kmem.tcp.limit_in_bytes", MAX),
            ("memory.oom_control", "0"),
            ("memory.usage_in_bytes", "8192"),
            ("memory.max_usage_in_bytes", "9000"),
        ];
        Fake::new(&files).with_rule(|files, name, value| {
            let number = |text: &str| if text == "-1" { u64::MAX } else { text.parse().unwrap_or(u64::MAX) };
            let (limit, memsw) =
                (number(&files["memory.limit_in_bytes"]), number(&files["memory.memsw.limit_in_bytes"]));
            match name {
                "memory.limit_in_bytes" if number(value) > memsw => Some(Errno::INVAL),
                "memory.memsw.limit_in_bytes" if number(value) < limit => Some(Errno::INVAL),
                "memory.limit_in_bytes" if number(value) < 8192 => Some(Errno::BUSY),
                _ => None,
            }
        })
    }

    fn memory(limit: impl Into<Option<Limit>>, swap: impl Into<Option<Limit>>) -> Memory {
        Memory { limit: limit.into(), swap: swap.into(), ..Memory::default() }
    }

    #[test]
    fn v1_raises_and_lowers_both_limits_in_the_order_that_the_kernel_takes() {
        let cases = [
            // A new cgroup, raised, lowered, and set free.
            ((MAX, MAX), memory(Of(20_000), Of(40_000)), ["limit=20000", "memsw=40000"]),
            (("20000", "40000"), memory(Of(60_000), Of(80_000)), ["memsw=80000", "limit=60000"]),
            (("60000", "80000"), memory(Of(20_000), Of(20_000)), ["limit=20000", "memsw=20000"]),
            (("20000", "20000"), memory(Of(60_000), Unlimited), ["memsw=-1", "limit=60000"]),
            (("20000", "20000"), memory(Unlimited, None), ["memsw=-1", "limit=-1"]),
        ];
        for ((limit, memsw), memory, expected) in cases {
            let fake = kernel_v1(limit, memsw);
            apply(&fake.v1(), &memory).unwrap();
            let log: Vec<String> =
                fake.log().iter().map(|line| line.replace("memory.", "").replace(".limit_in_bytes", "")).collect();
            assert_eq!(log.iter().map(|line| line.replace("limit_in_bytes", "limit")).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn v1_without_swap_accounting_takes_no_limit_on_it_and_refuses_one() {
        let files = [("memory.limit_in_bytes", MAX)];
        let fake = Fake::new(&files);
        apply(&fake.v1(), &memory(Unlimited, None)).unwrap();
        assert_eq!(fake.log(), ["memory.limit_in_bytes=-1"]);
        let error = apply(&Fake::new(&files).v1(), &memory(Of(1), Of(2))).unwrap_err().to_string();
        assert!(error.starts_with("linux.resources.memory.swap: /fake/memory.memsw.limit_in_bytes "), "{error}");
    }

    #[test]
    fn v1_says_what_is_in_use_where_a_limit_is_too_low() {
        let error = apply(&kernel_v1(MAX, MAX).v1(), &memory(Of(4096), None)).unwrap_err().to_string();
        assert_eq!(
            error,
            "linux.resources.memory.limit: unable to set memory limit to 4096 (current usage: 8192, peak usage: 9000)"
        );
    }

    #[test]
    fn v1_has_the_rest() {
        let fake = kernel_v1(MAX, MAX);
        let rest = Memory {
            reservation: Some(Of(9000)),
            swappiness: Some(0),
            disable_oom_killer: Some(true),
            kernel_tcp: Some(Unlimited),
            ..Memory::default()
        };
        apply(&fake.v1(), &rest).unwrap();
        let expected = [
            "memory.oom_control=1",
            "memory.swappiness=0",
            "memory.kmem.tcp.limit_in_bytes=-1",
            "memory.soft_limit_in_bytes=9000",
        ];
        assert_eq!(fake.log(), expected);
    }

    fn kernel_v2() -> Fake {
        Fake::new(&[("memory.max", "max"), ("memory.swap.max", "max"), ("memory.low", "0"), ("memory.current", "8192")])
    }

    #[test]
    fn v2_counts_swap_without_memory() {
        let cases = [
            (memory(Of(30_000), Of(50_000)), vec!["memory.swap.max=20000", "memory.max=30000"]),
            (memory(Of(30_000), Of(30_000)), vec!["memory.swap.max=0", "memory.max=30000"]),
            (memory(Of(30_000), Unlimited), vec!["memory.swap.max=max", "memory.max=30000"]),
            (memory(Of(30_000), None), vec!["memory.max=30000"]),
            (memory(Unlimited, None), vec!["memory.swap.max=max", "memory.max=max"]),
            (memory(Unlimited, Of(70)), vec!["memory.swap.max=70", "memory.max=max"]),
            (memory(None, Unlimited), vec!["memory.swap.max=max"]),
            (Memory { reservation: Some(Of(7)), ..Memory::default() }, vec!["memory.low=7"]),
        ];
        for (memory, expected) in cases {
            let fake = kernel_v2();
            apply(&fake.v2(), &memory).unwrap();
            assert_eq!(fake.log(), expected);
        }
        for (memory, why) in [(memory(Of(9), Of(8)), "below"), (memory(None, Of(8)), "memory.limit")] {
            let error = apply(&kernel_v2().v2(), &memory).unwrap_err().to_string();
            assert!(error.starts_with("linux.resources.memory.swap: ") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn v2_without_swap_accounting_has_no_need_of_none() {
        let files = [("memory.max", "max")];
        let fake = Fake::new(&files);
        apply(&fake.v2(), &memory(Of(30_000), Of(30_000))).unwrap();
        assert_eq!(fake.log(), ["memory.max=30000"]);
        let error = apply(&Fake::new(&files).v2(), &memory(Of(3), Of(5))).unwrap_err().to_string();
        assert!(error.starts_with("linux.resources.memory.swap: "), "{error}");
        // Without the controller nothing is taken for granted.
        apply(&Fake::new(&[]).v2(), &memory(Unlimited, Unlimited)).unwrap_err();
    }

    #[test]
    fn v2_refuses_what_only_v1_has() {
        for (memory, name) in [
            (Memory { swappiness: Some(10), ..Memory::default() }, "swappiness"),
            (Memory { disable_oom_killer: Some(true), ..Memory::default() }, "disableOOMKiller"),
        ] {
            let error = apply(&kernel_v2().v2(), &memory).unwrap_err().to_string();
            assert!(error.starts_with(&format!("linux.resources.memory.{name}: ")), "{error}");
        }
        let fake = kernel_v2();
        let nothing = Memory { disable_oom_killer: Some(false), use_hierarchy: Some(true), ..Memory::default() };
        apply(&fake.v2(), &nothing).unwrap();
        assert!(fake.log().is_empty());
    }

    #[test]
    fn v2_checks_usage_only_when_told_to() {
        let fake = kernel_v2();
        apply(&fake.v2(), &memory(Of(4096), None)).unwrap();
        let check = |memory| Memory { check_before_update: true, ..memory };
        let error = apply(&kernel_v2().v2(), &check(memory(Of(4096), None))).unwrap_err().to_string();
        assert_eq!(error, "linux.resources.memory.limit: rejecting memory limit 4096 <= usage 8192");
        let error = apply(&kernel_v2().v2(), &check(memory(Of(4096), Of(8192)))).unwrap_err().to_string();
        assert_eq!(error, "linux.resources.memory.swap: rejecting memory+swap limit 8192 <= usage 8192");
        apply(&kernel_v2().v2(), &check(memory(Of(9000), Unlimited))).unwrap();
    }
}
