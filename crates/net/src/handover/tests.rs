use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

const LIMIT: usize = 16 * 1024 * 1024;

#[tokio::test]
async fn messages_of_every_size_arrive_whole_and_in_order() {
    let (mut old, mut new) = channels();
    for length in [0, 1, 5_000_000] {
        for count in [0, 1, BATCH - 1, BATCH, BATCH + 1, 1000] {
            let body: Vec<u8> = (0..length).map(|at: usize| (at * 31 + count) as u8).collect();
            let sockets: Vec<UdpSocket> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
            let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
            let (got, taken) = pass(&mut old, &mut new, &body, &descriptors).await;
            assert!(got == body, "{length} bytes with {count} descriptors");
            assert_eq!(ports(taken), ports(sockets), "{length} bytes with {count} descriptors");
        }
    }
}

#[tokio::test]
async fn both_ends_may_speak_in_turn() {
    let (mut old, mut new) = channels();
    let null = std::fs::File::open("/dev/null").unwrap();
    for _ in 0..3 {
        let (_, descriptors) = pass(&mut old, &mut new, b"state", &[null.as_fd(); 300]).await;
        assert_eq!(descriptors.len(), 300);
        let (body, _) = pass(&mut new, &mut old, b"ready", &[null.as_fd()]).await;
        assert_eq!(body, b"ready");
    }
}

#[tokio::test]
async fn a_message_without_descriptors_waits_for_nobody() {
    let (mut old, mut new) = channels();
    old.send(b"first", &[]).await.unwrap();
    old.send(b"second", &[]).await.unwrap();
    drop(old);
    assert_eq!(new.receive(LIMIT).await.unwrap().0, b"first");
    assert_eq!(new.receive(LIMIT).await.unwrap().0, b"second");
    assert!(matches!(new.receive(LIMIT).await, Err(ChannelError::Closed)));
}

#[tokio::test]
async fn a_received_descriptor_works_and_closes_on_exec() {
    let (mut old, mut new) = channels();
    let (mut reader, writer) = io::pipe().unwrap();
    let taken = pass(&mut old, &mut new, b"", &[writer.as_fd()]).await.1.pop().unwrap();
    let flags = rustix::io::fcntl_getfd(&taken).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    std::fs::File::from(taken).write_all(b"through").unwrap();
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
}

#[tokio::test]
async fn few_descriptors_are_in_flight_at_a_time() {
    let (mut old, theirs) = Channel::pair().unwrap();
    let mut peer = Channel::from_std(theirs.into()).unwrap().stream;
    let null = std::fs::File::open("/dev/null").unwrap();
    let descriptors = [null.as_fd(); 1000];
    tokio::select! {
        _ = old.send(b"", &descriptors) => panic!("nobody has taken the descriptors"),
        () = async {
            // Byte by byte: the kernel ends a read after a mark, which tokio takes for an empty socket.
            for _ in 0..8 + WINDOW {
                peer.read_u8().await.unwrap();
            }
            let more = tokio::time::timeout(Duration::from_millis(50), peer.read_u8()).await;
            assert!(more.is_err(), "a third batch before the first was taken");
        } => {}
    }
}

#[tokio::test]
async fn a_body_above_the_limit_is_refused() {
    let (mut old, mut new) = channels();
    old.send(&[0; 11], &[]).await.unwrap();
    let refused = new.receive(10).await;
    assert!(matches!(refused, Err(ChannelError::TooLong { length: 11, limit: 10 })));
}

#[tokio::test]
async fn a_header_that_promises_too_many_descriptors_is_refused() {
    let (mut old, mut new) = channels();
    old.stream.write_all(&[0, 0, 0, 0, 0, 1, 0x86, 0xa1]).await.unwrap();
    let refused = new.receive(10).await;
    assert!(matches!(
        refused,
        Err(ChannelError::TooManyDescriptors { count: 100_001 })
    ));
}

#[tokio::test]
async fn an_end_in_the_middle_of_a_message_is_told() {
    for message in [&[0, 0][..], &[0, 0, 0, 2, 0, 0, 0, 0, 7], &[0, 0, 0, 0, 0, 0, 0, 1]] {
        let (mut old, mut new) = channels();
        old.stream.write_all(message).await.unwrap();
        drop(old);
        assert!(
            matches!(new.receive(LIMIT).await, Err(ChannelError::Cut)),
            "{message:?}"
        );
    }
}

#[tokio::test]
async fn a_peer_that_went_away_is_told_to_the_sender() {
    let (mut old, new) = channels();
    drop(new);
    assert!(matches!(old.send(b"state", &[]).await, Err(ChannelError::Cut)));
}

#[tokio::test]
async fn a_mark_without_its_descriptors_is_refused() {
    let (mut old, mut new) = channels();
    old.stream.write_all(&[0, 0, 0, 0, 0, 0, 0, 1, MARK]).await.unwrap();
    let refused = new.receive(LIMIT).await;
    assert!(matches!(
        refused,
        Err(ChannelError::DescriptorsLost { sent: 1, got: 0 })
    ));
}

#[tokio::test]
async fn a_connection_made_before_the_handover_is_accepted_after_it() {
    if is_successor() {
        let mut channel = Channel::inherited().unwrap();
        let mut nothing = Vec::new();
        assert_eq!(io::stdin().read_to_end(&mut nothing).unwrap(), 0);
        let (body, mut descriptors) = channel.receive(LIMIT).await.unwrap();
        assert_eq!(body, b"a listener");
        let (mut player, _) = TcpListener::from(descriptors.pop().unwrap()).accept().unwrap();
        writeln!(player, "{}", std::process::id()).unwrap();
        return channel.send(b"taken", &[]).await.unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut player = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut channel, mut successor) = successor("a_connection_made_before_the_handover_is_accepted_after_it");
    channel.send(b"a listener", &[listener.as_fd()]).await.unwrap();
    drop(listener);
    assert_eq!(channel.receive(LIMIT).await.unwrap().0, b"taken");
    let mut text = String::new();
    player.read_to_string(&mut text).unwrap();
    assert_eq!(text.trim().parse().ok(), successor.id());
    assert!(successor.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_successor_with_too_few_open_files_is_told_what_to_raise() {
    if is_successor() {
        let mut channel = Channel::inherited().unwrap();
        set_open_files(100);
        let error = channel.receive(LIMIT).await.unwrap_err();
        assert!(matches!(error, ChannelError::DescriptorsLost { .. }), "{error}");
        assert!(error.to_string().contains("LimitNOFILE="));
        return;
    }
    let (mut channel, mut successor) = successor("a_successor_with_too_few_open_files_is_told_what_to_raise");
    let null = std::fs::File::open("/dev/null").unwrap();
    let sent = channel.send(b"", &[null.as_fd(); 200]).await;
    assert!(matches!(sent, Err(ChannelError::Cut)), "{sent:?}");
    assert!(successor.wait().await.unwrap().success());
}

#[tokio::test]
async fn a_variable_without_a_channel_is_refused_with_the_remedy() {
    if is_successor() {
        let error = Channel::inherited().unwrap_err();
        assert!(error.to_string().contains("unset SPAWNPOINT_HANDOVER"), "{error}");
        return;
    }
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let this = test_arguments("a_variable_without_a_channel_is_refused_with_the_remedy");
    let mut successor = spawn(&std::env::current_exe().unwrap(), &this, null, SUCCESSOR).unwrap();
    assert!(successor.wait().await.unwrap().success());
}

fn channels() -> (Channel, Channel) {
    set_open_files(8192);
    let (ours, theirs) = Channel::pair().unwrap();
    (ours, Channel::from_std(theirs.into()).unwrap())
}

async fn pass(
    from: &mut Channel,
    to: &mut Channel,
    body: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> (Vec<u8>, Vec<OwnedFd>) {
    let (sent, received) = tokio::join!(from.send(body, descriptors), to.receive(LIMIT));
    sent.unwrap();
    received.unwrap()
}

/// Runs the named test of this file once more, in a process that takes over from this one.
fn successor(test: &str) -> (Channel, Child) {
    let (channel, theirs) = Channel::pair().unwrap();
    let program = std::env::current_exe().unwrap();
    let child = spawn(&program, &test_arguments(test), theirs, SUCCESSOR).unwrap();
    (channel, child)
}

fn test_arguments(test: &str) -> Vec<OsString> {
    ["--exact".to_owned(), format!("handover::tests::{test}")]
        .map(OsString::from)
        .to_vec()
}

fn set_open_files(number: u64) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(maximum.map_or(number, |maximum| maximum.min(number)));
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

fn ports<S: Into<OwnedFd>>(sockets: Vec<S>) -> Vec<u16> {
    sockets
        .into_iter()
        .map(|socket| UdpSocket::from(socket.into()).local_addr().unwrap().port())
        .collect()
}
