//! The `rdma` controller: bounds on the resources of RDMA devices. The same file in v1 and v2.

use super::controller::Controller;
use crate::error::Error;
use crate::resources::Rdma;

/// A line for each device.
pub(crate) fn apply(files: &Controller<'_>, devices: &[Rdma]) -> Result<(), Error> {
    devices.iter().try_for_each(|device| files.set(&format!("rdma[{:?}]", device.device), "rdma.max", line(device)))
}

fn line(device: &Rdma) -> String {
    let mut line = device.device.clone();
    for (key, value) in [("hca_handle", device.hca_handles), ("hca_object", device.hca_objects)] {
        if let Some(value) = value {
            line.push_str(&format!(" {key}={value}"));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_what_is_set() {
        let device = |hca_handles, hca_objects| Rdma { device: "mlx5_1".into(), hca_handles, hca_objects };
        assert_eq!(line(&device(Some(3), Some(10_000))), "mlx5_1 hca_handle=3 hca_object=10000");
        assert_eq!(line(&device(None, Some(0))), "mlx5_1 hca_object=0");
    }
}
