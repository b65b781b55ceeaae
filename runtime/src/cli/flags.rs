//! From the words of the command line to a command with its flags and positionals.
//!
//! The rules are those of Go's flag package, which callers of runc have come to rely on: a long
//! name after one dash or two, its value after `=` or as the next word whatever that looks like,
//! a switch turned off by `=false`, `--` as the end of flags. Flags may follow positionals, except
//! where a command says otherwise. What a value means is for the command to say, not checked here.
//!
//! Every start of a container passes here three times, so tables are scanned where they lie and
//! nothing is allocated but the results.

mod error;

use std::slice;

use super::table::{COMMANDS, GLOBAL, HELP, VERSION};
pub(crate) use super::table::{Command, Flag};
use error::See;
pub(crate) use error::UsageError;

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    /// Carry out a command.
    Run(Parsed<'a>),
    /// Print help, of a command or of the program.
    Help(Option<&'static Command>),
    /// Print the version.
    Version,
}

/// A command with all that was said about it. The number of positionals is as the command wants.
#[derive(Debug)]
pub(crate) struct Parsed<'a> {
    /// Flags in front of the command.
    pub(crate) global: Values<'a>,
    /// The command.
    pub(crate) command: &'static Command,
    /// Flags of the command.
    pub(crate) values: Values<'a>,
    /// Positionals.
    pub(crate) args: Vec<&'a str>,
}

/// The flags given, in their order; a switch that was turned off again is not among them.
#[derive(Debug, Default)]
pub(crate) struct Values<'a>(Vec<(&'static Flag, &'a str)>);

impl<'a> Values<'a> {
    /// Whether the flag was given, and if a switch not as `=false`.
    pub(crate) fn has(&self, long: &str) -> bool {
        self.0.iter().any(|(flag, _)| flag.long == long)
    }

    /// The value of the flag, the last one if it was given often. `None` for a switch.
    pub(crate) fn get(&self, long: &str) -> Option<&'a str> {
        let (flag, value) = self.0.iter().rev().find(|(flag, _)| flag.long == long)?;
        flag.value.map(|_| *value)
    }

    /// Every value of the flag, in the order given; the last alone unless the flag is one to
    /// repeat.
    pub(crate) fn all(&self, long: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(flag, _)| flag.long == long).map(|(_, value)| *value)
    }

    fn set(&mut self, flag: &'static Flag, value: &'a str) {
        if !flag.repeat {
            self.unset(flag);
        }
        self.0.push((flag, value));
    }

    fn unset(&mut self, flag: &Flag) {
        self.0.retain(|(other, _)| other.long != flag.long);
    }
}

/// Reads a command line, `args` being the words after the program's name.
///
/// Help and the version win over whatever follows them. Without a command the outcome is help.
///
/// # Errors
///
/// [`UsageError`] on the first word that makes no sense, and for a wrong number of positionals.
pub(crate) fn parse<'a>(args: &[&'a str]) -> Result<Outcome<'a>, UsageError> {
    let mut words = args.iter();
    let mut global = Values::default();
    let name = loop {
        let Some(&word) = words.next() else {
            return Ok(Outcome::Help(None));
        };
        match Word::of(word) {
            Word::Plain => break word,
            Word::EndOfFlags => match words.next() {
                Some(&name) => break name,
                None => return Ok(Outcome::Help(None)),
            },
            Word::Flag(written) => match take_flag(None, written, &mut words, &mut global)? {
                Taken::Stored => {}
                Taken::Help => return Ok(Outcome::Help(None)),
                Taken::Version => return Ok(Outcome::Version),
            },
        }
    };
    if name == "help" || name == "h" {
        return help_on(words.as_slice());
    }
    match members(name).next() {
        None => parse_command(find_command(name)?, words, global),
        Some(_) => match words.next() {
            Some(word) if matches!(Word::of(word), Word::Flag(flag) if names(&HELP, flag.name)) => {
                Ok(Outcome::Help(None))
            }
            word => parse_command(find_member(name, word.copied().unwrap_or_default())?, words, global),
        },
    }
}

/// Reads what follows the name of `command`.
fn parse_command<'a>(
    command: &'static Command,
    mut words: slice::Iter<'_, &'a str>,
    global: Values<'a>,
) -> Result<Outcome<'a>, UsageError> {
    let mut values = Values::default();
    let mut args = Vec::new();
    while let Some(&word) = words.next() {
        match Word::of(word) {
            Word::Plain => {
                args.push(word);
                if command.stop_at_first {
                    break;
                }
            }
            Word::EndOfFlags => break,
            Word::Flag(written) => match take_flag(Some(command), written, &mut words, &mut values)? {
                Taken::Stored => {}
                Taken::Help => return Ok(Outcome::Help(Some(command))),
                Taken::Version => return Ok(Outcome::Version),
            },
        }
    }
    args.extend(words);
    let limit = match command.max_args {
        super::table::ANY => usize::MAX,
        max => usize::from(max),
    };
    if !(usize::from(command.min_args)..=limit).contains(&args.len()) {
        return Err(UsageError::Count { command, given: args.len() });
    }
    Ok(Outcome::Run(Parsed { global, command, values, args }))
}

/// The outcome of the command `help`, with the words after it.
fn help_on<'a>(topic: &[&str]) -> Result<Outcome<'a>, UsageError> {
    match topic {
        [] | ["help" | "h", ..] => Ok(Outcome::Help(None)),
        [word, ..] if word.starts_with('-') => Ok(Outcome::Help(None)),
        [group, member, ..] if members(group).next().is_some() => Ok(Outcome::Help(Some(find_member(group, member)?))),
        [group] if members(group).next().is_some() => Ok(Outcome::Help(None)),
        // In one word, as man pages have them.
        [name, ..] => {
            let found = find_command(&name.replacen('-', " ", 1)).or_else(|_| find_command(name))?;
            Ok(Outcome::Help(Some(found)))
        }
    }
}

/// The commands of a group, whose names are the group's and a word of their own; none where there is no such group.
fn members(group: &str) -> impl Iterator<Item = (&'static str, &'static Command)> {
    COMMANDS.iter().filter_map(move |command| {
        let (first, member) = command.name.split_once(' ')?;
        (first == group).then_some((member, command))
    })
}

/// The command of this name in a group.
///
/// # Errors
///
/// [`UsageError::UnknownMember`].
fn find_member(group: &str, name: &str) -> Result<&'static Command, UsageError> {
    let found = members(group).find(|(member, _)| *member == name);
    found.map(|(_, command)| command).ok_or_else(|| UsageError::UnknownMember {
        group: group.to_owned(),
        name: name.to_owned(),
        members: members(group).map(|(member, _)| member).collect::<Vec<_>>().join(", "),
    })
}

/// The command of this name.
///
/// # Errors
///
/// [`UsageError::UnknownCommand`].
pub(crate) fn find_command(name: &str) -> Result<&'static Command, UsageError> {
    COMMANDS
        .iter()
        .find(|command| command.name == name)
        .ok_or_else(|| UsageError::UnknownCommand { name: name.to_owned() })
}

/// What a word is by its looks.
enum Word<'a> {
    Plain,
    EndOfFlags,
    Flag(Written<'a>),
}

/// A flag as written.
#[derive(Clone, Copy)]
struct Written<'a> {
    /// Without the value, for messages.
    flag: &'a str,
    /// Without the dashes too.
    name: &'a str,
    /// What follows `=`.
    value: Option<&'a str>,
}

impl<'a> Word<'a> {
    fn of(word: &'a str) -> Self {
        if word.len() < 2 || !word.starts_with('-') {
            return Word::Plain;
        }
        if word == "--" {
            return Word::EndOfFlags;
        }
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value)),
            None => (word, None),
        };
        let name = flag.strip_prefix("--").unwrap_or(&flag[1..]);
        Word::Flag(Written { flag, name, value })
    }
}

/// What became of a flag.
enum Taken {
    Stored,
    Help,
    Version,
}

/// Adds a flag to `into`, its value from `words` if need be. `command` is `None` in front of it.
fn take_flag<'a>(
    command: Option<&'static Command>,
    written: Written<'a>,
    words: &mut slice::Iter<'_, &'a str>,
    into: &mut Values<'a>,
) -> Result<Taken, UsageError> {
    let table = command.map_or(GLOBAL, |command| command.flags);
    if let Some(flag) = table.iter().find(|flag| names(flag, written.name)) {
        if flag.value.is_some() {
            let value = match written.value {
                Some(value) => value,
                None => words.next().ok_or(UsageError::MissingValue { long: flag.long })?,
            };
            into.set(flag, value);
        } else if is_on(flag, written)? {
            into.set(flag, "");
        } else {
            into.unset(flag);
        }
        return Ok(Taken::Stored);
    }
    if names(&HELP, written.name) {
        return Ok(if is_on(&HELP, written)? { Taken::Help } else { Taken::Stored });
    }
    if command.is_none() && names(&VERSION, written.name) {
        return Ok(if is_on(&VERSION, written)? { Taken::Version } else { Taken::Stored });
    }
    Err(unknown_flag(command, written))
}

/// Whether `name` is the flag's long or short name.
fn names(flag: &Flag, name: &str) -> bool {
    flag.long == name || matches!((flag.short, name.as_bytes()), (Some(short), [byte]) if short == *byte)
}

/// Whether a switch was turned on, not off.
fn is_on(flag: &Flag, written: Written<'_>) -> Result<bool, UsageError> {
    match written.value {
        None | Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok(true),
        Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok(false),
        Some(value) => Err(UsageError::Switch { long: flag.long, value: value.to_owned() }),
    }
}

/// The error for a flag that is in no table, as helpful as can be.
#[cold]
fn unknown_flag(command: Option<&'static Command>, written: Written<'_>) -> UsageError {
    let Written { flag, name, .. } = written;
    let see = See(command.map(|command| command.name));
    let table = command.map_or(GLOBAL, |command| command.flags);
    let flag = flag.to_owned();
    let is_short = |byte: u8| HELP.short == Some(byte) || table.iter().any(|known| known.short == Some(byte));
    if name.is_empty() || name.starts_with('-') {
        return UsageError::Syntax { flag, see };
    }
    match command {
        Some(command) if GLOBAL.iter().any(|known| names(known, name)) => {
            UsageError::GlobalFlag { flag, command: command.name }
        }
        _ if !flag.starts_with("--") && name.len() > 1 && name.bytes().all(is_short) => {
            UsageError::JoinedFlags { flag, see }
        }
        _ => UsageError::UnknownFlag { flag, see },
    }
}

#[cfg(test)]
mod engines;
#[cfg(test)]
mod tests;
