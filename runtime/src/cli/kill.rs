//! `proa kill`.

use super::{App, with_record};
use crate::error::{Error, Result};

/// Names without SIG, at their numbers on x86 and arm.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];
const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("CLD", 17), ("POLL", 29), ("UNUSED", 31)];
/// The first real-time signal that the C library leaves to programs, and the last.
const REAL_TIME: (i32, i32) = (34, 64);

pub(super) fn command(app: &App<'_>) -> Result<()> {
    let word = app.parsed.args.get(1).copied().filter(|word| !word.is_empty()).unwrap_or("SIGTERM");
    let signal = parse(word).ok_or_else(|| Error::Usage(format!("unknown signal {word:?}")))?;
    let all = app.flag("all");
    with_record(app, |_, dir, record| {
        let Some(init) = record.init.map(|init| init.open(record)).transpose()?.flatten() else {
            // Processes can outlive an init without a pid namespace, and engines end them so; any other signal is
            // refused, as the container does not run (runtime.md, Kill). With one, what is in the cgroup is not its own.
            let ending = !record.own_pid_namespace() && (all || signal == libc::SIGKILL);
            if ending
                && !record.cgroup.is_disabled()
                && let Some(cgroup) = record.cgroup.open()?
                && !cgroup.procs()?.is_empty()
            {
                return Ok(cgroup.signal(signal)?);
            }
            return if all { Ok(()) } else { Err(Error::NotRunning(dir.id.clone())) };
        };
        let kill = signal == libc::SIGKILL;
        if (all || (kill && !record.own_pid_namespace()))
            && !record.cgroup.is_disabled()
            && let Some(cgroup) = record.cgroup.open()?
        {
            match kill {
                true => cgroup.kill()?,
                false => cgroup.signal(signal)?,
            }
            return Ok(());
        }
        if !init.signal(signal)? {
            return Err(Error::NotRunning(dir.id.clone()));
        }
        // On cgroup v1 a frozen process dies only once it is thawed, whoever has frozen it.
        if kill && let Some(cgroup) = record.cgroup.open()? {
            cgroup.let_die()?;
        }
        Ok(())
    })
}

/// A number, or a name in any case, with or without SIG.
pub(super) fn parse(word: &str) -> Option<i32> {
    if let Ok(number) = word.parse::<i32>() {
        return (0..=REAL_TIME.1).contains(&number).then_some(number);
    }
    let upper = word.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return Some(at as i32 + 1);
    }
    if let Some((_, number)) = ALIASES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let (first, last) = REAL_TIME;
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => first,
        (Some(plus), _) => first + plus.strip_prefix('+')?.parse::<i32>().ok()?,
        (_, Some("")) => last,
        (_, Some(minus)) => last - minus.strip_prefix('-')?.parse::<i32>().ok()?,
        _ => return None,
    };
    (first..=last).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn signals() {
        for (word, number) in [
            ("TERM", 15),
            ("SIGTERM", 15),
            ("sigkill", 9),
            ("9", 9),
            ("RTMIN+3", 37),
            ("SIGRTMAX-1", 63),
            ("WINCH", 28),
            ("0", 0),
        ] {
            assert_eq!(parse(word), Some(number), "{word}");
        }
        for word in ["", "SIG", "FOO", "-1", "65", "RTMIN+99", "RTMIN3", "RTMAX+1"] {
            assert_eq!(parse(word), None, "{word}");
        }
    }
}
