#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

const FLOW: FlowId = FlowId(9);

fn at(millis: u64) -> Time {
    Time::new(Duration::from_millis(millis))
}

fn packet(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed))
        .collect()
}

fn fragments(packet: &[u8], id: u16, max: usize) -> Vec<(Fragment, Bytes)> {
    split(FLOW, None, packet, id, max)
        .map(|mut datagram| {
            assert!(datagram.len() <= max.max(MIN_DATAGRAM));
            match Header::decode(&mut datagram).unwrap().kind {
                Kind::Packet {
                    fragment: Some(fragment),
                    ..
                } => (fragment, datagram),
                other => panic!("{other:?} is no fragment"),
            }
        })
        .collect()
}

#[test]
fn a_packet_that_fits_is_sent_whole_even_when_empty() {
    for length in [0, 1, 1195] {
        let datagrams: Vec<Bytes> = split(FLOW, None, &packet(length, 0), 1, 1200).collect();
        assert_eq!(datagrams.len(), 1);
        assert_eq!(datagrams[0].len(), 5 + length);
    }
    assert_eq!(split(FLOW, None, &packet(1196, 0), 1, 1200).count(), 2);
}

#[test]
fn a_numbered_packet_that_fits_is_its_only_fragment_even_when_empty() {
    for length in [0, 1, 1192] {
        let sent = packet(length, 0);
        let mut datagrams: Vec<Bytes> = split_numbered(FLOW, None, &sent, 77, 1200).collect();
        let fragment = Fragment {
            packet: 77,
            index: 0,
            last: true,
        };
        let kind = Kind::Packet {
            announced: None,
            fragment: Some(fragment),
        };
        assert_eq!(datagrams.len(), 1);
        assert_eq!(Header::decode(&mut datagrams[0]).unwrap().kind, kind);
        assert_eq!(datagrams[0], sent);
    }
    assert_eq!(split_numbered(FLOW, None, &packet(1193, 0), 77, 1200).count(), 2);
}

#[test]
fn numbers_change_nothing_for_a_packet_that_is_cut_anyway() {
    let sent = packet(5000, 1);
    let numbered: Vec<Bytes> = split_numbered(FLOW, None, &sent, 7, 1200).collect();
    assert_eq!(numbered, split(FLOW, None, &sent, 7, 1200).collect::<Vec<_>>());
}

#[test]
fn the_largest_packet_passes_at_the_smallest_datagram() {
    let sent = packet(MAX_PACKET, 3);
    let mut joined = Reassembler::default();
    let parts = fragments(&sent, 1, 0);
    assert!(parts.len() <= 256);
    let mut out = None;
    for (fragment, payload) in parts {
        if let Joined::Packet(whole) = joined.on_fragment(at(0), fragment, payload).unwrap() {
            out = Some(whole);
        }
    }
    assert_eq!(out.unwrap(), sent);
}

#[test]
fn parts_of_two_packets_may_be_mixed() {
    let (one, two) = (packet(3000, 1), packet(3000, 2));
    let mut joined = Reassembler::default();
    let mut seen = Vec::new();
    for (a, b) in fragments(&one, 1, 1200).into_iter().zip(fragments(&two, 2, 1200)) {
        for (fragment, payload) in [a, b] {
            if let Joined::Packet(whole) = joined.on_fragment(at(0), fragment, payload).unwrap() {
                seen.push(whole);
            }
        }
    }
    assert_eq!(seen, [one, two]);
    assert_eq!(joined.buffered(), 0);
}

#[test]
fn an_incomplete_packet_is_given_up_and_counted() {
    let mut joined = Reassembler::default();
    let (fragment, payload) = fragments(&packet(3000, 1), 1, 1200).remove(0);
    joined.on_fragment(at(0), fragment, payload).unwrap();
    joined.handle_timeout(at(1999));
    assert!(joined.buffered() > 0);
    joined.handle_timeout(at(2000));
    assert_eq!(
        (joined.buffered(), joined.take_abandoned(), joined.take_abandoned()),
        (0, 1, 0)
    );
}

#[test]
fn the_oldest_packet_makes_room_for_a_new_one() {
    let mut joined = Reassembler::default();
    for id in 0..=SLOTS as u16 {
        let (fragment, payload) = fragments(&packet(3000, 1), id, 1200).remove(0);
        joined.on_fragment(at(id.into()), fragment, payload).unwrap();
    }
    assert_eq!(joined.take_abandoned(), 1);
    assert!(joined.slots.iter().all(|slot| slot.packet != 0));
}

#[test]
fn parts_that_contradict_each_other_are_a_violation() {
    let part = |index, last| (Fragment { packet: 1, index, last }, Bytes::from_static(b"x"));
    for (first, second) in [
        (part(1, true), part(2, false)),
        (part(1, true), part(3, true)),
        (part(5, false), part(2, true)),
    ] {
        let mut joined = Reassembler::default();
        joined.on_fragment(at(0), first.0, first.1).unwrap();
        assert_eq!(
            joined.on_fragment(at(0), second.0, second.1),
            Err(Violation::FragmentMismatch)
        );
        assert_eq!(joined.buffered(), 0);
    }
}

#[test]
fn a_packet_beyond_udp_is_a_violation() {
    let mut joined = Reassembler::default();
    let big = Bytes::from(vec![0; 40_000]);
    joined
        .on_fragment(
            at(0),
            Fragment {
                packet: 1,
                index: 0,
                last: false,
            },
            big.clone(),
        )
        .unwrap();
    assert_eq!(
        joined.on_fragment(
            at(0),
            Fragment {
                packet: 1,
                index: 1,
                last: true
            },
            big
        ),
        Err(Violation::OversizePacket)
    );
}

proptest! {
    #[test]
    fn any_order_and_any_duplicates_give_the_packet_once(length in 1200usize..MAX_PACKET, max in 300usize..1500, swaps in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..60), again in any::<prop::sample::Index>()) {
        let sent = packet(length, 5);
        prop_assume!(length + 5 > max);
        let mut parts = fragments(&sent, 7, max);
        parts.push(parts[again.index(parts.len())].clone());
        for (a, b) in swaps {
            let (a, b) = (a.index(parts.len()), b.index(parts.len()));
            parts.swap(a, b);
        }
        let mut joined = Reassembler::default();
        let mut whole = Vec::new();
        for (fragment, payload) in parts {
            if let Joined::Packet(packet) = joined.on_fragment(at(0), fragment, payload).unwrap() {
                whole.push(packet);
            }
        }
        prop_assert_eq!(whole, vec![Bytes::from(sent)]);
    }

    #[test]
    fn hostile_fragments_never_panic_nor_hold_more_than_the_slots_allow(input in proptest::collection::vec((0u16..20, any::<u8>(), any::<bool>(), 0usize..2000, 0u64..500), 0..200)) {
        let mut joined = Reassembler::default();
        let mut now = 0;
        for (packet, index, last, length, step) in input {
            now += step;
            let _ = joined.on_fragment(at(now), Fragment { packet, index, last }, Bytes::from(vec![0; length]));
            prop_assert!(joined.slots.len() <= SLOTS);
            prop_assert!(joined.buffered() <= SLOTS * MAX_PACKET);
        }
    }
}
