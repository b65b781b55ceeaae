//! What can be wrong with a command line, and how proa says so. Not what is wrong with a value:
//! that is for the command to say.

use std::fmt;

use super::Command;

/// A command line that means nothing. The text is one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsageError {
    /// No command has this name.
    #[error("unknown command {name:?}, see 'proa --help'")]
    UnknownCommand {
        /// The name given.
        name: String,
    },
    /// The group has no command of this name.
    #[error("unknown command {:?}: {group} has {members}", format_args!("{group} {name}").to_string().trim_end())]
    UnknownMember {
        /// The first word.
        group: String,
        /// The second.
        name: String,
        /// Those that there are.
        members: String,
    },
    /// No flag has this name here.
    #[error("flag provided but not defined: {flag}, {see}")]
    UnknownFlag {
        /// The flag as written, without its value.
        flag: String,
        /// Where it stood.
        see: See,
    },
    /// Short flags written as one word, which Go's rules do not know.
    #[error("flag provided but not defined: {flag} (short flags cannot be joined), {see}")]
    JoinedFlags {
        /// The flags as written.
        flag: String,
        /// Where they stood.
        see: See,
    },
    /// A flag of the program, given to a command.
    #[error("flag {flag} must come before the command {command:?}, see 'proa --help'")]
    GlobalFlag {
        /// The flag as written, without its value.
        flag: String,
        /// The command.
        command: &'static str,
    },
    /// Dashes without a name.
    #[error("bad flag syntax: {flag}, {see}")]
    Syntax {
        /// The word.
        flag: String,
        /// Where it stood.
        see: See,
    },
    /// The command line ended where a value should be. Engines look for this phrase.
    #[error("flag needs an argument: --{long}")]
    MissingValue {
        /// The flag.
        long: &'static str,
    },
    /// A switch with a value that is neither true nor false.
    #[error("invalid value {value:?} for flag --{long}: neither true nor false")]
    Switch {
        /// The flag.
        long: &'static str,
        /// The value given.
        value: String,
    },
    /// Too few or too many positionals.
    #[error("{}", count_text(.command, *.given))]
    Count {
        /// The command.
        command: &'static Command,
        /// How many there were.
        given: usize,
    },
}

impl UsageError {
    /// The status to exit with: runc's.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            UsageError::UnknownCommand { .. } | UsageError::UnknownMember { .. } => 3,
            _ => 1,
        }
    }
}

/// The help text to point to: that of a command or of the program.
#[derive(Debug)]
pub(crate) struct See(pub(super) Option<&'static str>);

impl fmt::Display for See {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(command) => write!(f, "see 'proa {command} --help'"),
            None => f.write_str("see 'proa --help'"),
        }
    }
}

/// The phrase for a wrong number of positionals.
fn count_text(command: &Command, given: usize) -> String {
    let Command { name, args, min_args, max_args, .. } = *command;
    let (limit, number) = if min_args == max_args {
        ("exactly", min_args)
    } else if given < usize::from(min_args) {
        ("a minimum of", min_args)
    } else {
        ("a maximum of", max_args)
    };
    let space = if args.is_empty() { "" } else { " " };
    format!("{name:?} requires {limit} {number} argument(s), {given} given; usage: proa {name}{space}{args}")
}
