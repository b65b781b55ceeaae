//! Labels of AppArmor and SELinux: given to the program where the kernel has them, refused where it has not.

use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;
use std::fs;
use std::process::Command;

crate::cases! {
    "R-29" => a_profile_without_apparmor_is_refused,
    "R-29" => a_label_without_selinux_is_refused,
    "" => a_mount_label_without_selinux_has_no_effect,
    "" => unconfined_is_what_a_process_is_without_apparmor,
    "C-35" => a_profile_is_the_programs,
    "C-35" => a_profile_that_is_not_loaded_is_refused,
    "" => a_profile_of_exec,
    "" => a_file_over_the_attribute_takes_no_label,
}

fn apparmor() -> bool {
    fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

fn selinux() -> bool {
    fs::exists("/sys/fs/selinux/enforce").is_ok_and(|there| there)
}

fn a_profile_without_apparmor_is_refused(t: &Test<'_>) -> Done {
    t.needs(!apparmor(), "a kernel without AppArmor")?;
    t.peer_differs(Kind::Crun, "runs the program unconfined")?;
    let mut bundle = t.bundle();
    bundle.process("apparmorProfile", json!("some-profile"));
    let output = t.refuses(&bundle).exits(1);
    t.proa_says(&output, "process.apparmorProfile: \"some-profile\": AppArmor is not enabled on this host");
    let c = t.sleeper();
    let output = c.exec_with(&["--apparmor", "some-profile"], &["true"]).output().fails();
    t.proa_says(&output, "process.apparmorProfile: \"some-profile\"");
    Ok(())
}

fn a_label_without_selinux_is_refused(t: &Test<'_>) -> Done {
    t.needs(!selinux(), "a kernel without SELinux")?;
    t.peer_differs(Kind::Crun, "ignores it")?;
    let mut bundle = t.bundle();
    bundle.process("selinuxLabel", json!("system_u:system_r:container_t:s0"));
    let output = t.refuses(&bundle).exits(1);
    t.proa_says(&output, "process.selinuxLabel: \"system_u:system_r:container_t:s0\": SELinux is not enabled");
    let c = t.sleeper();
    let output = c.exec_with(&["--process-label", "system_u:system_r:container_t:s0"], &["true"]).output().fails();
    t.proa_says(&output, "process.selinuxLabel");
    Ok(())
}

fn a_mount_label_without_selinux_has_no_effect(t: &Test<'_>) -> Done {
    t.needs(!selinux(), "a kernel without SELinux")?;
    t.peer_differs(Kind::Runc, "hands the option to a kernel that does not know it")?;
    let mut bundle = t.sh_bundle("grep -c context= /proc/self/mounts");
    bundle.linux("mountLabel", json!("system_u:object_r:container_file_t:s0:c1,c2"));
    let id = t.id();
    let output = t.run_call(&bundle, &id).output();
    assert_eq!(output.stdout(), "0\n");
    t.proa_says(&output, "linux.mountLabel");
    Ok(())
}

fn unconfined_is_what_a_process_is_without_apparmor(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "writes to AppArmor's file though there is none")?;
    let mut bundle = t.sh_bundle("echo fine");
    bundle.process("apparmorProfile", json!("unconfined"));
    assert_eq!(t.prints(&bundle), "fine\n");
    Ok(())
}

/// Loads a profile that allows everything, and takes it away again.
struct Profile(String);

impl Profile {
    fn load(t: &Test<'_>, name: &str) -> Self {
        let name = format!("{name}-{}", t.tag());
        let text = format!(
            "profile {name} flags=(attach_disconnected,mediate_deleted) {{\n capability, network, mount, umount, pivot_root, ptrace, signal, unix, dbus,\n \
             file, deny /tmp/forbidden rwl,\n}}\n"
        );
        let profile = Profile(name);
        profile.parser(t, "--replace", &text);
        profile
    }

    fn parser(&self, t: &Test<'_>, action: &str, text: &str) {
        let file = t.make_file(&self.0, text);
        let status = Command::new("apparmor_parser").args([action, "--skip-cache", "--quiet"]).arg(file).status();
        assert!(status.expect("apparmor_parser cannot be run").success());
    }
}

impl Drop for Profile {
    fn drop(&mut self) {
        if let Err(error) = fs::write("/sys/kernel/security/apparmor/.remove", &self.0) {
            eprintln!("cannot remove AppArmor's profile {}: {error}", self.0);
        }
    }
}

fn a_profile_is_the_programs(t: &Test<'_>) -> Done {
    t.needs(apparmor(), "AppArmor")?;
    let profile = Profile::load(t, "program");
    let script = "cat /proc/self/attr/current; : > /tmp/allowed && echo allowed; : > /tmp/forbidden";
    let mut bundle = t.sh_bundle(script);
    bundle.process("apparmorProfile", json!(profile.0));
    for no_new_privileges in [false, true] {
        bundle.process("noNewPrivileges", json!(no_new_privileges));
        let output = t.run(&bundle);
        assert_eq!(output.stdout(), format!("{} (enforce)\nallowed\n", profile.0));
        assert_ne!(output.code(), 0, "the profile forbids the last command");
    }
    Ok(())
}

fn a_profile_that_is_not_loaded_is_refused(t: &Test<'_>) -> Done {
    t.needs(apparmor(), "AppArmor")?;
    let mut bundle = t.bundle();
    bundle.process("apparmorProfile", json!("no-such-profile"));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "process.apparmorProfile: \"no-such-profile\": no such profile is loaded");
    Ok(())
}

fn a_profile_of_exec(t: &Test<'_>) -> Done {
    t.needs(apparmor(), "AppArmor")?;
    let (first, second) = (Profile::load(t, "first"), Profile::load(t, "second"));
    let mut bundle = t.sleeping_bundle();
    bundle.process("apparmorProfile", json!(first.0));
    let c = t.start(&bundle);
    assert_eq!(c.sh("cat /proc/self/attr/current"), format!("{} (enforce)\n", first.0));
    let output = c.exec_with(&["--apparmor", &second.0], &["cat", "/proc/self/attr/current"]).output().ok();
    assert_eq!(output.stdout(), format!("{} (enforce)\n", second.0));
    c.exec_with(&["--apparmor", "no-such-profile"], &["true"]).output().fails();
    Ok(())
}

/// What a container has mounted over its own /proc does not swallow the label of the next program (CVE-2019-16884).
fn a_file_over_the_attribute_takes_no_label(t: &Test<'_>) -> Done {
    t.needs(apparmor(), "AppArmor")?;
    t.peer_differs(Kind::Crun, "not compared")?;
    let profile = Profile::load(t, "covered");
    let mut bundle = t.sleeping_bundle();
    bundle.capabilities(&["CAP_SYS_ADMIN"]).process("apparmorProfile", json!(profile.0));
    let c = t.start(&bundle);
    c.sh("mount -t tmpfs none /proc");
    let output = c.exec(&["true"]).output().fails();
    t.proa_says(&output, "process.apparmorProfile");
    Ok(())
}
