//! The compiler's programs, run by an interpreter of classic BPF: against what they should say (`verdicts`), and against
//! the programs of libseccomp and seccompiler (`oracle`, on x86_64 with glibc, where those can be linked).

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
mod by_hand;
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
mod oracle;
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
mod random;
mod simulate;
mod verdicts;

use super::{Arch, Profile};
use crate::config::spec;

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default)]
struct Data {
    number: u32,
    arch: u32,
    arguments: [u64; 6],
}

/// A profile as engines write it; the specification's section alone.
fn parse(text: &str) -> spec::Seccomp<'_> {
    serde_json::from_str(text).unwrap()
}

const DOCKER: &str = include_str!("docker.json");
const PODMAN: &str = include_str!("podman.json");

/// With these architectures instead of its own.
fn on<'a>(given: &'a spec::Seccomp<'_>, architectures: &[Arch]) -> Profile<'a> {
    let profile = crate::plan::seccomp_profile(given).unwrap();
    Profile { architectures: architectures.to_vec(), ..profile }
}
