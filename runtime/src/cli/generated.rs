//! The shell completions and man pages that the build script made from the tables.

include!(concat!(env!("OUT_DIR"), "/cli.rs"));

/// The completion script for a shell: bash, zsh or fish.
pub(crate) fn completion(shell: &str) -> Option<&'static str> {
    COMPLETIONS.iter().find(|(name, _)| *name == shell).map(|(_, script)| *script)
}

/// The man page of a command, which may have two words, or without one that of the program, as roff.
pub(crate) fn man_page(words: &[&str]) -> Option<&'static str> {
    let wanted = words.join("-").replace(' ', "-");
    MAN_PAGES.iter().find(|(name, _)| *name == wanted).map(|(_, page)| *page)
}

#[cfg(test)]
mod tests {
    use super::super::table::{COMMANDS, Command, GLOBAL, HELP, VERSION};
    use super::*;

    const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

    /// Whether a text has this option as a word of its own, as it would be typed.
    fn mentions(text: &str, long: &str) -> bool {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        text.split(|c| !inside(c)).any(|word| word.strip_prefix("--") == Some(long))
    }

    /// Whether a script offers this option.
    fn offers(shell: &str, script: &str, long: &str) -> bool {
        match shell {
            "fish" => script.contains(&format!(" -l {long} ")),
            _ => mentions(script, long),
        }
    }

    /// Whether a script offers this command.
    fn offers_command(shell: &str, script: &str, name: &str) -> bool {
        if let Some((group, member)) = name.split_once(' ') {
            return offers_command(shell, script, group)
                && script.contains(&match shell {
                    "bash" => format!("\nproa__subcmd__{group},{member})\n"),
                    "zsh" => format!("\n'{member}:"),
                    _ => format!("-f -a \"{member}\""),
                });
        }
        script.contains(&match shell {
            "bash" => format!("\nproa,{name})\n"),
            "zsh" => format!("\n'{name}:"),
            _ => format!("\"__fish_proa_needs_command\" -f -a \"{name}\""),
        })
    }

    /// The part of a script that is about one command alone.
    fn part<'a>(shell: &str, script: &'a str, command: &Command) -> Vec<&'a str> {
        let (group, member) = command.name.split_once(' ').unwrap_or(("", command.name));
        let (start, end) = match shell {
            "bash" => {
                (format!("proa__subcmd__{})", command.name.replace(' ', "__subcmd__")), "return 0\n;;\nproa__subcmd")
            }
            "zsh" => (format!("({member})\n_arguments"), "ret=0\n;;"),
            _ => {
                let about = match group {
                    "" => format!("__fish_proa_using_subcommand {member}\""),
                    _ => format!("__fish_proa_using_subcommand {group}; and __fish_seen_subcommand_from {member}\""),
                };
                return script.lines().filter(|line| line.contains(&about)).collect();
            }
        };
        // Members of several groups may have one name.
        let from =
            if shell == "zsh" && !group.is_empty() { script.find(&format!("({group})\n")).expect(group) } else { 0 };
        let start = from + script[from..].find(&start).expect(&start);
        script[start..].split(end).take(1).collect()
    }

    #[test]
    fn completions_offer_every_command_and_flag_but_the_hidden_ones() {
        for shell in SHELLS {
            let script = completion(shell).expect(shell);
            for flag in GLOBAL.iter().chain([&HELP, &VERSION]) {
                assert!(offers(shell, script, flag.long), "{shell}: --{}", flag.long);
            }
            for command in COMMANDS.iter().filter(|command| !command.hidden) {
                assert!(offers_command(shell, script, command.name), "{shell}: {}", command.name);
                let part = part(shell, script, command).join("\n");
                for flag in command.flags.iter().chain([&HELP]) {
                    let offered = offers(shell, &part, flag.long);
                    assert_eq!(offered, !flag.hidden, "{shell}: {} --{}", command.name, flag.long);
                }
            }
        }
        assert_eq!(completion("tcsh"), None);
    }

    /// The page without the roff that its words are written with.
    fn plain(page: &str) -> String {
        page.replace("\\-", "-").replace("\\fB", "").replace("\\fI", "").replace("\\fR", "")
    }

    #[test]
    fn every_command_has_a_man_page_with_its_flags() {
        for command in COMMANDS.iter().filter(|command| !command.hidden) {
            let page = plain(man_page(&[command.name]).expect(command.name));
            let title = format!(".TH PROA-{} 1 ", command.name.replace(' ', "-").to_uppercase());
            assert!(page.contains(&title), "{}", command.name);
            assert!(page.contains(&format!("\nproa {} [options]", command.name)), "{page}");
            for flag in command.flags.iter().chain([&HELP]) {
                assert_eq!(mentions(&page, flag.long), !flag.hidden, "{page}: {}", flag.long);
            }
        }
        assert_eq!(man_page(&["init"]), None);
        for words in [&["bundle-create"][..], &["bundle", "create"], &["bundle create"]] {
            assert!(man_page(words).is_some(), "{words:?}");
        }
    }

    #[test]
    fn the_program_has_a_man_page_that_lists_its_commands() {
        let page = plain(man_page(&[]).expect("proa.1"));
        for flag in GLOBAL.iter().chain([&HELP, &VERSION]) {
            assert!(mentions(&page, flag.long), "--{}", flag.long);
        }
        for command in COMMANDS.iter().filter(|command| !command.hidden) {
            let name = command.name.replace(' ', "-");
            assert!(page.contains(&format!("\nproa-{name}(1)\n")), "{name}");
        }
        assert!(page.contains("\n.SH \"EXIT STATUS\"\n"));
    }

    #[test]
    fn zsh_takes_no_name_of_a_value_for_a_command_to_run() {
        // An option is '...[help]:name:action'; more colons would make part of the name an action.
        let script = completion("zsh").expect("zsh");
        let options = script.lines().filter(|line| line.starts_with(['\'', '*']));
        for line in options.filter(|line| line.contains("]:")) {
            let (_, message) = line.rsplit_once("]:").expect("just seen");
            assert_eq!(message.matches(':').count(), 1, "{line}");
        }
    }
}
