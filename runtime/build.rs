//! Makes the shell completions and man pages that the binary carries, from its own tables of
//! commands and flags. clap serves here alone: the binary has a parser that starts faster.
//!
//! Writes to `OUT_DIR` the scripts, the pages and `cli.rs`, which lists them all.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fmt, fs};

use clap::builder::{PossibleValue, PossibleValuesParser, Str};
use clap::{Arg, ArgAction, ValueHint};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

#[path = "src/cli/table/mod.rs"]
#[allow(dead_code)] // The parser reads more of it.
mod table;

use table::{COMMANDS, Command, Flag};

/// What man pages say of their age: when the tables last changed in a way that readers notice.
const MAN_DATE: &str = "2026-11-24";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src/cli/table");
    link_hot_functions_together();
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?;
    let out = Path::new(&out);
    let mut list = String::new();
    completions(out, &mut list)?;
    man_pages(out, &mut list)?;
    fs::write(out.join("cli.rs"), list)?;
    Ok(())
}

/// Has the linker place what bench/hot has found to be used together side by side, and write relocations in the form that
/// takes least to read. Linkers that do not know the form say so and go on.
fn link_hot_functions_together() {
    println!("cargo::rerun-if-changed=hot.ld");
    println!("cargo::rerun-if-env-changed=PROA_SYMBOLS");
    let is = |name: &str, value: &str| env::var_os(name).is_some_and(|its| its == value);
    if !is("PROFILE", "release") {
        return;
    }
    // Mostly a C compiler links, and hands on what is meant for the linker.
    let direct = env::var("RUSTC_LINKER").is_ok_and(|linker| linker.ends_with("lld") || linker.ends_with("ld"));
    let pass = |words: &[&str]| match direct {
        true => words.iter().for_each(|word| println!("cargo::rustc-link-arg-bins={word}")),
        false => println!("cargo::rustc-link-arg-bins=-Wl,{}", words.join(",")),
    };
    // Not by the profile, which is part of all names: bench/hot wants to see them.
    if env::var_os("PROA_SYMBOLS").is_none() {
        pass(&["-s"]);
    }
    if is("CARGO_CFG_TARGET_ENV", "musl") {
        pass(&["-T", concat!(env!("CARGO_MANIFEST_DIR"), "/hot.ld")]);
        pass(&["-z", "pack-relative-relocs"]);
    }
}

/// Writes a script for each shell, and to `list` the table of them.
fn completions(out: &Path, list: &mut String) -> Result<(), Box<dyn Error>> {
    list.push_str("static COMPLETIONS: &[(&str, &str)] = &[\n");
    let plain = |command: clap::Command| command.mut_args(plain_name);
    let mut program = plain(program(true)).mut_subcommands(|command| plain(command).mut_subcommands(plain));
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut program, "proa", &mut script);
        let mut script = String::from_utf8(script)?;
        match shell {
            Shell::Bash => script = without_indentation(&script),
            Shell::Fish => fish_positionals(&program, &mut script)?,
            _ => {}
        }
        let file = format!("proa.{shell}");
        fs::write(out.join(&file), script)?;
        writeln!(list, "    ({:?}, include_str!({file:?})),", shell.to_string())?;
    }
    list.push_str("];\n");
    Ok(())
}

/// The option with another name for its value if zsh would take that for more than a name: there
/// what comes after a colon is a command to run, and clap does not quote it.
fn plain_name(arg: Arg) -> Arg {
    let colon = |name: &Str| name.contains(':');
    match arg.get_value_names() {
        Some(names) if names.iter().any(colon) => arg.value_name("VALUE"),
        _ => arg,
    }
}

/// Adds to fish's script the words that can follow a command, which clap leaves out.
fn fish_positionals(program: &clap::Command, script: &mut String) -> Result<(), fmt::Error> {
    for command in program.get_subcommands() {
        for positional in command.get_positionals() {
            let values = positional.get_possible_values();
            if !values.is_empty() {
                let values = values.iter().map(PossibleValue::get_name).collect::<Vec<_>>();
                let (name, values) = (command.get_name(), values.join(" "));
                writeln!(script, "complete -c proa -n '__fish_proa_using_subcommand {name}' -f -a '{values}'")?;
            }
        }
    }
    Ok(())
}

/// bash's script without indentation, half of its bytes, and without empty lines. No word or
/// here-document in it goes on over lines, so that they mean nothing.
fn without_indentation(script: &str) -> String {
    let lines = script.lines().map(str::trim_start).filter(|line| !line.is_empty());
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Writes a page for the program and each command, and to `list` the table of them.
fn man_pages(out: &Path, list: &mut String) -> Result<(), Box<dyn Error>> {
    list.push_str("static MAN_PAGES: &[(&str, &str)] = &[\n");
    let commands = COMMANDS.iter().filter(|command| !command.hidden);
    for command in commands.map(Some).chain([None]) {
        let page = man_page(command)?;
        let name = command.map_or(String::new(), |command| command.name.replace(' ', "-"));
        let file = man_name(&name) + ".1";
        fs::write(out.join(&file), page)?;
        writeln!(list, "    ({name:?}, include_str!({file:?})),")?;
    }
    list.push_str("];\n");
    Ok(())
}

/// The name of the page of a command, or given "" of the program.
fn man_name(command: &str) -> String {
    if command.is_empty() { "proa".to_owned() } else { format!("proa-{}", command.replace(' ', "-")) }
}

/// The page of a command or of the program.
fn man_page(command: Option<&Command>) -> Result<String, Box<dyn Error>> {
    let clap = match command {
        Some(command) => {
            let usage = format!("proa {} [options] {}", command.name, command.args);
            subcommand(command)
                .bin_name(format!("proa {}", command.name))
                .display_name(man_name(command.name))
                .override_usage(usage.trim_end().to_owned())
        }
        None => program(false)
            .override_usage("proa [global options] <command> [options] [arguments]")
            .subcommand_help_heading("COMMANDS"),
    };
    // The usage shows the positionals; there is no more to say of them.
    let clap = clap.mut_args(|arg| if arg.is_positional() { arg.hide(true) } else { arg });
    let man = Man::new(clap)
        .title(man_name(command.map_or("", |command| command.name)).to_uppercase())
        .date(MAN_DATE)
        .source(concat!("proa ", env!("CARGO_PKG_VERSION")))
        .manual("proa manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.is_none() {
        man.render_subcommands_section(&mut page)?;
    }
    last_section(command).to_writer(&mut page)?;
    Ok(one_preamble(&String::from_utf8(page)?))
}

/// What clap has no word for.
fn last_section(command: Option<&Command>) -> Roff {
    let mut roff = Roff::new();
    if command.is_some() {
        roff.control("SH", ["SEE ALSO"]).text([roman("proa(1)")]);
        return roff;
    }
    roff.control("SH", ["EXIT STATUS"]);
    for (number, line) in table::EXIT_STATUS.lines().enumerate() {
        if number > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(line)]);
    }
    roff
}

/// The page with the two lines that define the apostrophe at its head only, where each section
/// rendered by itself starts with them.
fn one_preamble(page: &str) -> String {
    let head = |line: &str| line.starts_with(".ie ") || line.starts_with(".el ");
    let lines = page.lines().enumerate().filter(|(number, line)| *number < 2 || !head(line));
    lines.flat_map(|(_, line)| [line, "\n"]).collect()
}

/// The whole program for clap; for completions with the command `help`.
fn program(with_help: bool) -> clap::Command {
    let mut program = clap::Command::new("proa")
        .version(env!("CARGO_PKG_VERSION"))
        .about(table::ABOUT)
        .long_about(paragraphs(table::DETAILS))
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .disable_help_flag(true)
        .args(table::GLOBAL.iter().filter(|flag| !flag.hidden).map(option))
        .args([option(&table::HELP), option(&table::VERSION)]);
    for command in COMMANDS.iter().filter(|command| !command.hidden) {
        program = match command.name.split_once(' ') {
            Some((group, _)) if with_help && program.find_subcommand(group).is_some() => {
                program.mut_subcommand(group, |group| group.subcommand(subcommand(command)))
            }
            Some((group, _)) if with_help => {
                let about = format!("commands on a {group}");
                let group = clap::Command::new(group).about(about).disable_help_flag(true);
                program.subcommand(group.disable_help_subcommand(true).subcommand(subcommand(command)))
            }
            // In a man page each has its own.
            Some(_) => program.subcommand(subcommand(command).name(command.name.replace(' ', "-"))),
            None => program.subcommand(subcommand(command)),
        };
    }
    if with_help {
        let help = clap::Command::new("help").visible_alias("h").about("show help on a command");
        program =
            program.subcommand(help.disable_help_flag(true).arg(Arg::new("command").value_parser(command_names())));
    }
    program
}

fn subcommand(command: &Command) -> clap::Command {
    let mut made = clap::Command::new(command.name.split_once(' ').map_or(command.name, |(_, member)| member))
        .about(command.about)
        .disable_help_flag(true)
        .args(command.flags.iter().filter(|flag| !flag.hidden).map(option))
        .arg(option(&table::HELP))
        .args(command.args.split_whitespace().map(|word| positional(command, word)));
    if !command.details.is_empty() {
        made = made.long_about(paragraphs(command.details));
    }
    made
}

fn option(flag: &Flag) -> Arg {
    let mut arg = Arg::new(flag.long).long(flag.long).help(flag.help);
    if let Some(short) = flag.short {
        arg = arg.short(char::from(short));
    }
    match flag.value {
        None => arg.action(ArgAction::SetTrue),
        Some(value) => {
            let arg = arg.value_name(value).hide_possible_values(true);
            let arg = arg.action(if flag.repeat { ArgAction::Append } else { ArgAction::Set });
            match value {
                "DIR" => arg.value_hint(ValueHint::DirPath),
                "FILE" | "SOCKET" => arg.value_hint(ValueHint::AnyPath),
                _ if value.contains('|') => arg.value_parser(choices(value)),
                _ => arg.value_hint(ValueHint::Other),
            }
        }
    }
}

/// One word of [`Command::args`].
fn positional(command: &Command, word: &'static str) -> Arg {
    let many = word.ends_with("...");
    let name = word.trim_end_matches('.');
    let required = name.starts_with('<');
    let name = name.trim_matches(|c| "<>[]".contains(c));
    let arg = Arg::new(name).required(required).value_name(name);
    let arg = match (command.name, name) {
        ("man", _) => arg.value_parser(command_names()),
        (_, values) if values.contains('|') => arg.value_parser(choices(name)),
        _ => arg.value_hint(ValueHint::Other),
    };
    match (many, command.stop_at_first) {
        (true, true) => arg.num_args(0..).trailing_var_arg(true).allow_hyphen_values(true),
        (true, false) => arg.num_args(1..),
        (false, _) => arg,
    }
}

/// The values that `a|b` stands for.
fn choices(value: &'static str) -> PossibleValuesParser {
    value.split('|').collect::<Vec<_>>().into()
}

/// As `man` takes them.
fn command_names() -> PossibleValuesParser {
    let shown = COMMANDS.iter().filter(|command| !command.hidden);
    shown.map(|command| command.name.replace(' ', "-")).collect::<Vec<_>>().into()
}

/// A paragraph a line, as clap wants it.
fn paragraphs(lines: &str) -> String {
    lines.replace('\n', "\n\n")
}
