//! Networks: what the engine sets up around the container's namespace, which the runtime has to leave as it is.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use conformance::look;
use conformance::test::Done;

use super::{ok, sh, sleeper, start};

crate::cases! {
    no_network,
    the_bridge,
    a_published_port,
    from_container_to_container_by_name,
    connected_later,
}

fn no_network() -> Done {
    assert_eq!(sh("--network none", "ip -o link | wc -l; ip -o -4 addr | awk '{ print $4 }'"), "1\n127.0.0.1/8");
    Ok(())
}

fn the_bridge() -> Done {
    let listener = TcpListener::bind("0.0.0.0:0").expect("cannot listen");
    let port = listener.local_addr().expect("it listens").port();
    let answer =
        std::thread::spawn(move || listener.accept().map(|(mut stream, _)| stream.write_all(b"from the host\n")));
    let script = format!(
        "ip -o -4 addr show eth0 | grep -c inet; \
         gw=$(ip route | awk '/default/ {{ print $3 }}'); nc $gw {port} </dev/null"
    );
    assert_eq!(sh("", &script), "1\nfrom the host");
    answer.join().expect("a thread").and_then(|written| written).expect("the host's end failed");
    Ok(())
}

const SERVER: &[&str] = &["sh", "-c", "mkdir /www; echo the page >/www/index.html; exec httpd -f -p 80 -h /www"];

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn a_published_port() -> Done {
    let container = start("-p 127.0.0.1:8081:80", SERVER);
    look::eventually("the page", || get(8081).is_some_and(|text| text.ends_with("the page\n")));
    container.ok("rm -f");
    look::eventually("the port to be closed", || get(8081).is_none());
    Ok(())
}

fn from_container_to_container_by_name() -> Done {
    ok(&["network", "create", "ours"]);
    let _server = start("--network ours --name server", SERVER);
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do wget -q -T 2 -O - http://server/ && break; sleep 0.3; done";
    assert_eq!(sh("--network ours", script), "the page");
    super::clear();
    ok(&["network", "rm", "ours"]);
    Ok(())
}

fn connected_later() -> Done {
    ok(&["network", "create", "later"]);
    let container = sleeper("");
    assert_eq!(container.sh("ip -o link | grep -c eth"), "1");
    ok(&["network", "connect", "later", &container.id]);
    assert_eq!(container.sh("ip -o link | grep -c eth"), "2");
    ok(&["network", "disconnect", "later", &container.id]);
    assert_eq!(container.sh("ip -o link | grep -c eth"), "1");
    super::clear();
    ok(&["network", "rm", "later"]);
    Ok(())
}
