//! Messages built and taken apart, and a socket of the kernel.

use super::*;

fn message(kind: i32, flags: i32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut request = Request::new(kind as u16, 0, body);
    let mut bytes = request.seal(sequence).unwrap().to_vec();
    bytes[..4].copy_from_slice(&((HEADER + body.len()) as u32).to_ne_bytes());
    bytes[6..8].copy_from_slice(&(flags as u16).to_ne_bytes());
    bytes
}

fn dump() -> Vec<u8> {
    let mut attribute = Request::new(0, 0, &[]);
    attribute.attribute(libc::IFA_LABEL, b"eth0\0").unwrap();
    attribute.attribute(0x8000 | libc::IFA_FLAGS, &[1, 2, 3, 4]).unwrap();
    let body = [&[0u8; 8][..], &attribute.0[HEADER..]].concat();
    let first = message(libc::RTM_NEWADDR.into(), libc::NLM_F_MULTI, 7, &body);
    [first.clone(), first, message(libc::NLMSG_DONE, libc::NLM_F_MULTI, 7, &[0; 4])].concat()
}

#[test]
fn a_request_is_aligned_and_counted() {
    let mut request = Request::new(libc::RTM_NEWLINK, libc::NLM_F_EXCL, &[9; 16]);
    request.attribute(libc::IFLA_IFNAME, b"ab\0").unwrap();
    request.attribute(libc::IFLA_NET_NS_FD, &5u32.to_ne_bytes()).unwrap();
    let bytes = request.seal(3).unwrap();
    assert_eq!(bytes.len(), 16 + 16 + 8 + 8);
    assert_eq!(number(bytes, 0), Some(48));
    assert_eq!(short(bytes, 4), Some(16));
    assert_eq!(short(bytes, 6), Some(0x205));
    assert_eq!(number(bytes, 8), Some(3));
    assert_eq!(number(bytes, 12), Some(0));
    let found: Vec<_> = attributes(&bytes[32..]).map(|a| a.unwrap()).collect();
    assert_eq!(found, [(3, &b"ab\0"[..]), (28, &5u32.to_ne_bytes()[..])]);
}

#[test]
fn an_attribute_has_a_largest_size() {
    let mut request = Request::new(libc::RTM_NEWLINK, 0, &[]);
    request.attribute(1, &[0; 65531]).unwrap();
    assert_eq!(request.0.len(), HEADER + 65536);
    assert_eq!(request.attribute(1, &[0; 65532]), Err(Errno::MSGSIZE));
    assert_eq!(request.0.len(), HEADER + 65536, "a refused attribute leaves nothing");
}

#[test]
fn a_dump_in_several_parts() {
    let mut answer = Answer::default();
    let part = message(libc::RTM_NEWLINK.into(), libc::NLM_F_MULTI, 7, b"one");
    assert_eq!(answer.take(&part, 7), Ok(false));
    assert_eq!(answer.take(&dump(), 7), Ok(true));
    assert_eq!(answer.bodies.len(), 3);
    assert_eq!(answer.bodies[0], b"one");
    let found: Vec<_> = attributes(&answer.bodies[1][8..]).map(|a| a.unwrap()).collect();
    assert_eq!(found, [(libc::IFA_LABEL, &b"eth0\0"[..]), (libc::IFA_FLAGS, &[1, 2, 3, 4][..])]);
    assert!(!answer.torn);
}

#[test]
fn an_interrupted_dump_is_torn() {
    let mut answer = Answer::default();
    let flags = libc::NLM_F_MULTI | libc::NLM_F_DUMP_INTR;
    assert_eq!(answer.take(&message(libc::NLMSG_DONE, flags, 1, &[]), 1), Ok(true));
    assert!(answer.torn);
}

#[test]
fn acknowledgements_and_refusals() {
    let say = |kind, body: &[u8]| Answer::default().take(&message(kind, 0, 1, body), 1);
    assert_eq!(say(libc::NLMSG_ERROR, &0i32.to_ne_bytes()), Ok(true));
    assert_eq!(say(libc::NLMSG_ERROR, &(-libc::EEXIST).to_ne_bytes()), Err(Errno::EXIST));
    assert_eq!(say(libc::NLMSG_DONE, &(-libc::ENOMEM).to_ne_bytes()), Err(Errno::NOMEM));
    for wrong in [&1i32.to_ne_bytes()[..], &i32::MIN.to_ne_bytes(), &[], &[0, 0, 0]] {
        assert_eq!(say(libc::NLMSG_ERROR, wrong), Err(Errno::BADMSG));
    }
    assert_eq!(say(libc::NLMSG_NOOP, &[]), Ok(false));
    assert_eq!(say(libc::NLMSG_OVERRUN, &[]), Err(Errno::NOBUFS));
}

#[test]
fn another_requests_answer_is_passed_over() {
    let mut answer = Answer::default();
    let late = message(libc::NLMSG_ERROR, 0, 6, &(-libc::EPERM).to_ne_bytes());
    assert_eq!(answer.take(&late, 7), Ok(false));
    assert_eq!(answer.take(&[], 7), Ok(false));
}

fn read_all(bytes: &[u8]) {
    let mut answer = Answer::default();
    answer.take(bytes, 7).unwrap_or_default();
    drop(Link::parse(bytes));
    for body in answer.bodies {
        assert!(attributes(body.get(8..).unwrap_or(&[])).count() <= body.len() / ATTRIBUTE + 1);
    }
    assert!(messages(bytes).count() <= bytes.len() / HEADER + 1);
    assert!(attributes(bytes).count() <= bytes.len() / ATTRIBUTE + 1);
}

#[test]
fn no_data_makes_it_panic_or_loop() {
    let valid = dump();
    for end in 0..valid.len() {
        read_all(&valid[..end]);
    }
    for at in 0..valid.len() {
        for value in 0..=255 {
            let mut bytes = valid.clone();
            bytes[at] = value;
            read_all(&bytes);
        }
    }
    // xorshift: the same bytes in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..12 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            // Small numbers, so that lengths are often right.
            bytes.extend_from_slice(&(state & 0x0000_001f_0007_003f).to_ne_bytes());
        }
        read_all(&bytes);
    }
}

#[test]
fn a_length_below_the_header_ends_it() {
    for length in 0..4u16 {
        let bytes = [length.to_ne_bytes(), [1, 0]].concat();
        assert_eq!(attributes(&bytes).collect::<Vec<_>>(), [Err(Errno::BADMSG)]);
    }
}

/// Needs no privilege: anyone may list the links of their own network namespace.
#[test]
fn the_kernel_lists_the_loopback_device() {
    let mut socket = Socket::open().unwrap();
    let bodies = socket.ask(Request::new(libc::RTM_GETLINK, libc::NLM_F_DUMP, &[0; 16])).unwrap();
    let links: Vec<_> = bodies.iter().map(|body| Link::parse(body).unwrap()).collect();
    let lo = socket.link_named(c"lo").unwrap().unwrap();
    assert!(links.contains(&lo));
    assert_eq!(lo.flags & libc::IFF_LOOPBACK as u32, libc::IFF_LOOPBACK as u32);
    assert_eq!(socket.link(lo.index), Ok(Some(lo)));
    assert_eq!(socket.link_named(c"proa-no-such"), Ok(None));
}
