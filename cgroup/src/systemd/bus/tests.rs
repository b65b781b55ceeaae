use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use super::*;
use zvariant::serialized::Context;
use zvariant::{NATIVE_ENDIAN, ObjectPath, Value};

const METHOD: Method = Method { destination: "a.b", path: "/a", interface: "a.b.C", member: "Do" };
const PATIENCE: Duration = Duration::from_millis(300);

/// A message as a bus sends it: of kind 2 (return), 3 (error) or 4 (signal), to the call with that serial.
fn message<B: Serialize + Type>(kind: u8, to: u32, name: &str, body: &B) -> Vec<u8> {
    let context = Context::new_dbus(NATIVE_ENDIAN, 0);
    let body = zvariant::to_bytes(context, body).unwrap();
    let named = match kind {
        3 => (4u8, Value::from(name)),
        _ => (3u8, Value::from(name)),
    };
    let fields = vec![(5u8, Value::from(to)), named, (1u8, Value::from(ObjectPath::try_from("/x").unwrap()))];
    let endian = if cfg!(target_endian = "little") { b'l' } else { b'B' };
    let header = (endian, kind, 0u8, 1u8, body.len() as u32, 9u32, fields);
    let mut bytes = zvariant::to_bytes(context, &header).unwrap().to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(&body);
    bytes
}

/// A bus that takes whoever comes, and then does as it is told.
fn bus(after: impl FnOnce(&mut UnixStream) + Send + 'static) -> (Result<Bus, Failure>, JoinHandle<()>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let server = thread::spawn(move || {
        let mut asked = [0u8; 29];
        theirs.read_exact(&mut asked).unwrap();
        assert_eq!(&asked, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
        theirs.write_all(b"DATA\r\nOK 0123\r\n").unwrap();
        after(&mut theirs);
    });
    (Bus::on(ours.into(), PATIENCE), server)
}

fn answered(after: impl FnOnce(&mut UnixStream) + Send + 'static) -> Result<Message, Failure> {
    let (bus, server) = bus(|stream| {
        let mut call = [0u8; 4096];
        assert!(stream.read(&mut call).unwrap() > 16);
        after(stream);
    });
    let mut bus = bus?;
    let serial = bus.call(&METHOD, true, &("text", 5u32))?;
    let answer = bus.answer(serial);
    drop(bus);
    server.join().unwrap();
    answer
}

#[test]
fn a_call_in_bytes() {
    let bytes = message::call(7, &METHOD, true, &("hi", true)).unwrap();
    if cfg!(target_endian = "little") {
        let mut expected = b"l\x01\x00\x01\x0c\x00\x00\x00\x07\x00\x00\x00\x48\x00\x00\x00".to_vec();
        expected.extend_from_slice(b"\x01\x01o\x00\x02\x00\x00\x00/a\x00\x00\x00\x00\x00\x00");
        expected.extend_from_slice(b"\x02\x01s\x00\x05\x00\x00\x00a.b.C\x00\x00\x00");
        expected.extend_from_slice(b"\x03\x01s\x00\x02\x00\x00\x00Do\x00\x00\x00\x00\x00\x00");
        expected.extend_from_slice(b"\x06\x01s\x00\x03\x00\x00\x00a.b\x00\x00\x00\x00\x00");
        expected.extend_from_slice(b"\x08\x01g\x00\x02sb\x00");
        expected.extend_from_slice(b"\x02\x00\x00\x00hi\x00\x00\x01\x00\x00\x00");
        assert_eq!(bytes, expected);
    }
    let start: &[u8; START] = bytes.first_chunk().unwrap();
    assert_eq!(message::length(start).unwrap(), bytes.len());
    assert_eq!(message::parse(&bytes).unwrap().kind, Kind::Other);
}

/// The bytes of the same call as zbus has them, an implementation that knows nothing of ours.
fn by_zbus<B: Serialize + zbus::DynamicType>(serial: u32, body: &B) -> Vec<u8> {
    let call = zbus::Message::method_call(METHOD.path, METHOD.member);
    let call = call.interface(METHOD.interface).destination(METHOD.destination);
    call.serial(serial.try_into().unwrap()).build(body).unwrap().data().to_vec()
}

#[test]
fn calls_are_those_of_another_implementation() {
    use zbus::Variant;
    let ours = |serial, bytes: Result<Vec<u8>, Failure>, theirs: Vec<u8>| {
        assert_eq!(bytes.unwrap(), theirs, "call {serial}");
    };
    ours(1, message::call(1, &METHOD, true, &()), by_zbus(1, &()));
    ours(2, message::call(2, &METHOD, true, &("unit", true)), by_zbus(2, &("unit", true)));
    ours(3, message::call(3, &METHOD, true, &("x", "", &[7u32, 8][..])), by_zbus(3, &("x", "", &[7u32, 8][..])));
    // As StartTransientUnit has it, with a value of each type that a property can have.
    let values = [
        Value::from(true),
        Value::from(1u8),
        Value::from(-2i16),
        Value::from(3u16),
        Value::from(-4i32),
        Value::from(5u32),
        Value::from(-6i64),
        Value::from(u64::MAX),
        Value::from(0.5),
        Value::from("text"),
        Value::from(vec!["a", ""]),
        Value::from(vec![9u32]),
        Value::from(vec![7u8; 3]),
        Value::from(vec![("/dev/block/8:0".to_owned(), 5u64)]),
        Value::from(vec![("char-*".to_owned(), "rw".to_owned())]),
    ];
    let their_values = [
        Variant::from(true),
        Variant::from(1u8),
        Variant::from(-2i16),
        Variant::from(3u16),
        Variant::from(-4i32),
        Variant::from(5u32),
        Variant::from(-6i64),
        Variant::from(u64::MAX),
        Variant::from(0.5),
        Variant::from("text"),
        Variant::from(vec!["a", ""]),
        Variant::from(vec![9u32]),
        Variant::from(vec![7u8; 3]),
        Variant::from(vec![("/dev/block/8:0".to_owned(), 5u64)]),
        Variant::from(vec![("char-*".to_owned(), "rw".to_owned())]),
    ];
    let named: Vec<(&str, &Value<'_>)> = values.iter().map(|value| ("Name", value)).collect();
    let their_named: Vec<(&str, &Variant<'_>)> = their_values.iter().map(|value| ("Name", value)).collect();
    let none: &[(&str, &[(&str, Value<'_>)])] = &[];
    let their_none: &[(&str, &[(&str, Variant<'_>)])] = &[];
    let bytes = message::call(4, &METHOD, true, &("u.scope", "fail", named, none));
    ours(4, bytes, by_zbus(4, &("u.scope", "fail", their_named, their_none)));
}

#[test]
fn answers_of_another_implementation_are_read() {
    use zbus::wire::Endian;
    let call = zbus::Message::method_call("/a", "Do").serial(7.try_into().unwrap()).build(&()).unwrap();
    for endian in [Endian::Little, Endian::Big] {
        let answer = zbus::Message::method_return(&call.header()).endian(endian).build(&("job", 5u32)).unwrap();
        let answer = message::parse(answer.data()).unwrap();
        assert_eq!(answer.kind, Kind::Return(7));
        assert_eq!(answer.read::<(String, u32)>().unwrap(), ("job".to_owned(), 5));
        let refusal = zbus::Message::error(&call.header(), "a.b.C").endian(endian).build(&("no",)).unwrap();
        let refusal = message::parse(refusal.data()).unwrap();
        assert_eq!((&refusal.kind, refusal.text().as_str()), (&Kind::Error(7, "a.b.C".to_owned()), "no"));
        let signal = zbus::Message::signal("/a", "a.b.C", "Gone").endian(endian).build(&("x",)).unwrap();
        assert_eq!(message::parse(signal.data()).unwrap().kind, Kind::Signal("Gone".to_owned()));
    }
}

#[test]
fn the_answer_is_found_among_others_and_in_pieces() {
    let answer = answered(|stream| {
        let mut bytes = message(4, 0, "JobRemoved", &(1u32, "x"));
        bytes.extend(message(2, 77, "", &("of another call",)));
        bytes.extend(message(2, 1, "", &("mine", 8u32)));
        for piece in bytes.chunks(7) {
            stream.write_all(piece).unwrap();
        }
    });
    assert_eq!(answer.unwrap().read::<(String, u32)>().unwrap(), ("mine".to_owned(), 8));
}

#[test]
fn a_signal_that_comes_before_the_answer_is_kept() {
    let (bus, server) = bus(|stream| {
        stream.write_all(&message(4, 0, "JobRemoved", &(3u32,))).unwrap();
        stream.write_all(&message(2, 1, "", &())).unwrap();
        // Until the other side has seen it all.
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let mut bus = bus.unwrap();
    let serial = bus.call(&METHOD, true, &()).unwrap();
    bus.answer(serial).unwrap();
    let signal = bus.wait(|message| message.kind == Kind::Signal("JobRemoved".to_owned())).unwrap();
    assert_eq!(signal.read::<(u32,)>().unwrap(), (3,));
    drop(bus);
    server.join().unwrap();
}

#[test]
fn an_error_has_its_name_and_text() {
    let failure = answered(|stream| stream.write_all(&message(3, 1, "a.b.Error", &("no such thing",))).unwrap());
    let failure = failure.unwrap_err();
    assert!(failure.is("a.b.Error"));
    assert_eq!(failure.to_string(), "no such thing (a.b.Error)");
}

#[test]
fn no_answer_ends_in_time_and_an_end_at_once() {
    let before = Instant::now();
    let silent = answered(|stream| drop(stream.read_to_end(&mut Vec::new())));
    assert!(matches!(silent, Err(Failure::Timeout(_))), "{silent:?}");
    assert!(before.elapsed() < PATIENCE * 10);
    let closed = answered(|_| {});
    assert!(matches!(closed, Err(Failure::Closed | Failure::Lost(_))), "{closed:?}");
    // One byte at a time does not buy more of it.
    let slow = answered(|stream| {
        for byte in message(2, 1, "", &("x".repeat(100),)) {
            thread::sleep(Duration::from_millis(20));
            if stream.write_all(&[byte]).is_err() {
                break;
            }
        }
    });
    assert!(matches!(slow, Err(Failure::Timeout(_))), "{slow:?}");
}

#[test]
fn messages_that_lie_are_refused() {
    let good = message(2, 1, "", &("text",));
    let damaged = |at: usize, with: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        bytes
    };
    for (bytes, what) in [
        (damaged(0, b"x"), "begins with byte"),
        (damaged(4, &[0xff; 4]), "a message has"),
        (damaged(12, &[0xff; 4]), "a message has"),
        (damaged(17, &[200]), "makes no sense"),
        (vec![0; 64], "begins with byte"),
    ] {
        let failure = answered(move |stream| stream.write_all(&bytes).unwrap()).unwrap_err();
        assert!(matches!(&failure, Failure::Malformed(text) if text.contains(what)), "{failure}");
    }
    // What is there is not what was asked for.
    let answer = answered(|stream| stream.write_all(&message(2, 1, "", &(5u8,))).unwrap()).unwrap();
    assert!(answer.read::<(String,)>().is_err());
}

#[test]
fn who_is_not_let_in_learns_why() {
    for reply in ["REJECTED EXTERNAL\r\n", "DATA\r\nREJECTED\r\n", "HTTP/1.1 400\r\n"] {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(reply.as_bytes()).unwrap();
        let failure = Bus::on(ours.into(), PATIENCE).err().unwrap();
        assert!(matches!(failure, Failure::Authentication(_)), "{failure}");
    }
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(&[b'x'; 8192]).unwrap();
    assert!(matches!(Bus::on(ours.into(), PATIENCE), Err(Failure::Malformed(_))));
}

#[test]
fn addresses() {
    let name = |address: &str| socket_name(address).map(|name| format!("{:?}", name.unwrap()));
    assert!(name("unix:path=/run/dbus/system_bus_socket").unwrap().contains("/run/dbus/system_bus_socket"));
    assert!(name("tcp:host=x;unix:guid=1,path=/a%20b").unwrap().contains("/a b"));
    assert!(name("unix:abstract=/tmp/dbus").unwrap().contains("/tmp/dbus"));
    for bad in ["", "unix:", "tcp:host=x", "unix:path=%", "/run/bus", "unix:tmpdir=/tmp"] {
        assert!(socket_name(bad).is_none(), "{bad}");
    }
    assert!(matches!(Bus::connect("nonce-tcp:x", PATIENCE), Err(Failure::Address(_))));
    assert!(matches!(Bus::connect("unix:path=/nowhere/bus", PATIENCE), Err(Failure::Connect { .. })));
}
