#![allow(clippy::unwrap_used)]
use super::keys::{Keys, Version};
use super::*;
use crate::tls::tests::message;
use crate::tls::{self, Hello};
use proptest::prelude::*;

/// The connection id of the clients in both RFCs' examples.
const ID: &[u8] = b"\x83\x94\xc8\xf0\x3e\x51\x57\x08";

const V1: u32 = 1;
const V2: u32 = 0x6b33_43cf;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A number in the two bytes that hold all we need.
fn varint(number: usize) -> [u8; 2] {
    assert!(number < 1 << 14);
    (number as u16 | 0x4000).to_be_bytes()
}

fn crypto(offset: usize, data: &[u8]) -> Vec<u8> {
    [&[6][..], &varint(offset), &varint(data.len()), data].concat()
}

/// An Initial packet as a client seals it.
#[derive(Clone)]
struct Sealed<'a> {
    version: u32,
    /// What the keys come from.
    origin: &'a [u8],
    destination: &'a [u8],
    token: &'a [u8],
    number: u64,
    number_size: usize,
}

impl Default for Sealed<'_> {
    fn default() -> Self {
        Self {
            version: V1,
            origin: ID,
            destination: ID,
            token: b"",
            number: 0,
            number_size: 1,
        }
    }
}

impl Sealed<'_> {
    fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let version = Version::from_number(self.version).unwrap();
        let kind = if version == Version::V1 { 0 } else { 1 };
        let mut header = vec![0xc0 | kind << 4 | (self.number_size - 1) as u8];
        header.extend_from_slice(&self.version.to_be_bytes());
        header.push(self.destination.len() as u8);
        header.extend_from_slice(self.destination);
        header.push(0);
        // The RFCs' examples write a length of zero in one byte.
        if self.token.is_empty() {
            header.push(0);
        } else {
            header.extend_from_slice(&varint(self.token.len()));
            header.extend_from_slice(self.token);
        }
        header.extend_from_slice(&varint(self.number_size + payload.len() + keys::TAG));
        let number_at = header.len();
        header.extend_from_slice(&self.number.to_be_bytes()[8 - self.number_size..]);
        let keys = Keys::of_client(version, self.origin);
        let mut packet = header.clone();
        packet.extend(keys.seal(self.number, &header, payload));
        let sample = packet[number_at + 4..][..keys::SAMPLE].try_into().unwrap();
        let mask = keys.mask(sample);
        packet[0] ^= mask[0] & 0x0f;
        for at in 0..self.number_size {
            packet[number_at + at] ^= mask[1 + at];
        }
        packet
    }

    /// A packet with these frames, padded to 1,200 bytes as a client's first must be.
    fn padded(&self, frames: &[u8]) -> Vec<u8> {
        // The payload of the shortest packet that holds a sample has three bytes.
        let mut payload = [frames, &[0; 3]].concat();
        let bare = self.packet(&payload).len();
        payload.resize(payload.len() + 1_200_usize.saturating_sub(bare), 0);
        self.packet(&payload)
    }

    fn numbered(number: u64) -> Self {
        Self {
            number,
            ..Self::default()
        }
    }
}

fn hello() -> Hello {
    Hello {
        server_name: Some("play.example.net".into()),
        alpn: vec![b"h3".to_vec()],
    }
}

/// A hello of `hello()` that needs two datagrams.
fn large() -> Vec<u8> {
    message("play.example.net", &["h3"], 1_700)
}

/// The client's part of RFC 9001, appendix A.2, which RFC 9369 repeats.
fn example() -> Vec<u8> {
    let mut frames = hex(
        "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c000000010000e0000\
         0b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e000500050100000000003300260024001d00209370\
         b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e0403050306030203080408050806002d0002\
         0101001c00024001003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ff\
         ff",
    );
    frames.resize(1_162, 0);
    frames
}

#[test]
fn the_examples_of_both_rfcs_are_read_and_sealed_to_their_bytes() {
    let first: &[u8] = include_bytes!("../../corpus/quic/rfc9001-client.bin");
    let second: &[u8] = include_bytes!("../../corpus/quic/rfc9369-client.bin");
    for (version, datagram) in [(V1, first), (V2, second)] {
        let sealed = Sealed {
            version,
            number: 2,
            number_size: 4,
            ..Sealed::default()
        };
        assert!(sealed.packet(&example()) == datagram);
        let hello = Initials::new().on_datagram(datagram).unwrap().unwrap();
        assert_eq!(hello.server_name.as_deref(), Some("example.com"));
        assert_eq!(hello.alpn, [b"alpn"]);
        let header = LongHeader::decode(datagram).unwrap();
        let expected = LongHeader {
            version,
            destination: ID,
            source: b"",
            is_initial: true,
        };
        assert_eq!(header, expected);
    }
}

#[test]
fn a_datagram_recorded_from_aioquic_is_read_in_both_versions() {
    // aioquic 1.7.2 asking for play.example.net over HTTP/3.
    let first: &[u8] = include_bytes!("../../corpus/quic/aioquic-v1.bin");
    let second: &[u8] = include_bytes!("../../corpus/quic/aioquic-v2.bin");
    for datagram in [first, second] {
        assert_eq!(Initials::new().on_datagram(datagram), Ok(Some(hello())));
    }
}

#[test]
fn a_hello_recorded_from_chromium_is_put_together_whatever_is_lost() {
    // Chromium 156 asking a socket that never answers: a hello of 1,946 bytes in two datagrams, retransmissions of either, each cut and shuffled in its
    // own way, and the end of its patience.
    let fronts: [&[u8]; 3] = [
        include_bytes!("../../corpus/quic/chromium-0.bin"),
        include_bytes!("../../corpus/quic/chromium-2.bin"),
        include_bytes!("../../corpus/quic/chromium-4.bin"),
    ];
    let backs: [&[u8]; 2] = [
        include_bytes!("../../corpus/quic/chromium-1.bin"),
        include_bytes!("../../corpus/quic/chromium-3.bin"),
    ];
    let close: &[u8] = include_bytes!("../../corpus/quic/chromium-5.bin");
    for front in fronts {
        for back in backs {
            for [one, other] in [[front, back], [back, front]] {
                let mut initials = Initials::new();
                assert_eq!(initials.on_datagram(one), Ok(None));
                assert_eq!(initials.on_datagram(one), Ok(None));
                assert_eq!(initials.on_datagram(other), Ok(Some(hello())));
                assert_eq!(initials.on_datagram(close), Err(Violation::Closed));
            }
        }
    }
}

#[test]
fn a_hello_over_two_datagrams_in_shuffled_pieces_is_put_together() {
    // As Chromium sends it: pieces in no order, pings and padding between, packet numbers with a gap.
    let message = large();
    let piece = |from: usize, to: usize| crypto(from, &message[from..to]);
    let end = message.len();
    let first = [
        &[1][..],
        &piece(900, 1_000),
        &[0, 0, 1],
        &piece(40, 300),
        &piece(1_400, 1_700),
        &[1],
    ]
    .concat();
    let second = [
        piece(300, 900),
        vec![0; 3],
        piece(0, 40),
        vec![1],
        piece(1_000, 1_400),
        piece(1_700, end),
    ]
    .concat();
    let [first, second] = [Sealed::numbered(1).padded(&first), Sealed::numbered(4).padded(&second)];
    for order in [[&first, &second], [&second, &first]] {
        let mut initials = Initials::new();
        assert_eq!(initials.on_datagram(order[0]), Ok(None));
        assert_eq!(initials.on_datagram(order[1]), Ok(Some(hello())));
    }
}

#[test]
fn a_retransmission_cut_differently_fills_the_gap() {
    let message = large();
    let mut initials = Initials::new();
    let first = [crypto(0, &message[..700]), crypto(800, &message[800..1_000])].concat();
    assert_eq!(initials.on_datagram(&Sealed::numbered(0).padded(&first)), Ok(None));
    let first_again = crypto(0, &message[..650]);
    assert_eq!(
        initials.on_datagram(&Sealed::numbered(2).padded(&first_again)),
        Ok(None)
    );
    let rest = crypto(600, &message[600..1_700]);
    assert_eq!(initials.on_datagram(&Sealed::numbered(3).padded(&rest)), Ok(None));
    let rest = crypto(1_650, &message[1_650..]);
    assert_eq!(
        initials.on_datagram(&Sealed::numbered(7).padded(&rest)),
        Ok(Some(hello()))
    );
}

#[test]
fn packets_that_share_a_datagram_are_all_read() {
    let message = message("play.example.net", &["h3"], 0);
    let (front, back) = message.split_at(60);
    let one = Sealed::numbered(0).packet(&crypto(60, back));
    let two = Sealed::numbered(1).packet(&crypto(0, front));
    // Early data of the same connection, and what is no packet at all.
    let early = [&[0xd0, 0, 0, 0, 1, 8], ID, &[0, 3, 1, 2, 3]].concat();
    for after in [&b""[..], &[0; 400], &[0xc0; 9], &[0x40; 30]] {
        let datagram = [&one[..], &early, &two, after].concat();
        assert_eq!(Initials::new().on_datagram(&datagram), Ok(Some(hello())));
    }
    // A packet to another id is not of this connection.
    let other = Sealed {
        destination: b"other",
        ..Sealed::numbered(1)
    }
    .packet(&crypto(0, front));
    assert_eq!(Initials::new().on_datagram(&[one, other].concat()), Ok(None));
}

#[test]
fn the_keys_stay_those_of_the_first_connection_id() {
    let message = large();
    let mut initials = Initials::new();
    let first = Sealed::numbered(0).padded(&crypto(0, &message[..1_000]));
    assert_eq!(initials.on_datagram(&first), Ok(None));
    // The server has chosen an id by now, which the client uses; the keys are still those of the first.
    let chosen = Sealed {
        destination: b"chosen",
        ..Sealed::numbered(1)
    };
    let ack = [&[2, 0, 0, 0, 0][..], &crypto(1_000, &message[1_000..])].concat();
    assert_eq!(initials.on_datagram(&chosen.packet(&ack)), Ok(Some(hello())));

    let mut initials = Initials::new();
    assert_eq!(initials.on_datagram(&first), Ok(None));
    let stranger = Sealed {
        origin: b"chosen",
        destination: b"chosen",
        ..Sealed::numbered(1)
    };
    assert_eq!(
        initials.on_datagram(&stranger.packet(&ack)),
        Err(Violation::Undecryptable)
    );
    let two = Sealed {
        version: V2,
        ..Sealed::numbered(1)
    };
    assert_eq!(initials.on_datagram(&two.packet(&ack)), Err(Violation::BadVersion));
    assert_eq!(
        initials.on_datagram(&Sealed::numbered(1).packet(&ack)),
        Ok(Some(hello()))
    );
}

#[test]
fn a_datagram_that_does_not_open_leaves_no_keys_behind() {
    let mut initials = Initials::new();
    let mut broken = Sealed {
        origin: b"stranger",
        destination: b"stranger",
        ..Sealed::default()
    }
    .padded(&[1]);
    broken[100] ^= 1;
    assert_eq!(initials.on_datagram(&broken), Err(Violation::Undecryptable));
    let whole = Sealed::default().padded(&crypto(0, &message("play.example.net", &["h3"], 0)));
    assert_eq!(initials.on_datagram(&whole), Ok(Some(hello())));
}

#[test]
fn a_token_and_every_length_of_a_packet_number_are_read() {
    let frames = crypto(0, &message("play.example.net", &["h3"], 0));
    for number_size in 1..=4 {
        for token in [&b""[..], &[0x55; 200]] {
            let sealed = Sealed {
                token,
                number: 0x7f,
                number_size,
                ..Sealed::default()
            };
            assert_eq!(Initials::new().on_datagram(&sealed.padded(&frames)), Ok(Some(hello())));
        }
    }
}

#[test]
fn acknowledgements_are_passed_over() {
    let frames = [
        &[2, 5, 0, 1, 1, 0, 1][..],
        &[3, 5, 0, 0, 1, 1, 2, 3],
        &crypto(0, &message("play.example.net", &["h3"], 0)),
    ]
    .concat();
    assert_eq!(
        Initials::new().on_datagram(&Sealed::default().padded(&frames)),
        Ok(Some(hello()))
    );
}

#[test]
fn a_changed_bit_anywhere_in_a_packet_is_noticed() {
    let datagram = Sealed::default().padded(&crypto(0, &message("play.example.net", &["h3"], 0)));
    for at in (0..datagram.len()).step_by(7).chain(0..40) {
        let mut changed = datagram.clone();
        changed[at] ^= 0x10;
        assert!(
            !matches!(Initials::new().on_datagram(&changed), Ok(Some(_))),
            "byte {at}"
        );
    }
    for cut in 0..datagram.len() {
        assert!(Initials::new().on_datagram(&datagram[..cut]).is_err(), "cut to {cut}");
    }
}

#[test]
fn every_offence_has_its_name() {
    let offence = |datagram: &[u8]| Initials::new().on_datagram(datagram).unwrap_err();
    let of = |frames: &[u8]| offence(&Sealed::default().padded(frames));
    assert_eq!(offence(b""), Violation::NotLong);
    assert_eq!(offence(&[0x40; 1_200]), Violation::NotLong);
    assert_eq!(offence(&[0xc0, 0, 0]), Violation::BadPacket);
    assert_eq!(offence(&[0x80, 0, 0, 0, 1, 0, 0, 0, 0]), Violation::BadPacket);
    assert_eq!(
        offence(&[&[0xc0, 0, 0, 0, 1, 21][..], &[0; 200]].concat()),
        Violation::BadPacket
    );
    assert_eq!(offence(&[0xc0, 0, 0, 0, 0, 0, 0, 0, 0]), Violation::BadVersion);
    assert_eq!(offence(&[0xc0, 0xff, 0, 0, 29, 0, 0, 0, 0]), Violation::BadVersion);
    // A length that is none, one that is too short to hold a sample, and a packet that only a server sends.
    assert_eq!(offence(&[0xc0, 0, 0, 0, 1, 0, 0, 0, 0xff]), Violation::BadPacket);
    assert_eq!(offence(&[0xc0, 0, 0, 0, 1, 0, 0, 0, 2, 7, 7]), Violation::BadPacket);
    assert_eq!(offence(&[0xf0, 0, 0, 0, 1, 0, 0, 9, 9, 9]), Violation::BadPacket);

    for short in [&[6][..], &[6, 0], &[2, 0, 0], &[3, 0, 0, 0, 0], &[0x40]] {
        let sealed = Sealed {
            number_size: 4,
            ..Sealed::default()
        };
        assert_eq!(
            offence(&sealed.packet(&[&[0; 20][..], short].concat())),
            Violation::BadFrame,
            "{short:?}"
        );
    }
    assert_eq!(
        of(&[2, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Violation::BadFrame
    );
    assert_eq!(
        of(&[6, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        Violation::BadFrame
    );
    assert_eq!(of(&[0x08, 0]), Violation::UnexpectedFrame);
    assert_eq!(of(&[0x1c, 0, 0, 0]), Violation::Closed);
    assert_eq!(of(&[6, 0x80, 0, 0x40, 0, 1, 7]), Violation::CryptoTooFar);
    assert_eq!(
        of(&[6, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 7]),
        Violation::CryptoTooFar
    );

    assert_eq!(
        of(&crypto(0, b"\x02")),
        Violation::Hello(tls::Violation::NotClientHello)
    );
    assert_eq!(
        of(&crypto(0, b"\x01\x00\x40\x00")),
        Violation::Hello(tls::Violation::HelloTooLarge)
    );
    assert_eq!(
        of(&crypto(0, b"\x01\x00\x00\x01\x00")),
        Violation::Hello(tls::Violation::BadHello)
    );
    assert_eq!(Violation::Hello(tls::Violation::BadHello).as_str(), "bad_hello");
}

#[test]
fn a_flood_is_bounded() {
    let ping = Sealed::default().padded(&[1]);
    let mut initials = Initials::new();
    for _ in 0..MAX_DATAGRAMS {
        assert_eq!(initials.on_datagram(&ping), Ok(None));
    }
    let whole = Sealed::default().padded(&crypto(0, &message("play.example.net", &["h3"], 0)));
    for _ in 0..1_000 {
        assert_eq!(initials.on_datagram(&whole), Err(Violation::TooManyDatagrams));
    }

    // Datagrams count whether they are read or not.
    let mut initials = Initials::new();
    for _ in 0..MAX_DATAGRAMS {
        assert_eq!(initials.on_datagram(b"\x40"), Err(Violation::NotLong));
    }
    assert_eq!(initials.on_datagram(&whole), Err(Violation::TooManyDatagrams));

    let mut initials = Initials::new();
    let huge = Sealed::default().packet(&[0; MAX_BYTES - 100]);
    assert_eq!(initials.on_datagram(&huge), Ok(None));
    assert_eq!(initials.on_datagram(&huge), Err(Violation::TooManyBytes));
    assert_eq!(initials.on_datagram(&whole), Err(Violation::TooManyBytes));

    let pieces: Vec<u8> = (1..=MAX_PIECES).flat_map(|at| crypto(2 * at, b"x")).collect();
    let mut initials = Initials::new();
    assert_eq!(initials.on_datagram(&Sealed::numbered(0).packet(&pieces)), Ok(None));
    let more = Sealed::numbered(1).packet(&pieces);
    assert_eq!(initials.on_datagram(&more), Err(Violation::TooManyPieces));
}

#[test]
fn headers_of_other_versions_and_short_ones_are_read_as_far_as_they_go() {
    let long = [&[0x80, 0x0a, 0x1a, 0x2a, 0x3a, 200][..], &[7; 200], &[1, 9]].concat();
    let header = LongHeader::decode(&long).unwrap();
    assert_eq!(
        (header.version, header.destination, header.source),
        (0x0a1a_2a3a, &[7; 200][..], &[9][..])
    );
    assert!(!header.is_initial && !is_supported(header.version) && is_supported(V1) && is_supported(V2));
    for cut in 0..long.len() {
        assert_eq!(LongHeader::decode(&long[..cut]), None);
    }
    // The same two bits mean other kinds in version 2.
    for (version, initial) in [(V1, 0xc0), (V2, 0xd0)] {
        for first in [0xc0, 0xd0, 0xe0, 0xf0] {
            let datagram = [&[first][..], &version.to_be_bytes(), &[0, 0]].concat();
            assert_eq!(LongHeader::decode(&datagram).unwrap().is_initial, first == initial);
        }
    }

    let short = [0x43, 1, 2, 3, 4, 5];
    assert!(is_long(&long) && !is_long(&short) && !is_long(b""));
    assert_eq!(short_destination(&short, 4), Some(&[1, 2, 3, 4][..]));
    assert_eq!(short_destination(&short, 0), Some(&[][..]));
    assert_eq!(short_destination(&short, 6), None);
    assert_eq!(short_destination(&short, usize::MAX), None);
    assert_eq!(short_destination(&long, 4), None);
    assert_eq!(short_destination(b"", 0), None);
}

proptest! {
    #[test]
    fn a_hello_cut_anywhere_and_sent_in_any_order_comes_back(
        cuts in prop::collection::btree_set(1..1_900usize, 0..12),
        order in Just((0..13usize).collect::<Vec<_>>()).prop_shuffle(),
        in_first in prop::collection::vec(any::<bool>(), 13),
        second: bool,
        id in prop::collection::vec(any::<u8>(), 0..=20),
    ) {
        let message = large();
        let ends: Vec<usize> = cuts.into_iter().filter(|cut| *cut < message.len()).chain([message.len()]).collect();
        let starts = [0].into_iter().chain(ends.iter().copied());
        let pieces: Vec<Vec<u8>> = starts.zip(&ends).map(|(from, to)| crypto(from, &message[from..*to])).collect();
        let mut payloads = [vec![1], vec![1]];
        for at in order.into_iter().filter(|at| *at < pieces.len()) {
            payloads[usize::from(in_first[at])].extend_from_slice(&pieces[at]);
        }
        let version = if second { V2 } else { V1 };
        let sealed = Sealed { version, origin: &id, destination: &id, ..Sealed::default() };
        let mut initials = Initials::new();
        let read: Vec<_> = payloads
            .iter()
            .enumerate()
            .map(|(number, payload)| initials.on_datagram(&Sealed { number: number as u64, ..sealed.clone() }.padded(payload)))
            .collect();
        prop_assert_eq!(&read[1], &Ok(Some(hello())));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>, frames: Vec<u8>, second: bool, id in prop::collection::vec(any::<u8>(), 0..=20)) {
        let version = if second { V2 } else { V1 };
        let sealed = Sealed { version, origin: &id, destination: &id, ..Sealed::default() };
        let mut initials = Initials::new();
        let header = [&[0xc0][..], &version.to_be_bytes(), &bytes].concat();
        for datagram in [&bytes, &header, &sealed.padded(&frames), &sealed.padded(&[&crypto(0, &[1]), &frames[..]].concat())] {
            let _ = (initials.on_datagram(datagram), LongHeader::decode(datagram), short_destination(datagram, bytes.len()));
        }
    }
}
