//! The `hugetlb` controller: how much of huge pages of each size may be reserved and used.

use rustix::io::Errno;

use super::controller::{Controller, Version};
use crate::error::Error;
use crate::resources::HugepageLimit;

/// Both the limit on faults and, where the kernel has it (Linux 5.7), that on reservations: of these two the second
/// makes mmap(2) fail instead of sending SIGBUS, and cannot be had without a controller that has the first.
pub(crate) fn apply(files: &Controller<'_>, limits: &[HugepageLimit]) -> Result<(), Error> {
    for (index, HugepageLimit { page_size, limit }) in limits.iter().enumerate() {
        let name = format!("hugepageLimits[{index}]");
        let file = |kind: &str| match files.version {
            Version::V1 => format!("hugetlb.{page_size}{kind}.limit_in_bytes"),
            Version::V2 => format!("hugetlb.{page_size}{kind}.max"),
        };
        files.set(&name, &file(""), limit)?;
        let reserved = file(".rsvd");
        match files.try_set(&reserved, limit) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(files.failure(&name, &reserved, &limit.to_string(), errno)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn reservations_are_bounded_where_the_kernel_can() {
        let limits = [HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 }];
        let old = Fake::new(&[("hugetlb.2MB.limit_in_bytes", "")]);
        apply(&old.v1(), &limits).unwrap();
        assert_eq!(old.log(), ["hugetlb.2MB.limit_in_bytes=4194304"]);
        let new = Fake::new(&[("hugetlb.2MB.max", ""), ("hugetlb.2MB.rsvd.max", "")]);
        apply(&new.v2(), &limits).unwrap();
        assert_eq!(new.log(), ["hugetlb.2MB.max=4194304", "hugetlb.2MB.rsvd.max=4194304"]);
        let error = apply(&Fake::new(&[]).v2(), &limits).unwrap_err();
        assert!(error.to_string().starts_with("linux.resources.hugepageLimits[0]: /fake/hugetlb.2MB.max "), "{error}");
    }
}
