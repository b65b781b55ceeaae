//! `linux.resources` of block devices, huge pages, network and RDMA devices, and files of version 2 by name: each field
//! is in the kernel's file once the container is created.

use std::fs;
use std::path::Path;

use conformance::look::{self, Controller};
use conformance::loop_device::LoopDevice;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

use crate::resources::{MIB, disk, needs, with};

crate::cases! {
    "L-45" => io_weight,
    "L-46" => io_weight_of_a_device,
    "" => io_weight_by_bfq,
    "" => io_leaf_weights,
    "L-47" => io_throttles,
    "L-48,L-49" => huge_pages,
    "L-50" => network,
    "L-53" => rdma,
    "L-54" => unified,
    "L-55" => unified_file_of_the_cgroup_itself,
}

fn io_weight(t: &Test<'_>) -> Done {
    needs(t, "blkio")?;
    let mut bundle = t.sleeping_bundle();
    bundle.config["linux"]["resources"]["blockIO"] = json!({"weight": 500});
    let id = t.id();
    let output = t.create_call(&bundle, &id).output();
    if !output.status.success()
        && ["blkio.weight", "blkio.bfq.weight"].iter().any(|file| output.stderr().contains(file))
    {
        t.proa_says(&output, "linux.resources.blockIO.weight: ");
        t.assert_clean_failure(&output);
        return t.needs(false, "a scheduler with weights in version 1");
    }
    let c = t.container(id, output);
    let files = look::controller(c.pid, "blkio").expect("no blkio");
    let found = ["blkio.bfq.weight", "blkio.weight", "io.bfq.weight"].iter().find_map(|file| files.get(file));
    match found {
        Some(text) => assert_eq!(text.trim_start_matches("default "), "500"),
        None => assert_eq!(files.read("io.weight"), "default 4950"),
    }
    Ok(())
}

/// Shares of a device, by the file that has them; refused where the device's scheduler takes none.
fn io_weight_of_a_device(t: &Test<'_>) -> Done {
    needs(t, "blkio")?;
    let (major, minor, device) = disk(t)?;
    t.proa_only("peers leave it out without a word where BFQ is not at work")?;
    let mut bundle = t.sleeping_bundle();
    bundle.config["linux"]["resources"]["blockIO"] =
        json!({"weightDevice": [{"major": major, "minor": minor, "weight": 300}]});
    let id = t.id();
    let output = t.create_call(&bundle, &id).output();
    if !output.status.success() {
        t.proa_says(&output, "linux.resources.blockIO.weightDevice[0].weight");
        t.assert_clean_failure(&output);
        return Ok(());
    }
    let c = t.container(id, output);
    let files = look::controller(c.pid, "blkio").expect("no blkio");
    let all = ["blkio.bfq.weight_device", "blkio.weight_device", "io.bfq.weight", "io.weight"];
    let texts: Vec<String> = all.iter().filter_map(|file| files.get(file)).collect();
    let expected = [format!("{device} 300"), format!("{device} 2930")];
    assert!(texts.iter().flat_map(|text| text.lines()).any(|line| expected.iter().any(|it| it == line)), "{texts:?}");
    Ok(())
}

/// The scheduler that has shares, on a disk of the test's own.
fn io_weight_by_bfq(t: &Test<'_>) -> Done {
    needs(t, "blkio")?;
    t.not_by_systemd("has weights of its own, which it writes to all files")?;
    let device = LoopDevice::new(&t.dir, MIB);
    t.needs(device.as_ref().is_some_and(|device| device.set_scheduler("bfq")), "the scheduler BFQ")?;
    let LoopDevice { major, minor, .. } = device.as_ref().expect("looked at before");
    let value = json!({"weight": 500, "weightDevice": [{"major": major, "minor": minor, "weight": 300}]});
    let (c, files) = with(t, "blockIO", value, "blkio");
    let (all, own) = match files.unified {
        true => ("io.bfq.weight", "io.bfq.weight"),
        false => ("blkio.bfq.weight", "blkio.bfq.weight_device"),
    };
    let text = files.read(all);
    assert_eq!(text.lines().next().map(|line| line.trim_start_matches("default ")), Some("500"), "{text}");
    let text = files.read(own);
    assert!(text.lines().any(|line| line == format!("{major}:{minor} 300")), "{text}");
    c.call("delete").options(&["--force"]).output().ok();
    Ok(())
}

/// Kernels since 5.0 have none, and version 2 never had.
fn io_leaf_weights(t: &Test<'_>) -> Done {
    let own = needs(t, "blkio")?;
    t.proa_only("peers ignore them without a word")?;
    t.needs(own.get("blkio.leaf_weight").is_none(), "a kernel without leaf weights")?;
    let (major, minor, _) = disk(t)?;
    for (value, name) in [
        (json!({"leafWeight": 300}), "leafWeight"),
        (json!({"weightDevice": [{"major": major, "minor": minor, "leafWeight": 300}]}), "weightDevice[0].leafWeight"),
    ] {
        let mut bundle = t.bundle();
        bundle.config["linux"]["resources"]["blockIO"] = value;
        let output = t.refuses(&bundle);
        t.proa_says(&output, &format!("linux.resources.blockIO.{name}: "));
    }
    Ok(())
}

fn io_throttles(t: &Test<'_>) -> Done {
    needs(t, "blkio")?;
    let (major, minor, device) = disk(t)?;
    let rate = |rate: u32| json!([{"major": major, "minor": minor, "rate": rate}]);
    let value = json!({
        "throttleReadBpsDevice": rate(1_048_576), "throttleWriteBpsDevice": rate(2_097_152),
        "throttleReadIOPSDevice": rate(300), "throttleWriteIOPSDevice": rate(400),
    });
    let (_c, files) = with(t, "blockIO", value, "blkio");
    if files.unified {
        assert_eq!(files.read("io.max"), format!("{device} rbps=1048576 wbps=2097152 riops=300 wiops=400"));
        return Ok(());
    }
    for (file, rate) in [("read_bps", 1_048_576), ("write_bps", 2_097_152), ("read_iops", 300), ("write_iops", 400)] {
        assert_eq!(files.read(&format!("blkio.throttle.{file}_device")), format!("{device} {rate}"));
    }
    Ok(())
}

fn huge_pages(t: &Test<'_>) -> Done {
    needs(t, "hugetlb")?;
    t.needs(fs::exists("/sys/kernel/mm/hugepages/hugepages-2048kB").is_ok_and(|it| it), "huge pages of 2 MB")?;
    let (_c, files) = with(t, "hugepageLimits", json!([{"pageSize": "2MB", "limit": 4 * MIB}]), "hugetlb");
    let kinds = if files.unified { ["max", "rsvd.max"] } else { ["limit_in_bytes", "rsvd.limit_in_bytes"] };
    assert_eq!(files.read(&format!("hugetlb.2MB.{}", kinds[0])), (4 * MIB).to_string());
    if let Some(reserved) = files.get(&format!("hugetlb.2MB.{}", kinds[1])).filter(|_| !t.is(Kind::Crun)) {
        assert_eq!(reserved, (4 * MIB).to_string());
    }
    Ok(())
}

fn network(t: &Test<'_>) -> Done {
    let own = look::own_controller("net_cls").filter(|files| !files.unified);
    if own.is_none() {
        t.peer_differs(Kind::Runc, "ignores it without a word")?;
        for value in [json!({"classID": 5}), json!({"priorities": [{"name": "lo", "priority": 3}]})] {
            let mut bundle = t.bundle();
            bundle.config["linux"]["resources"]["network"] = value;
            let output = t.refuses(&bundle);
            t.proa_says(&output, "linux.resources.network.");
        }
        return Ok(());
    }
    let value = json!({"classID": 1_048_577, "priorities": [{"name": "lo", "priority": 3}]});
    let (c, files) = with(t, "network", value, "net_cls");
    assert_eq!(files.read("net_cls.classid"), "1048577");
    let files = look::controller(c.pid, "net_prio").expect("no net_prio");
    assert!(files.read("net_prio.ifpriomap").lines().any(|line| line == "lo 3"));
    Ok(())
}

/// There is no device here; the kernel says so, and create names the entry.
fn rdma(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "ignores it without a word")?;
    let mut bundle = t.bundle();
    bundle.config["linux"]["resources"]["rdma"] = json!({"nosuch_0": {"hcaHandles": 3}});
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.resources.rdma[\"nosuch_0\"]");
    Ok(())
}

fn unified(t: &Test<'_>) -> Done {
    let own = needs(t, "memory")?;
    t.needs(own.unified, "memory in version 2")?;
    let mut bundle = t.sleeping_bundle();
    bundle.config["linux"]["resources"]["unified"] = json!({"memory.high": "33554432", "pids.max": "40"});
    // It wins over what has the same file.
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 7});
    let c = t.create(&bundle);
    let files = look::controller(c.pid, "memory").expect("no memory");
    assert_eq!([files.read("memory.high"), files.read("pids.max")], ["33554432", "40"]);
    Ok(())
}

fn unified_file_of_the_cgroup_itself(t: &Test<'_>) -> Done {
    t.needs(look::cgroups() == look::Cgroups::Unified, "a pure cgroup v2")?;
    t.peer_differs(Kind::Crun, "takes only files of controllers")?;
    t.peer_differs(Kind::Runc, "takes only files of controllers")?;
    let (_c, files) = {
        let mut bundle = t.sleeping_bundle();
        bundle.config["linux"]["resources"]["unified"] = json!({"cgroup.max.descendants": "3"});
        let c = t.create(&bundle);
        let dir = Path::new("/sys/fs/cgroup").join(look::cgroup_paths(c.pid)[""].trim_start_matches('/'));
        (c, Controller { unified: true, dir })
    };
    assert_eq!(files.read("cgroup.max.descendants"), "3");
    Ok(())
}
