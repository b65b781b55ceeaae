//! Tests that the tables are whole and without contradictions.

use super::*;

/// All flags that runc has, command by command, `b:bundle=` being `-b/--bundle` with a value and
/// `*` at the end a flag to repeat. The hidden ones have an exclamation mark.
const RUNC: &[(&str, &str)] = &[
    (
        "create",
        "b:bundle= console-socket= pidfd-socket= pid-file= no-pivot no-new-keyring \
         preserve-fds=",
    ),
    (
        "run",
        "b:bundle= console-socket= pidfd-socket= pid-file= no-pivot no-new-keyring \
         preserve-fds= d:detach keep no-subreaper",
    ),
    ("start", ""),
    ("state", ""),
    ("kill", "a:all"),
    ("delete", "f:force"),
    (
        "exec",
        "console-socket= pidfd-socket= cwd= e:env=* t:tty u:user= g:additional-gids=* \
         p:process= d:detach pid-file= process-label= apparmor= no-new-privs c:cap=* \
         preserve-fds= cgroup=* ignore-paused",
    ),
    ("list", "f:format= q:quiet"),
    ("ps", "f:format="),
    ("events", "interval= stats"),
    ("pause", ""),
    ("resume", ""),
    (
        "update",
        "r:resources= blkio-weight= cpu-period= cpu-quota= cpu-burst= cpu-share= \
         cpu-rt-period= cpu-rt-runtime= cpuset-cpus= cpuset-mems= memory= \
         memory-reservation= memory-swap= cpu-idle= pids-limit= l3-cache-schema= \
         mem-bw-schema= !kernel-memory= !kernel-memory-tcp=",
    ),
    ("spec", "b:bundle= rootless"),
    ("features", ""),
    (
        "checkpoint",
        "image-path= work-path= parent-path= leave-running tcp-established \
         tcp-skip-in-flight link-remap ext-unix-sk shell-job lazy-pages status-fd= \
         page-server= file-locks pre-dump manage-cgroups-mode= empty-ns=* auto-dedup",
    ),
    (
        "restore",
        "console-socket= image-path= work-path= tcp-established ext-unix-sk shell-job \
         file-locks manage-cgroups-mode= b:bundle= d:detach pid-file= no-subreaper no-pivot \
         empty-ns=* auto-dedup lazy-pages lsm-profile= lsm-mount-context=",
    ),
    // crun's on top.
    ("create", "f:config= !no-subreaper"),
    ("run", "f:config="),
    // Our own commands.
    (
        "plan",
        "b:bundle= f:config= console-socket= pidfd-socket= pid-file= no-pivot \
         no-new-keyring preserve-fds= !no-subreaper",
    ),
    (
        "bundle create",
        "image= platform= v:volume=* network= p:publish=* e:env=* u:user= w:workdir= entrypoint= \
         hostname= t:tty read-only size= volatile userns= max-size= store= q:quiet",
    ),
    ("bundle ls", "f:format= store="),
    ("bundle rm", "store="),
    ("image import", "platform= max-size= store= q:quiet"),
    ("image ls", "f:format= store= q:quiet"),
    ("image rm", "store= q:quiet"),
    ("image prune", "a:all store= q:quiet"),
    ("volume create", "l:label=* store="),
    ("volume ls", "f:format= q:quiet s:size store="),
    ("volume inspect", "s:size store="),
    ("volume rm", "store="),
    ("volume prune", "a:all q:quiet store="),
    ("network ls", "f:format= cni-config-dir= cache-dir="),
    ("network prune", "cache-dir="),
    ("network hooks", "p:publish=* cni-config-dir= cni-path= cache-dir="),
    ("cni", "network= p:publish=* cni-config-dir= cni-path= cache-dir="),
    ("completion", ""),
    ("man", ""),
];

/// The flag in the notation of [`RUNC`].
fn notation(flag: &Flag) -> String {
    let hidden = if flag.hidden { "!" } else { "" };
    let short = flag.short.map(|short| format!("{}:", char::from(short))).unwrap_or_default();
    let value = if flag.value.is_some() { "=" } else { "" };
    format!("{hidden}{short}{}{value}{}", flag.long, if flag.repeat { "*" } else { "" })
}

fn sorted<T: Ord>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut items: Vec<_> = items.collect();
    items.sort();
    items
}

#[test]
fn the_tables_have_the_flags_of_runc_and_no_more_than_intended() {
    for command in COMMANDS {
        let rows = RUNC.iter().filter(|(name, _)| *name == command.name);
        let wanted = rows.flat_map(|(_, flags)| flags.split_whitespace());
        let wanted = sorted(wanted.map(str::to_owned));
        assert_eq!(sorted(command.flags.iter().map(notation)), wanted, "{}", command.name);
    }
    assert!(RUNC.iter().all(|(name, _)| COMMANDS.iter().any(|command| command.name == *name)));
    let wanted = "cgroup-manager= debug log-format= log-level= log= root= rootless= systemd-cgroup systemd-property=*";
    let wanted = sorted(wanted.split(' ').map(str::to_owned));
    assert_eq!(sorted(GLOBAL.iter().map(notation)), wanted);
}

#[test]
fn names_are_unique_and_leave_help_alone() {
    let tables = COMMANDS.iter().map(|command| (command.name, command.flags));
    for (name, flags) in tables.chain([("", GLOBAL)]) {
        let longs = sorted(flags.iter().chain([&HELP]).map(|flag| flag.long));
        assert!(longs.windows(2).all(|pair| pair[0] != pair[1]), "{name}");
        let shorts = sorted(flags.iter().chain([&HELP]).filter_map(|flag| flag.short));
        assert!(shorts.windows(2).all(|pair| pair[0] != pair[1]), "{name}");
        assert!(flags.iter().all(|flag| !flag.help.is_empty() && !flag.help.ends_with('.')));
    }
    let names = sorted(COMMANDS.iter().map(|command| command.name).chain(["h", "help"]));
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn the_usage_of_a_command_agrees_with_its_limits() {
    for command in COMMANDS {
        let words: Vec<_> = command.args.split_whitespace().collect();
        let needed = words.iter().filter(|word| word.starts_with('<')).count();
        assert_eq!(usize::from(command.min_args), needed, "{}", command.name);
        let any = command.args.ends_with("...");
        assert_eq!(command.max_args == ANY, any, "{}", command.name);
        assert!(any || usize::from(command.max_args) == words.len(), "{}", command.name);
        let about = !command.about.is_empty() && !command.about.ends_with('.');
        assert!(about, "{}", command.name);
    }
}
