//! The texts of `--help`, made from the tables when asked for, in the shape known from runc.
//!
//! Man pages are not made here but by the build script.

use super::table::{ABOUT, COMMANDS, Command, DETAILS, EXIT_STATUS, Flag, GLOBAL, HELP, VERSION};

/// Where lines end.
const WIDTH: usize = 80;
/// What all text but headings is moved in by.
const INDENT: usize = 3;
/// What the second column starts at if the first would push it further.
const MAX_COLUMN: usize = 32;

/// The help text of a command or of the program, with a newline at its end.
pub(crate) fn text(command: Option<&Command>) -> String {
    let mut out = String::new();
    match command {
        Some(command) => command_text(&mut out, command),
        None => program_text(&mut out),
    }
    out
}

fn program_text(out: &mut String) {
    heading(out, "NAME");
    paragraph(out, &format!("proa - {ABOUT}"));
    heading(out, "USAGE");
    paragraph(out, "proa [global options] <command> [options] [arguments]");
    heading(out, "VERSION");
    paragraph(out, env!("CARGO_PKG_VERSION"));
    heading(out, "DESCRIPTION");
    DETAILS.lines().for_each(|line| paragraph(out, line));
    heading(out, "COMMANDS");
    let commands = COMMANDS.iter().filter(|command| !command.hidden);
    let help = ("help, h".to_owned(), "show help on a command");
    let rows = commands.map(|command| (command.name.to_owned(), command.about));
    columns(out, rows.chain([help]).collect());
    heading(out, "GLOBAL OPTIONS");
    options(out, GLOBAL.iter().chain([&HELP, &VERSION]));
    heading(out, "EXIT STATUS");
    EXIT_STATUS.lines().for_each(|line| paragraph(out, line));
}

fn command_text(out: &mut String, command: &Command) {
    heading(out, "NAME");
    paragraph(out, &format!("proa {} - {}", command.name, command.about));
    heading(out, "USAGE");
    let space = if command.args.is_empty() { "" } else { " " };
    paragraph(out, &format!("proa {} [options]{space}{}", command.name, command.args));
    if !command.details.is_empty() {
        heading(out, "DESCRIPTION");
        command.details.lines().for_each(|line| paragraph(out, line));
    }
    heading(out, "OPTIONS");
    options(out, command.flags.iter().chain([&HELP]));
}

/// A heading, with an empty line between it and what came before.
fn heading(out: &mut String, title: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    out.push_str(title);
    out.push_str(":\n");
}

fn paragraph(out: &mut String, text: &str) {
    out.extend([" "; INDENT]);
    wrap(out, text, INDENT);
}

fn options<'a>(out: &mut String, flags: impl Iterator<Item = &'a Flag>) {
    let rows = flags.filter(|flag| !flag.hidden).map(|flag| (flag_usage(flag), flag.help));
    columns(out, rows.collect());
}

/// How a flag is written, such as `--bundle DIR, -b DIR`.
fn flag_usage(flag: &Flag) -> String {
    let value = flag.value.map(|value| format!(" {value}")).unwrap_or_default();
    match flag.short {
        Some(short) => format!("--{}{value}, -{}{value}", flag.long, char::from(short)),
        None => format!("--{}{value}", flag.long),
    }
}

/// Two columns, the second wrapped; a row too long for its first column goes on below.
fn columns(out: &mut String, rows: Vec<(String, &str)>) {
    let longest = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    let column = (INDENT + longest + 2).min(MAX_COLUMN);
    for (left, right) in rows {
        out.extend([" "; INDENT]);
        out.push_str(&left);
        let mut at = INDENT + left.len();
        if at + 2 > column {
            out.push('\n');
            at = 0;
        }
        out.extend(std::iter::repeat_n(' ', column - at));
        wrap(out, right, column);
    }
}

/// The text, its first word at column `indent` where `out` already is, as are all further lines.
fn wrap(out: &mut String, text: &str, indent: usize) {
    let mut at = indent;
    for (number, word) in text.split(' ').enumerate() {
        if number > 0 && at + 1 + word.len() > WIDTH {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            at = indent;
        } else if number > 0 {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += word.len();
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_lists_its_commands_and_flags() {
        let help = text(None);
        for command in COMMANDS {
            let listed = help.contains(&format!("\n   {} ", command.name));
            assert_eq!(listed, !command.hidden, "{}", command.name);
        }
        for flag in GLOBAL.iter().chain([&HELP, &VERSION]) {
            assert!(help.contains(&format!("\n   --{}", flag.long)), "{}", flag.long);
        }
        assert!(help.starts_with("NAME:\n   proa - Open Container Initiative runtime\n\nUSAGE:\n"));
    }

    #[test]
    fn a_command_lists_its_flags_but_not_the_hidden_ones() {
        for command in COMMANDS {
            let help = text(Some(command));
            for flag in command.flags {
                let shown = help.contains(&format!("\n   {}", flag_usage(flag)));
                assert_eq!(shown, !flag.hidden, "{} --{}", command.name, flag.long);
            }
            assert!(help.contains("--help, -h"), "{}", command.name);
        }
    }

    #[test]
    fn lines_fit_a_terminal_and_have_no_blanks_at_their_end() {
        for command in COMMANDS.iter().map(Some).chain([None]) {
            for line in text(command).lines() {
                assert!(line.len() <= WIDTH, "{line}");
                assert_eq!(line, line.trim_end());
            }
        }
    }

    #[test]
    fn columns_are_aligned_and_long_rows_go_on_below() {
        let mut out = String::new();
        let long = "--a-flag-with-a-name-longer-than-most X".to_owned();
        columns(&mut out, vec![("-a".to_owned(), "one"), (long, "two")]);
        let gap = " ".repeat(MAX_COLUMN);
        let wanted = format!("   -a{}one\n   --a-flag-with-a-name-longer-than-most X\n{gap}two\n", &gap[5..]);
        assert_eq!(out, wanted);
    }
}
