//! Rules of the specification on the option words of mounts that bind, as far as
//! a word without `r` has to leave alone what is mounted below.
//!
//! Not here: each word by itself (mount_options.rs), words by chance
//! (musts_random.rs).

use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use nix::mount::MsFlags;

use crate::mount_options::Tree;

crate::cases! {
    "C-16" => propagation_words_without_r_leave_what_is_below,
    "C-16" => flags_without_r_leave_what_is_below,
    "C-16" => words_of_binds_clear_what_the_source_has,
}

fn propagation_words_without_r_leave_what_is_below(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "leaves the mount private")?;
    let tree = Tree::new(t, MsFlags::empty());
    let mut bundle = t.sleeping_bundle();
    let words = ["slave", "private", "unbindable", "shared"];
    for word in words {
        bundle.bind(&tree.0, &format!("/at-{word}"), &["rbind", word]);
    }
    let c = t.create(&bundle);
    let propagation = |point: String| look::propagation(&look::mount(c.pid, &point));
    for word in words {
        let found = propagation(format!("/at-{word}"));
        assert!(found == word || (word == "shared" && found == "shared,slave"), "{word}: {found}");
        // As it is where no word is given: the mount below follows the host's.
        assert_eq!(propagation(format!("/at-{word}/below")), "slave", "{word}: below");
    }
    c.delete();
    tree.fell();
    Ok(())
}

fn flags_without_r_leave_what_is_below(t: &Test<'_>) -> Done {
    let tree = Tree::new(t, MsFlags::empty());
    let mut bundle = t.sleeping_bundle();
    let words = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"];
    for word in words {
        bundle.bind(&tree.0, &format!("/at-{word}"), &["rbind", word]);
    }
    let c = t.create(&bundle);
    for word in words {
        let options = |point: String| look::mount(c.pid, &point).mount_options;
        assert!(options(format!("/at-{word}")).contains_key(word), "{word}");
        assert!(!options(format!("/at-{word}/below")).contains_key(word), "{word}: below");
    }
    c.delete();
    tree.fell();
    Ok(())
}

fn words_of_binds_clear_what_the_source_has(t: &Test<'_>) -> Done {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NODIRATIME;
    let tree = Tree::new(t, flags);
    let mut bundle = t.sleeping_bundle();
    let pairs = [("suid", "nosuid"), ("dev", "nodev"), ("exec", "noexec"), ("diratime", "nodiratime")];
    for (word, _) in pairs {
        bundle.bind(&tree.0, &format!("/at-{word}"), &["rbind", word]);
    }
    let c = t.create(&bundle);
    for (word, cleared) in pairs {
        if word == "diratime" && !t.is_proa() {
            continue; // which the old way to remount cannot clear alone
        }
        let options = |point: String| look::mount(c.pid, &point).mount_options;
        assert!(!options(format!("/at-{word}")).contains_key(cleared), "{word}");
        assert!(options(format!("/at-{word}/below")).contains_key(cleared), "{word}: below");
    }
    c.delete();
    tree.fell();
    Ok(())
}
