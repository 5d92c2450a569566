#![allow(clippy::unwrap_used)]
use super::*;
use crate::datagram::Header;
use proptest::prelude::*;

const MAX: usize = 1_200;

fn draft(writes: &[(u64, u64, &[u8])]) -> Draft {
    let mut draft = Draft::default();
    for (session, offset, bytes) in writes {
        assert!(draft.try_add(SessionId(*session), *offset, bytes, MAX));
    }
    draft
}

fn encode(draft: &Draft) -> Bytes {
    let mut out = BytesMut::new();
    draft.encode(&mut out);
    assert_eq!(out.len(), draft.encoded_len());
    out.freeze()
}

fn hex(draft: &Draft) -> String {
    encode(draft).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(bytes: &[u8]) -> Result<Repair, Violation> {
    Repair::decode(Bytes::copy_from_slice(bytes))
}

#[test]
fn the_bytes_of_released_repairs_never_change() {
    assert_eq!(
        hex(&draft(&[(7, 0x1_0000_0002, b"hi")])),
        "400107000000020002".to_owned() + "6869"
    );
    assert_eq!(
        hex(&draft(&[
            (1, 16, b"abc"),
            (300, 0, b"xy"),
            (u64::MAX, u64::MAX, b"\xff")
        ])),
        "4003".to_owned() + "01000000100003" + "ac02000000000002" + "ffffffffffffffffff01ffffffff0001" + "e61b63"
    );
}

#[test]
fn a_copy_of_the_largest_write_fits_into_a_datagram_whatever_its_session() {
    let copy = draft(&[(u64::MAX, 0, &[1; MAX_WRITE])]);
    assert!(encode(&copy).len() <= MAX);
    assert_eq!(Repair::decode(encode(&copy)).unwrap().parity().len(), MAX_WRITE);
}

#[test]
fn writes_of_one_session_that_follow_each_other_are_one() {
    let both = draft(&[(1, 0xffff_fffe, b"ab"), (2, 0, b"xyz"), (1, 0x1_0000_0000, b"cd")]);
    let at_once = draft(&[(1, 0xffff_fffe, b"abcd"), (2, 0, b"xyz")]);
    assert_eq!(encode(&both), encode(&at_once));
}

#[test]
fn a_session_is_not_covered_twice() {
    let mut one = draft(&[(1, 0, b"ab")]);
    assert!(!one.try_add(SessionId(1), 3, b"d", MAX));
    assert!(!one.try_add(SessionId(1), 0, b"ab", MAX));
    assert_eq!(encode(&one), encode(&draft(&[(1, 0, b"ab")])));
}

#[test]
fn a_draft_refuses_what_no_decoder_takes() {
    let mut empty = Draft::default();
    assert!(!empty.try_add(SessionId(1), 0, b"", MAX));
    assert!(!empty.try_add(SessionId(1), 0, &[0; MAX_WRITE + 1], usize::MAX));
    assert!(empty.is_empty());
    let mut full = draft(&[(0, 0, b"x")]);
    for session in 1..MAX_WRITES as u64 {
        assert!(full.try_add(SessionId(session), 0, b"x", MAX));
    }
    assert!(!full.try_add(SessionId(99), 0, b"x", MAX));
    let mut joined = draft(&[(1, 0, &[0; MAX_WRITE])]);
    assert!(!joined.try_add(SessionId(1), MAX_WRITE as u64, b"x", usize::MAX));
}

#[test]
fn malformed_repairs_are_told_by_name() {
    for bytes in [
        &b""[..],
        b"\x40",
        b"\x41\x01\x01\0\0\0\0\0\x01x",                                     // unknown bits
        b"\x30\x01\x01\0\0\0\0\0\x01x",                                     // another kind
        b"\x40\x00",                                                        // nothing covered
        b"\x40\x09\x01\0\0\0\0\0\x01x",                                     // too much covered
        b"\x40\x01\x01\0\0\0\0\0\x00",                                      // an empty write
        b"\x40\x01\x01\0\0\0\0\0\x01",                                      // no parity
        b"\x40\x01\x01\0\0\0\0\0\x01xy",                                    // too long a parity
        b"\x40\x01\x81\0\0\0\0\0\0\x01x",                                   // a longer varint than need be
        b"\x40\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\0\x01x", // beyond a u64
        b"\x40\x01\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01\0\0\0\0\0\x01x",
    ] {
        assert_eq!(decode(bytes), Err(Violation::MalformedRepair), "{bytes:02x?}");
    }
    let mut long = b"\x40\x01\x01\0\0\0\0\x04\x4d".to_vec();
    long.extend([0; MAX_WRITE + 1]);
    assert_eq!(decode(&long), Err(Violation::MalformedRepair));
}

#[test]
fn a_repair_is_told_from_other_datagrams_by_its_first_byte() {
    let repair = encode(&draft(&[(1, 0, b"x")]));
    assert!(is_repair(&repair));
    assert_eq!(Header::decode(&mut repair.clone()), Err(Violation::MalformedDatagram));
    for kind in 0..4 {
        assert!(!is_repair(&[kind << 4, 0, 0, 0, 1]));
    }
    assert!(!is_repair(b""));
}

proptest! {
    #[test]
    fn repairs_survive_the_wire_within_the_size_of_a_datagram(
        writes in proptest::collection::vec((0u64..6, any::<u64>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 0..1200)), 1..12),
        max in 0usize..1500,
    ) {
        let mut draft = Draft::default();
        let (mut expected, mut parity) = (Vec::new(), vec![0; MAX_WRITE]);
        for (shift, session, offset, bytes) in &writes {
            let session = SessionId(session >> (shift * 10));
            if draft.writes().iter().all(|write| write.session != session) && draft.try_add(session, *offset, bytes, max) {
                expected.push(Covered { session, offset: *offset as u32, length: bytes.len() as u16 });
                xor(&mut parity, bytes);
            }
        }
        prop_assert_eq!(draft.is_empty(), expected.is_empty());
        if !draft.is_empty() {
            let datagram = encode(&draft);
            prop_assert!(datagram.len() <= max);
            let repair = Repair::decode(datagram).unwrap();
            prop_assert_eq!(repair.writes(), &expected[..]);
            prop_assert_eq!(&repair.parity()[..], &parity[..repair.parity().len()]);
        }
        draft.clear();
        prop_assert!(draft.is_empty() && draft.encoded_len() == PREFIX);
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(count: u8, bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode(&bytes);
        let _ = decode(&[&[KIND << 4, count % 10], &bytes[..]].concat());
    }

    #[test]
    fn what_is_decoded_is_within_bounds(count in 1u8..9, writes in proptest::collection::vec((0u8..128, any::<u32>(), 0u16..1200), 8), parity in 0usize..1200) {
        let mut bytes = vec![KIND << 4, count];
        let writes = &writes[..count.into()];
        for (session, offset, length) in writes {
            bytes.push(*session);
            bytes.extend(offset.to_be_bytes());
            bytes.extend(length.to_be_bytes());
        }
        let longest = writes.iter().map(|write| usize::from(write.2)).max().unwrap();
        let is_good = writes.iter().all(|write| (1..=MAX_WRITE).contains(&usize::from(write.2)));
        bytes.resize(bytes.len() + longest, 0);
        prop_assert_eq!(decode(&bytes).is_ok(), is_good);
        bytes.resize(bytes.len() - longest + parity, 0);
        prop_assert_eq!(decode(&bytes).is_ok(), is_good && parity == longest);
    }
}
