//! The judge is judged: a crowd without a tunnel is clean, and each way of doing it harm is noticed.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::net::SocketAddr;
use std::time::Duration;

use spawnpoint_tests::crowd::{Crowd, Origin, Report, Size};
use spawnpoint_tests::{DEADLINE, loopback, origins};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpStream, UdpSocket};

const SIZE: Size = Size {
    ticks: 8,
    bulks: 2,
    bulk_rate: 300_000,
    flows: 4,
};

/// What is done to the bytes that the server sends.
#[derive(Clone, Copy)]
enum Harm {
    None,
    Change,
    Lose,
    Double,
    CutOff,
}

/// Beyond this many bytes, so that everybody plays before.
const HARMLESS: usize = 20_000;

/// A TCP way to `origin` that harms each conversation once.
async fn way(origin: SocketAddr, harm: Harm) -> SocketAddr {
    origins::tcp(move |player| async move {
        let (from_player, to_player) = player.into_split();
        let (from_server, to_server) = TcpStream::connect(origin).await.unwrap().into_split();
        tokio::select! {
            biased;
            () = pump(from_server, to_player, harm) => {}
            () = async { pump(from_player, to_server, Harm::None).await; std::future::pending().await } => {}
        }
    })
    .await
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, harm: Harm) {
    let (mut buffer, mut total) = ([0; 4096], 0);
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let (is_due, mut piece) = (total < HARMLESS && total + length >= HARMLESS, &mut buffer[..length]);
        total += length;
        match harm {
            Harm::Change if is_due => piece[length / 2] ^= 1,
            Harm::Lose if is_due => piece = &mut piece[1..],
            Harm::Double if is_due => to.write_all(piece).await.unwrap(),
            Harm::CutOff if is_due => return,
            _ => {}
        }
        if to.write_all(piece).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

async fn play(harm: Harm) -> Report {
    let origin = Origin::start(loopback(0).ip()).await.unwrap();
    let (tcp, udp) = (way(origin.tcp, harm).await, origin.udp);
    let crowd = Crowd::start(origin, tcp, udp, SIZE).await;
    assert!(crowd.players.settle(DEADLINE).await, "not everybody plays");
    // As long as a tick player needs to pass the harmless part.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    crowd.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_harm_everything_arrives() {
    let report = play(Harm::None).await;
    assert!(report.disconnects().is_empty(), "{:?}", report.disconnects());
    assert_eq!((report.wrong(), report.moved.len()), (0, 0), "{:?}", report.faults());
    let (sent, answered) = report.packets();
    assert!(answered > 80 && sent - answered <= 8, "{answered} of {sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_changed_byte_of_each_is_counted() {
    let report = play(Harm::Change).await;
    assert_eq!(
        (report.wrong(), report.disconnects().len()),
        (10, 0),
        "{:?}",
        report.faults()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_byte_makes_the_rest_wrong() {
    assert!(play(Harm::Lose).await.wrong() > 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn doubled_bytes_are_wrong() {
    assert!(play(Harm::Double).await.wrong() > 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_who_is_cut_off_is_counted() {
    let report = play(Harm::CutOff).await;
    assert_eq!((report.disconnects().len(), report.streams_in()), (10, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_whose_way_gets_another_port_is_counted() {
    let origin = Origin::start(loopback(0).ip()).await.unwrap();
    let (tcp, udp) = (origin.tcp, origin.udp);
    let public = UdpSocket::bind(loopback(0)).await.unwrap();
    let address = public.local_addr().unwrap();
    // One player's packets, every tenth from a socket of its own; nothing is answered.
    tokio::spawn(async move {
        let mut buffer = [0; 65_536];
        let usual = UdpSocket::bind(loopback(0)).await.unwrap();
        for number in 1.. {
            let length = public.recv(&mut buffer).await.unwrap();
            let other = UdpSocket::bind(loopback(0)).await.unwrap();
            let socket = if number == 10 { &other } else { &usual };
            socket.send_to(&buffer[..length], udp).await.unwrap();
        }
    });
    let size = Size {
        ticks: 0,
        bulks: 0,
        flows: 1,
        ..SIZE
    };
    let crowd = Crowd::start(origin, tcp, address, size).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(crowd.players.report().back().worst.is_none(), "nobody was answered");
    // There and back.
    assert_eq!(crowd.stop().await.moved.len(), 2);
}
