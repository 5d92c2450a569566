//! Links: who is let in, what they may open, and what stays theirs.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::net::{SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use spawnpoint_agent::GiveUp;
use spawnpoint_core::grant::{Grant, PortRule, UnixTime};
use spawnpoint_ops::Event;
use spawnpoint_proto::{Protocol, RejectCode, Trust};
use spawnpoint_relay::office::GrantChange;
use spawnpoint_tests::{Host, Lab, free_ports, java, origins, soon, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn play(public: SocketAddr) -> TcpStream {
    let mut player = TcpStream::connect(public).await.unwrap();
    player.write_all(b"hello").await.unwrap();
    soon("the server answers", player.read_exact(&mut [0; 5]))
        .await
        .unwrap();
    player
}

async fn is_over(player: &mut TcpStream) {
    let end = soon("the player's session ends", player.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

fn is_tunnel(event: &Event) -> bool {
    matches!(event, Event::Tunnel { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_takes_over_at_once_and_keeps_its_address() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let tunnel = format!("game=tcp:{echo}");
    let ghost = lab.host("desk", &[&tunnel]).await;
    let before = ghost.public("game").await;
    let mut old_player = play(before).await;
    // The old agent still runs: the relay cannot tell it from one that died without a word.
    let restarted = Host::start(ghost.invite.clone(), &[&tunnel]);
    restarted.ready().await;
    assert_eq!(restarted.public("game").await, before);
    is_over(&mut old_player).await;
    play(before).await;
    let mut ghost = ghost;
    assert!(
        matches!(ghost.gave_up().await, GiveUp::TakenOver),
        "two agents must not fight over a tunnel for ever"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_of_one_host_share_it_by_tunnels() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let one = lab.host("desk", &[&format!("one=tcp:{echo}")]).await;
    let mut player = play(one.public("one").await).await;
    let two = Host::start(one.invite.clone(), &[&format!("two=tcp:{echo}")]);
    two.ready().await;
    play(two.public("two").await).await;
    player.write_all(b"still").await.unwrap();
    soon("the first goes on", player.read_exact(&mut [0; 5])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_relay_keeps_identity_and_addresses_and_its_agents_return() {
    let (mut lab, echo) = (Lab::start().await, origins::echo().await);
    let host = lab
        .host("desk", &[&format!("game=tcp:{echo}"), &format!("other=tcp:{echo}")])
        .await;
    let (game, other) = (host.public("game").await, host.public("other").await);
    let certificate = lab.relay().info().certificate;
    lab.stop().await;
    host.heard.clear();
    lab.start_again().await;
    assert_eq!(lab.relay().info().certificate, certificate);
    assert_eq!((host.public("game").await, host.public("other").await), (game, other));
    play(game).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_has_stopped_has_left_its_port() {
    for _ in 0..20 {
        let (mut lab, echo) = (Lab::start().await, origins::echo().await);
        let host = lab.host("desk", &[&format!("game=tcp:{echo}")]).await;
        play(host.public("game").await).await;
        let listen = lab.relay().info().listen;
        host.stop().await;
        lab.stop().await;
        std::net::UdpSocket::bind(listen).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_keeps_its_port_while_others_come_and_go() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let tunnel = format!("game=tcp:{echo}");
    let first = lab.host("first", &[&tunnel]).await;
    let public = first.public("game").await;
    let invite = first.invite.clone();
    first.stop().await;
    let second = lab.host("second", &[&tunnel]).await;
    assert_ne!(second.public("game").await, public);
    let back = Host::start(invite, &[&tunnel]);
    assert_eq!(back.public("game").await, public);
}

#[tokio::test(flavor = "multi_thread")]
async fn players_of_an_agent_that_is_away_read_that_it_is_reconnecting() {
    let lab = Lab::with(|config| {
        config.links.resume_window = Duration::from_secs(3);
        config.players.hold = Duration::from_millis(200);
    })
    .await;
    let host = lab.host("desk", &["minecraft:127.0.0.1:9"]).await;
    let public = host.public("minecraft").await;
    drop(host);
    lab.heard
        .wait("the link is down", |event| {
            matches!(event, Event::LinkDown { .. }).then_some(())
        })
        .await;
    let words = spawnpoint_demo::player::login(public, "play.example", "Steve", Duration::from_secs(10))
        .await
        .unwrap();
    assert!(words.contains("reconnecting"), "{words}");
    assert!(lab.metric(r#"relay_players_denied_total{reason="no_agent"}"#) >= 1.0);
    soon("after the window it is offline", async {
        while !java::words(public, "play.example").await.contains("offline") {}
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_words_closes_when_its_agent_was_away_for_too_long() {
    let lab = Lab::with(|config| config.links.resume_window = Duration::from_secs(1)).await;
    let host = lab.host("desk", &["game=tcp:127.0.0.1:9"]).await;
    let public = host.public("game").await;
    drop(host);
    until("the port closes after the window", || {
        std::net::TcpStream::connect(public).is_err()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_agent_leaves_no_open_port() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let host = lab.host("desk", &[&format!("game=tcp:{echo}")]).await;
    let public = host.public("game").await;
    host.stop().await;
    until("the port is closed", || std::net::TcpStream::connect(public).is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_host_is_out_within_a_second_with_its_players() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let (mut host, other) = (
        lab.host("desk", &[&format!("game=tcp:{echo}")]).await,
        lab.host("other", &[&format!("game=tcp:{echo}")]).await,
    );
    let mut player = play(host.public("game").await).await;
    let mut neighbour = play(other.public("game").await).await;
    lab.office().revoke(&"desk".parse().unwrap()).unwrap();
    let before = std::time::Instant::now();
    is_over(&mut player).await;
    // The directory is looked at every 250 ms.
    let lasted = before.elapsed();
    assert!(
        lasted < Duration::from_secs(1),
        "a revoked host was here for {lasted:?}"
    );
    let GiveUp::Rejected { code, .. } = host.gave_up().await else {
        panic!("another reason")
    };
    assert_eq!(code, RejectCode::Revoked);
    neighbour.write_all(b"still").await.unwrap();
    soon("the other host's player goes on", neighbour.read_exact(&mut [0; 5]))
        .await
        .unwrap();
    let mut again = Host::start(host.invite.clone(), &[&format!("game=tcp:{echo}")]);
    let GiveUp::Rejected { code, text } = again.gave_up().await else {
        panic!("another reason")
    };
    assert_eq!(code, RejectCode::Revoked);
    assert!(text.contains("desk"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_token_ends_the_old_one_and_the_new_one_has_the_same_address() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let tunnel = format!("game=tcp:{echo}");
    let mut host = lab.host("desk", &[&tunnel]).await;
    let public = host.public("game").await;
    let invite = lab.office().rotate(&"desk".parse().unwrap(), None, None).unwrap();
    assert!(matches!(
        host.gave_up().await,
        GiveUp::Rejected {
            code: RejectCode::Revoked,
            ..
        }
    ));
    let mut old = Host::start(host.invite.clone(), &[&tunnel]);
    assert!(matches!(
        old.gave_up().await,
        GiveUp::Rejected {
            code: RejectCode::UnknownToken,
            ..
        }
    ));
    let new = Host::start(invite, &[&tunnel]);
    assert_eq!(new.public("game").await, public);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_grace_both_tokens_work_until_it_is_over_and_both_sides_are_warned() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let tunnels = [format!("game=tcp:{echo}"), format!("other=tcp:{echo}")];
    let mut old = lab.host("desk", &[&tunnels[0]]).await;
    let mut player = play(old.public("game").await).await;
    let grace = Some(Duration::from_secs(4));
    let invite = lab.office().rotate(&"desk".parse().unwrap(), None, grace).unwrap();
    let warned = |event: &Event| match event {
        Event::Notice { text } => Some(text.clone()),
        _ => None,
    };
    let text = old.heard.wait("the old agent is warned", warned).await;
    assert!(
        text.contains("was replaced by another") && text.contains("start the agent with the new one"),
        "{text}"
    );
    let told = |event: &Event| match event {
        Event::Expiring { host, reason, left_s } => Some((host.clone(), *reason, *left_s <= 4)),
        _ => None,
    };
    let told = lab.heard.wait("the operator is warned", told).await;
    assert_eq!(told, ("desk".to_owned(), "old_token", true));
    let new = Host::start(invite, &[&tunnels[1]]);
    let _other = play(new.public("other").await).await;
    player.write_all(b"still").await.unwrap();
    soon("the old agent's player plays on", player.read_exact(&mut [0; 5]))
        .await
        .unwrap();
    is_over(&mut player).await;
    assert!(matches!(old.gave_up().await, GiveUp::Rejected { .. }));
    let _again = play(new.public("other").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_ends_soon_is_told_to_both_sides_once() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let grant = Grant {
        expires: Some(UnixTime(spawnpoint_net::unix_now().0 + 3 * 24 * 3_600)),
        ..Grant::default()
    };
    let host = Host::start(lab.invite_with("desk", grant), &[&format!("game=tcp:{echo}")]);
    let warned = |event: &Event| match event {
        Event::Notice { text } => Some(text.clone()),
        _ => None,
    };
    let text = host.heard.wait("the host is warned", warned).await;
    assert!(
        text.contains("ends in 2 days") || text.contains("ends in 3 days"),
        "{text}"
    );
    // A change that moves nothing warns nobody again.
    let change = GrantChange {
        allow: Some(Vec::new()),
        ..GrantChange::default()
    };
    lab.office().grant(&"desk".parse().unwrap(), change).unwrap();
    let _player = play(host.public("game").await).await;
    let warnings = lab.heard.count(|event| matches!(event, Event::Expiring { .. }));
    assert_eq!(warnings, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_invite_is_told_apart_and_a_running_one_ends_in_time() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let tunnel = format!("game=tcp:{echo}");
    let past = Grant {
        expires: Some(UnixTime(1)),
        ..Grant::default()
    };
    let mut late = Host::start(lab.invite_with("late", past), &[&tunnel]);
    assert!(matches!(
        late.gave_up().await,
        GiveUp::Rejected {
            code: RejectCode::Expired,
            ..
        }
    ));
    let soon_over = UnixTime(spawnpoint_net::unix_now().0 + 2);
    let brief = Grant {
        expires: Some(soon_over),
        ..Grant::default()
    };
    let mut host = Host::start(lab.invite_with("brief", brief), &[&tunnel]);
    let mut player = play(host.public("game").await).await;
    is_over(&mut player).await;
    assert!(matches!(host.gave_up().await, GiveUp::Rejected { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_relay_at_the_same_address_is_not_trusted() {
    let (lab, other) = (Lab::start().await, Lab::start().await);
    let mut invite = lab.invite("desk");
    invite.port = other.relay().info().listen.port();
    let mut host = Host::start(invite, &["tcp:25565"]);
    let reason = host.gave_up().await.to_string();
    assert!(
        reason.contains("another certificate") && reason.contains("new invite"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_made_certificate_is_not_trusted_by_name() {
    let lab = Lab::start().await;
    let mut invite = lab.invite("desk");
    (invite.trust, invite.host) = (Trust::Name, "localhost".to_owned());
    let mut host = Host::start(invite, &["tcp:25565"]);
    let reason = host.gave_up().await.to_string();
    assert!(
        reason.contains("not trusted") || reason.contains("authorities"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_and_protocols_outside_the_grant_are_refused_by_name() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let only_udp = Grant {
        protocols: [Protocol::Udp].into_iter().collect(),
        ..Grant::default()
    };
    let mut host = Host::start(lab.invite_with("udp", only_udp), &[&format!("game=tcp:{echo}")]);
    let (word, text) = host.refusal("game").await;
    assert_eq!(word, "protocol_not_granted");
    assert!(text.contains("udp only"), "{text}");
    assert!(matches!(host.gave_up().await, GiveUp::Refused(_)));

    let host = Host::start(
        lab.invite("pool"),
        &[&format!("game=tcp:{echo}@81"), &format!("fine=tcp:{echo}")],
    );
    let (word, text) = host.refusal("game").await;
    assert_eq!(word, "port_not_granted");
    assert!(
        text.contains("public port 81") && text.contains(&lab.pool().to_string()),
        "{text}"
    );
    play(host.public("fine").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_another_host_is_refused_by_name() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let port = lab.pool().iter().next().unwrap();
    let wish = format!("game=tcp:{echo}@{port}");
    let first = lab.host("first", &[&wish]).await;
    assert_eq!(first.public("game").await.port(), port);
    let mut second = Host::start(lab.invite("second"), &[&wish]);
    let (word, text) = second.refusal("game").await;
    assert_eq!(word, "port_taken");
    assert!(
        text.contains(&port.to_string()) && text.contains("another host"),
        "{text}"
    );
    assert!(matches!(second.gave_up().await, GiveUp::Refused(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_another_program_is_passed_over_or_refused_and_the_agent_stays() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let ports: Vec<u16> = lab.pool().iter().collect();
    let program = StdListener::bind(("127.0.0.1", ports[0])).unwrap();
    let host = Host::start(
        lab.invite("desk"),
        &[&format!("asked=tcp:{echo}@{}", ports[0]), &format!("free=tcp:{echo}")],
    );
    let (word, text) = host.refusal("asked").await;
    assert_eq!(word, "port_busy");
    assert!(text.contains(&ports[0].to_string()), "{text}");
    assert_ne!(host.public("free").await.port(), ports[0]);
    drop(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_tunnel_cannot_take_the_first_ones_address() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let first = format!("first=tcp:{echo}");
    let host = lab.host("desk", &[&first]).await;
    let public = host.public("first").await;
    let second = format!("second=tcp:{echo}@{}", public.port());
    host.expose(&[&first, &second]);
    let (word, text) = host.refusal("second").await;
    assert_eq!(word, "port_taken");
    assert!(
        text.contains("`first`") && text.contains(&public.port().to_string()),
        "{text}"
    );
    play(public).await;
    let invite = host.invite.clone();
    host.stop().await;
    let again = Host::start(invite, &[&first]);
    assert_eq!(
        again.public("first").await,
        public,
        "the address is the first one's for good"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_come_and_go_do_not_use_up_the_pool() {
    let lab = Lab::with(|config| config.links.max_tunnels_per_host = 2).await;
    let echo = origins::echo().await;
    let host = lab.host("desk", &[&format!("t0=tcp:{echo}")]).await;
    for number in 1..30 {
        let name = format!("t{number}");
        host.expose(&[&format!("{name}=tcp:{echo}")]);
        host.public(&name).await;
    }
    let (_, ports) = lab.office().host(&"desk".parse().unwrap()).unwrap();
    assert!(ports.len() <= 2, "{ports:?}");
    assert!(
        !lab.metrics().contains("tunnel=\"t0\""),
        "what was counted for a name that is gone is gone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_links_of_one_host_leave_room_for_others() {
    let lab = Lab::with(|config| {
        config.links.max_links = 10;
        config.players.ports = free_ports(16);
    })
    .await;
    let echo = origins::echo().await;
    let invite = lab.invite("greedy");
    let crowd: Vec<Host> = (0..20)
        .map(|number| Host::start(invite.clone(), &[&format!("t{number}=tcp:{echo}")]))
        .collect();
    let modest = lab.host("modest", &[&format!("game=tcp:{echo}")]).await;
    play(modest.public("game").await).await;
    drop(crowd);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_relay_is_not_hammered() {
    let lab = Lab::with(|config| config.links.max_links = 1).await;
    let echo = origins::echo().await;
    let _first = lab.host("first", &[&format!("game=tcp:{echo}")]).await;
    let second = Host::start(lab.invite("second"), &[&format!("game=tcp:{echo}")]);
    let retries = |event: &Event| matches!(event, Event::Reconnecting { .. });
    second.heard.wait_count("it tries again", 4, retries).await;
    // Four waits whose caps are 250, 500, 1,000 and 2,000 ms: the relay's answer must not cut them short, or there were hundreds by now.
    assert!(second.heard.count(|event| retries(event)) < 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exhausted_pool_is_told() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let tunnels: Vec<String> = (0..=lab.pool().len()).map(|at| format!("t{at}=tcp:{echo}")).collect();
    let tunnels: Vec<&str> = tunnels.iter().map(String::as_str).collect();
    let host = lab.host("desk", &tunnels).await;
    assert_eq!(host.heard.count(|event| is_tunnel(event)), lab.pool().len());
    let (word, _) = host.refusal(tunnels.last().unwrap().split('=').next().unwrap()).await;
    assert_eq!(word, "pool_exhausted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_grant_touches_only_what_it_no_longer_allows() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let ports: Vec<u16> = lab.pool().iter().collect();
    let (wish, spare) = (ports[0], ports[1]);
    let (kept, moved) = (format!("kept=tcp:{echo}"), format!("moved=tcp:{echo}"));
    let host = lab
        .host("desk", &[&kept, &moved, &format!("wished=tcp:{echo}@{wish}")])
        .await;
    let at = host.public("kept").await;
    let (mut stays, mut goes) = (play(at).await, play(host.public("wished").await).await);
    host.heard.clear();
    let ports = PortRule::Only(format!("{},{spare}", at.port()).parse().unwrap());
    let change = GrantChange {
        ports: Some(ports),
        ..GrantChange::default()
    };
    lab.office().grant(&"desk".parse().unwrap(), change).unwrap();
    is_over(&mut goes).await;
    assert_eq!(host.refusal("wished").await.0, "grant_changed");
    assert_eq!(
        host.public("moved").await.port(),
        spare,
        "without a wish it goes on where it may"
    );
    stays.write_all(b"still").await.unwrap();
    soon("the allowed one goes on", stays.read_exact(&mut [0; 5]))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_change_while_the_agent_runs_without_touching_the_others() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let elsewhere = origins::tcp(|mut socket| async move { socket.write_all(b"elsewhere").await.unwrap() }).await;
    let (kept, moved, gone) = (
        format!("kept=tcp:{echo}"),
        format!("moved=tcp:{echo}"),
        format!("gone=tcp:{echo}"),
    );
    let host = lab.host("desk", &[&kept, &moved, &gone]).await;
    let mut on_kept = play(host.public("kept").await).await;
    let mut on_moved = play(host.public("moved").await).await;
    let mut on_gone = play(host.public("gone").await).await;
    host.expose(&[&kept, &format!("moved=tcp:{elsewhere}"), &format!("new=tcp:{echo}")]);
    play(host.public("new").await).await;
    is_over(&mut on_gone).await;
    for player in [&mut on_kept, &mut on_moved] {
        player.write_all(b"still").await.unwrap();
        soon("players of other tunnels go on", player.read_exact(&mut [0; 5]))
            .await
            .unwrap();
    }
    let mut newcomer = TcpStream::connect(host.public("moved").await).await.unwrap();
    let mut greeting = String::new();
    soon(
        "new players go to the new server",
        newcomer.read_to_string(&mut greeting),
    )
    .await
    .unwrap();
    assert_eq!(greeting, "elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_relay_lets_its_players_finish() {
    let (mut lab, echo) = (Lab::start().await, origins::echo().await);
    let host = lab.host("desk", &[&format!("game=tcp:{echo}")]).await;
    let public = host.public("game").await;
    let mut player = play(public).await;
    let relay = lab.relay.take().unwrap();
    let stopping = tokio::spawn(relay.stop(Duration::from_secs(60), std::future::pending()));
    host.heard
        .wait("the agent is told", |event| {
            matches!(event, Event::Draining { .. }).then_some(())
        })
        .await;
    // This tunnel's players speak no game that the relay has words in.
    if let Ok(mut newcomer) = TcpStream::connect(public).await {
        is_over(&mut newcomer).await;
    }
    player.write_all(b"still").await.unwrap();
    soon("the player plays on", player.read_exact(&mut [0; 5]))
        .await
        .unwrap();
    assert!(!stopping.is_finished());
    drop(player);
    soon("the relay stops with its last player", stopping).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_relay_ends_at_its_deadline_or_at_a_second_request() {
    for hurry in [false, true] {
        let (mut lab, echo) = (Lab::start().await, origins::echo().await);
        let host = lab.host("desk", &[&format!("game=tcp:{echo}")]).await;
        let mut player = play(host.public("game").await).await;
        let relay = lab.relay.take().unwrap();
        let patience = if hurry {
            Duration::from_secs(3600)
        } else {
            Duration::from_millis(200)
        };
        let second = async move {
            match hurry {
                true => {}
                false => std::future::pending().await,
            }
        };
        soon("the relay stops", relay.stop(patience, second)).await;
        is_over(&mut player).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_leads_only_to_the_server_in_the_agents_own_configuration() {
    let (lab, echo) = (Lab::start().await, origins::echo().await);
    let secret = origins::tcp(|mut socket| async move { socket.write_all(b"secret").await.unwrap() }).await;
    let host = lab.host("desk", &[&format!("game=tcp:{echo}")]).await;
    let mut player = TcpStream::connect(host.public("game").await).await.unwrap();
    // Whatever a player says, even in the words of a proxy, it is said to the one server.
    let words = format!("CONNECT {secret} HTTP/1.1\r\n\r\n");
    player.write_all(words.as_bytes()).await.unwrap();
    let mut back = vec![0; words.len()];
    soon("the words come back", player.read_exact(&mut back)).await.unwrap();
    assert_eq!(back, words.as_bytes());
}
