//! The command line as data: the global flags and every command with its own.
//!
//! The parser, the help texts, the shell completions and the man pages all come from these tables,
//! so a flag is written down once. This module knows nothing of parsing, does not check values and
//! uses no other module or crate: the build script compiles it too.

mod bundle;
mod checkpoint;
mod image;
mod inspect;
mod lifecycle;
mod network;
mod resources;
mod volume;

/// A [`Command::max_args`] without a limit.
pub(crate) const ANY: u8 = u8::MAX;

/// One option of the program or of a command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// The name after the dashes.
    pub(crate) long: &'static str,
    /// The one letter that stands for it, if there is one.
    pub(crate) short: Option<u8>,
    /// What its value is called in help, `None` for a switch. Words with `|` between them are the
    /// complete list of values, which shells then offer.
    pub(crate) value: Option<&'static str>,
    /// Whether each use adds a value; without it the last one wins.
    pub(crate) repeat: bool,
    /// Accepted, but in no help text, man page or completion.
    pub(crate) hidden: bool,
    /// One line for people, without a full stop.
    pub(crate) help: &'static str,
}

/// One command of the program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Command {
    /// The word that calls it, or two: that of a group of commands, and its own.
    pub(crate) name: &'static str,
    /// Its positionals as a usage line shows them: `<needed>`, `[optional]`, `<more>...`, `[any]...`.
    pub(crate) args: &'static str,
    /// One line for people, without a full stop.
    pub(crate) about: &'static str,
    /// Paragraphs, one a line, for its help text and man page; may be empty.
    pub(crate) details: &'static str,
    /// Its options, apart from [`HELP`].
    pub(crate) flags: &'static [Flag],
    /// The least number of positionals.
    pub(crate) min_args: u8,
    /// The greatest number of positionals, [`ANY`] for no limit.
    pub(crate) max_args: u8,
    /// Whether options end at the first positional, since what follows is for another program.
    pub(crate) stop_at_first: bool,
    /// Accepted, but in no help text, man page or completion.
    pub(crate) hidden: bool,
}

impl Flag {
    /// A flag that is there or not.
    const fn switch(long: &'static str, help: &'static str) -> Self {
        Flag { long, short: None, value: None, repeat: false, hidden: false, help }
    }

    /// A flag with a value, called `placeholder` in help.
    const fn value(long: &'static str, placeholder: &'static str, help: &'static str) -> Self {
        Flag { value: Some(placeholder), ..Flag::switch(long, help) }
    }

    /// The same flag with a letter to call it by.
    const fn short(self, letter: u8) -> Self {
        Flag { short: Some(letter), ..self }
    }

    /// The same flag, each use adding a value.
    const fn repeated(self) -> Self {
        Flag { repeat: true, ..self }
    }

    /// The same flag, in no text.
    const fn hidden(self) -> Self {
        Flag { hidden: true, ..self }
    }
}

impl Command {
    /// What most commands share: one container id, no flags.
    const ON_CONTAINER: Command = Command {
        name: "",
        args: "<container-id>",
        about: "",
        details: "",
        flags: &[],
        min_args: 1,
        max_args: 1,
        stop_at_first: false,
        hidden: false,
    };
}

/// Understood in front of the command and by every command; ends parsing.
pub(crate) const HELP: Flag = Flag::switch("help", "show help").short(b'h');

/// Understood in front of the command; ends parsing.
pub(crate) const VERSION: Flag = Flag::switch("version", "print the version").short(b'v');

/// What the program is, in one line.
pub(crate) const ABOUT: &str = "Open Container Initiative runtime";

/// What the program is, one paragraph a line.
pub(crate) const DETAILS: &str = "\
proa runs containers as the Open Container Initiative describes them. A container is made from a \
bundle: a directory with a file config.json, which says how it is to run, and a root file system.\n\
Its commands, flags and exit statuses are those of runc, so that engines and scripts which drive \
runc can drive proa.\n\
To try it in a directory with a root file system in ./rootfs: 'proa spec', then 'proa run NAME'.";

/// How the program ends, one paragraph a line.
pub(crate) const EXIT_STATUS: &str = "\
0 on success, 1 on any error, 3 if there is no such command.\n\
'run' and 'exec' in the foreground end as the program in the container did: with its status, or \
with 128 plus the number of the signal that killed it. If 'exec' itself fails it ends with 255.";

/// The flags that stand in front of the command, apart from [`HELP`] and [`VERSION`].
pub(crate) static GLOBAL: &[Flag] = &[
    Flag::value(
        "root",
        "DIR",
        "directory for the state of containers, best on a tmpfs \
         (default: /run/proa, $XDG_RUNTIME_DIR/proa if not root)",
    ),
    Flag::value("log", "FILE", "append messages to this file too (default: standard error only)"),
    Flag::value("log-format", "text|json", "how messages look in the log (default: text)"),
    Flag::value("log-level", "error|warning|debug", "the least severe messages to log"),
    Flag::switch("debug", "log everything, as --log-level debug"),
    Flag::switch(
        "systemd-cgroup",
        "let systemd make cgroups, as --cgroup-manager systemd; \
         cgroupsPath then has the form slice:prefix:name",
    ),
    Flag::value("cgroup-manager", "cgroupfs|systemd|disabled", "who makes cgroups, if any (default: cgroupfs)"),
    Flag::value(
        "systemd-property",
        "NAME",
        "let annotations set this property of the container's scope too; may be repeated",
    )
    .repeated(),
    Flag::value("rootless", "true|false|auto", "go on without permission to change cgroups (default: auto)"),
];

/// Every command, in the order help lists them.
pub(crate) static COMMANDS: &[Command] = &[
    lifecycle::CREATE,
    lifecycle::START,
    lifecycle::RUN,
    lifecycle::EXEC,
    inspect::STATE,
    lifecycle::KILL,
    lifecycle::DELETE,
    inspect::LIST,
    inspect::PS,
    resources::PAUSE,
    resources::RESUME,
    resources::UPDATE,
    inspect::EVENTS,
    inspect::SPEC,
    inspect::FEATURES,
    checkpoint::CHECKPOINT,
    checkpoint::RESTORE,
    bundle::CREATE,
    bundle::LS,
    bundle::RM,
    image::IMPORT,
    image::LS,
    image::RM,
    image::PRUNE,
    volume::CREATE,
    volume::LS,
    volume::INSPECT,
    volume::RM,
    volume::PRUNE,
    network::LS,
    network::PRUNE,
    network::HOOKS,
    network::CNI,
    inspect::PLAN,
    inspect::COMPLETION,
    inspect::MAN,
];

#[cfg(test)]
mod tests;
