//! A block device of a test's own, on a file: what is done to its limits and its scheduler concerns no other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A loop device (loop(4)), which ends with this value.
#[derive(Debug)]
pub struct LoopDevice {
    /// `/dev/loopN`.
    pub path: PathBuf,
    /// Its device number.
    pub major: u32,
    /// Its device number.
    pub minor: u32,
}

impl LoopDevice {
    /// A device of `size` bytes on a file that is made in `dir`. Nothing where the machine has no loop devices.
    pub fn new(dir: &Path, size: u64) -> Option<Self> {
        // Where it is built in there is no module to load.
        Command::new("modprobe").args(["--quiet", "loop"]).status().ok();
        let file = dir.join("disk");
        fs::File::create(&file).and_then(|file| file.set_len(size)).expect("cannot make a file");
        let output = Command::new("losetup").args(["--find", "--show"]).arg(&file).output().ok()?;
        let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if !output.status.success() {
            return None;
        }
        let mut device = Self { path, major: 0, minor: 0 };
        let text = fs::read_to_string(device.queue("../dev")).expect("a loop device has a number");
        let (major, minor) = text.trim().split_once(':').expect("a device number has a colon");
        device.major = major.parse().expect("no number");
        device.minor = minor.parse().expect("no number");
        Some(device)
    }

    fn queue(&self, file: &str) -> PathBuf {
        Path::new("/sys/block").join(self.path.file_name().unwrap_or_default()).join("queue").join(file)
    }

    /// Gives it this scheduler; false where the kernel has it not.
    pub fn set_scheduler(&self, name: &str) -> bool {
        Command::new("modprobe").args(["--quiet", name]).status().ok();
        fs::write(self.queue("scheduler"), name).is_ok()
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let status = Command::new("losetup").arg("--detach").arg(&self.path).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot detach {}", self.path.display());
    }
}
