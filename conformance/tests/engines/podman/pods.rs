//! Pods: containers that share namespaces of one that only holds them.

use conformance::image::BUSYBOX;
use conformance::look;
use conformance::test::Done;

use crate::cli::{Container, call, ok, run_call};

crate::cases! {
    a_pod_shares_namespaces,
    a_pods_ports_and_limits,
    a_pod_of_one_pid_namespace,
    a_pod_is_paused_stopped_and_started,
    a_pod_from_kubernetes,
}

fn in_pod(pod: &str, program: &[&str]) -> Container {
    let id = run_call(&format!("-d --pod {pod}"), program).run().text();
    Container { id }
}

fn a_pod_shares_namespaces() -> Done {
    ok(&["pod", "create", "--name", "one"]);
    let first = in_pod("one", &["sh", "-c", "echo page >/index.html; exec httpd -f -p 80 -h /"]);
    let second = in_pod("one", &crate::cli::SLEEP);
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(look::namespace(first.pid(), kind), look::namespace(second.pid(), kind), "{kind}");
    }
    for kind in ["pid", "mnt"] {
        assert_ne!(look::namespace(first.pid(), kind), look::namespace(second.pid(), kind), "{kind}");
    }
    look::eventually("the page", || second.call("exec", &["wget", "-qO-", "http://127.0.0.1/"]).run().out == "page\n");
    assert_eq!(second.sh("hostname"), "one");
    Ok(())
}

fn a_pods_ports_and_limits() -> Done {
    ok(&["pod", "create", "--name", "limited", "--memory", "100m", "-p", "127.0.0.1:8082:80"]);
    let container = in_pod("limited", &["sh", "-c", "echo page >/index.html; exec httpd -f -p 80 -h /"]);
    look::eventually("the port", || std::net::TcpStream::connect(("127.0.0.1", 8082)).is_ok());
    if let Some(memory) = look::controller(container.pid(), "memory") {
        let file = if memory.unified { "memory.max" } else { "memory.limit_in_bytes" };
        let pod = std::fs::read_to_string(memory.dir.parent().expect("a pod's cgroup").join(file)).expect("a limit");
        assert_eq!(pod.trim(), "104857600");
    }
    Ok(())
}

fn a_pod_of_one_pid_namespace() -> Done {
    ok(&["pod", "create", "--name", "pids", "--share", "pid,net,ipc"]);
    let first = in_pod("pids", &crate::cli::SLEEP);
    let second = in_pod("pids", &["sleep", "2000"]);
    assert_eq!(look::namespace(first.pid(), "pid"), look::namespace(second.pid(), "pid"));
    assert!(first.sh("ps -o args").contains("sleep 2000"));
    Ok(())
}

fn a_pod_is_paused_stopped_and_started() -> Done {
    ok(&["pod", "create", "--name", "whole"]);
    let container = in_pod("whole", &crate::cli::SLEEP);
    ok(&["pod", "pause", "whole"]);
    assert_eq!(container.status(), "paused");
    ok(&["pod", "unpause", "whole"]);
    let pid = container.pid();
    ok(&["pod", "stop", "-t", "1", "whole"]);
    assert!(!look::is_alive(pid));
    ok(&["pod", "start", "whole"]);
    assert!(look::is_alive(container.pid()));
    ok(&["pod", "rm", "-f", "-t", "0", "whole"]);
    Ok(())
}

fn a_pod_from_kubernetes() -> Done {
    let text = format!(
        "apiVersion: v1
kind: Pod
metadata: {{ name: kube }}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  initContainers:
  - name: first
    image: {BUSYBOX}
    command: [sh, -c, 'echo made >/shared/file']
    volumeMounts: [{{ name: v, mountPath: /shared }}]
  containers:
  - name: main
    image: {BUSYBOX}
    command: [sh, -c, 'cat /shared/file; id -u; sleep 1000']
    securityContext: {{ runAsUser: 1000, readOnlyRootFilesystem: true, capabilities: {{ drop: [ALL] }} }}
    resources: {{ limits: {{ memory: 64Mi }} }}
    volumeMounts: [{{ name: v, mountPath: /shared }}]
  volumes: [{{ name: v, emptyDir: {{}} }}]
"
    );
    call(&["kube", "play", "-"]).input(&text).run().ok();
    look::eventually("its output", || ok(&["logs", "kube-main"]) == "made\n1000");
    let main = Container { id: "kube-main".into() };
    if let Some(memory) = look::controller(main.pid(), "memory").filter(|memory| !memory.unified) {
        assert_eq!(memory.read("memory.limit_in_bytes"), "67108864");
    }
    call(&["kube", "down", "-"]).input(&text).run().ok();
    Ok(())
}
