//! `proa ps`: the processes of a container.

use super::{App, print, with_record};
use crate::error::{Error, Result};
use std::process::Command;

pub(super) fn command(app: &App<'_>) -> Result<()> {
    let json = match app.value("format").unwrap_or("table") {
        "table" => false,
        "json" => true,
        other => return Err(Error::Usage(format!("--format {other:?} is neither table nor json"))),
    };
    let pids = with_record(app, |_, dir, record| {
        if record.cgroup.is_disabled() {
            return Err(Error::Usage(format!("container {} has no cgroup to list the processes of", dir.id)));
        }
        match record.cgroup.open()? {
            Some(cgroup) => Ok(cgroup.procs()?),
            None => Ok(Vec::new()),
        }
    })?;
    if json {
        // As runc prints a list that has nothing.
        return if pids.is_empty() { print("null\n") } else { print(&super::json_line(&pids)?) };
    }
    let args = &app.parsed.args[1..];
    let args = if args.is_empty() { &["-ef"] } else { args };
    let output = Command::new("ps")
        .args(args)
        .output()
        .map_err(|error| Error::Usage(format!("ps {}: {error}", args.join(" "))))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
        return Err(Error::Usage(format!("ps {}: {}: {words}", args.join(" "), output.status)));
    }
    print(&filter(&String::from_utf8_lossy(&output.stdout), &pids)?)
}

/// The header and the lines whose PID is one of these.
fn filter(text: &str, pids: &[i32]) -> Result<String> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    let column = header
        .split_ascii_whitespace()
        .position(|word| word == "PID")
        .ok_or_else(|| Error::Usage(format!("the output of ps has no column PID: {header:?}")))?;
    let mut result = format!("{header}\n");
    for line in lines {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|word| word.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            result.push_str(line);
            result.push('\n');
        }
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines_by_pid() {
        let text = "UID PID CMD\nroot 1 init\nroot 12 sh 1\n";
        assert_eq!(super::filter(text, &[12]).unwrap(), "UID PID CMD\nroot 12 sh 1\n");
        assert!(super::filter("UID CMD\n", &[1]).is_err());
    }
}
