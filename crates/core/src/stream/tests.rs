#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

const WINDOW: u32 = 1000;

fn stream() -> Stream {
    Stream::new(Some(WINDOW))
}

fn replayed(out: &Outgoing, cursor: u64) -> Vec<u8> {
    let mut pieces = vec![Bytes::new(); 4096];
    let filled = out.read(cursor, &mut pieces);
    pieces[..filled].concat()
}

#[test]
fn what_the_peer_may_not_have_is_kept_and_no_more() {
    let mut out = stream().outgoing;
    out.push(vec![1; 800].into());
    out.push(vec![2; 800].into());
    out.on_accepted(1600);
    assert_eq!(out.kept(), 1000);
    assert_eq!(out.resume(600), Ok(600));
    assert_eq!(replayed(&out, 600), [vec![1; 200], vec![2; 800]].concat());
    assert_eq!(out.resume(599), Err(Violation::OffsetOutOfRange));
}

#[test]
fn a_parked_session_stops_reading_when_a_window_and_a_quarter_are_full() {
    let mut out = stream().outgoing;
    while out.has_room() {
        out.push(vec![0; 300].into());
    }
    assert_eq!(out.kept(), 1500);
    out.on_accepted(900);
    out.on_delivered(300).unwrap();
    assert!(out.has_room());
}

#[test]
fn a_peer_that_takes_up_nothing_again_costs_nothing() {
    let mut out = Stream::new(None).outgoing;
    assert!(out.has_room());
    out.push(vec![0; 300].into());
    assert!(!out.has_room());
    out.on_accepted(300);
    assert_eq!(out.kept(), 0);
    assert!(out.has_room());
}

#[test]
fn the_end_of_a_direction_is_told_until_it_is_known() {
    let mut out = stream().outgoing;
    out.push(vec![0; 10].into());
    out.finish(Ending::Finished);
    assert!(!out.has_room());
    assert_eq!(out.resume(10), Ok(10));
    assert!(!out.is_settled());
    out.on_delivered(11).unwrap();
    assert!(out.is_settled());
    assert_eq!(out.resume(11), Ok(10));
    assert_eq!(out.on_delivered(12), Err(Violation::OffsetOutOfRange));
}

#[test]
fn an_offset_beyond_the_end_is_an_offence() {
    let mut out = stream().outgoing;
    out.push(vec![0; 10].into());
    assert_eq!(out.on_delivered(11), Err(Violation::OffsetOutOfRange));
    out.on_accepted(10);
    out.on_delivered(10).unwrap();
    out.on_delivered(4).unwrap();
    assert_eq!(out.kept(), 0);
}

#[test]
fn a_peer_that_claims_what_was_not_sent_yet_does_not_lose_the_carriers_cursor() {
    let mut out = stream().outgoing;
    out.push(vec![7; 30].into());
    out.on_accepted(10);
    out.on_delivered(20).unwrap();
    assert_eq!(replayed(&out, 10), vec![7; 20]);
    // Nor after the next carrier has gone back behind the last one.
    out.on_accepted(30);
    assert_eq!(out.resume(20), Ok(20));
    out.on_delivered(30).unwrap();
    assert_eq!(replayed(&out, 20), vec![7; 10]);
}

#[test]
fn single_bytes_do_not_cost_a_piece_each() {
    let mut out = stream().outgoing;
    for at in 0..1000u32 {
        out.push(vec![at as u8].into());
        assert!(out.replay.len() <= 2 * JOIN_FROM);
    }
    let expected: Vec<u8> = (0..1000u32).map(|at| at as u8).collect();
    assert_eq!(replayed(&out, 0), expected);
    assert_eq!(replayed(&out, 300), expected[300..]);
}

#[test]
fn a_reader_who_never_reads_costs_little_and_one_who_does_is_soon_fast() {
    let mut out = Stream::new(Some(1 << 20)).outgoing;
    let mut into = stream().incoming;
    let fill = |out: &mut Outgoing| {
        let before = out.end();
        while out.has_room() {
            out.push(vec![0; 16 * 1024].into());
        }
        out.on_accepted(out.end());
        (out.end() - before) as usize
    };
    assert_eq!(fill(&mut out), 80 * 1024);
    // Each time the peer takes all of it, and waits for nothing more than to be told.
    for _ in 0..12 {
        while into.taken() < out.end() {
            into.pass(1024);
            if let Some(offset) = into.take_due_news() {
                out.on_delivered(offset).unwrap();
            }
        }
        assert!(fill(&mut out) > 0, "the sender waits for news that nobody sends");
    }
    assert_eq!(out.kept(), 1 << 20);
}

#[test]
fn an_answer_before_the_word_of_the_carrier_is_not_forgotten() {
    let mut out = stream().outgoing;
    out.push(vec![0; 500].into());
    out.on_delivered(500).unwrap();
    assert_eq!(out.kept(), 500);
    out.on_accepted(500);
    assert_eq!(out.kept(), 0);
}

#[test]
fn what_was_taken_is_told_once() {
    let mut into = stream().incoming;
    assert_eq!(into.take_news(), None);
    into.push(vec![0; 5].into());
    assert_eq!(into.take_news(), Some(5));
    assert_eq!(into.take_news(), None);
    into.finish(Ending::Finished);
    assert_eq!(into.take_news(), Some(6));
}

#[test]
fn the_bytes_of_a_handed_over_session_never_change() {
    let mut stream = stream();
    stream.outgoing.push(Bytes::from_static(b"abc"));
    stream.outgoing.on_accepted(3);
    stream.outgoing.on_delivered(1).unwrap();
    stream.outgoing.finish(Ending::Finished);
    stream.incoming.push(Bytes::from_static(b"xy"));
    stream.incoming.on_written(1);
    let hex: String = minicbor::to_vec(stream.snapshot())
        .unwrap()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, "a7001903e8010102426263030104f40502064179");
}

proptest! {
    #[test]
    fn any_window_of_the_past_is_replayed_exactly(
        pieces in proptest::collection::vec(1usize..700, 1..200),
        accept in any::<bool>(),
        from in 0.0f64..=1.0,
    ) {
        let mut stream = stream();
        let mut all = Vec::new();
        for (at, length) in pieces.into_iter().enumerate() {
            let piece: Vec<u8> = (0..length).map(|byte| (at * 31 + byte) as u8).collect();
            all.extend_from_slice(&piece);
            stream.outgoing.push(piece.into());
            if accept {
                stream.outgoing.on_accepted(all.len() as u64);
                prop_assert!(stream.outgoing.kept() <= WINDOW as usize);
            }
        }
        let first = all.len() - stream.outgoing.kept();
        let cursor = first + ((all.len() - first) as f64 * from) as usize;
        prop_assert_eq!(replayed(&stream.outgoing, cursor as u64), &all[cursor..]);
        let mut restored = Stream::restore(stream.snapshot());
        prop_assert_eq!(restored.outgoing.resume(cursor as u64), Ok(cursor as u64));
        prop_assert_eq!(replayed(&restored.outgoing, cursor as u64), &all[cursor..]);
    }
}
