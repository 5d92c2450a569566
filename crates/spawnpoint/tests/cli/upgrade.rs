//! Following in place, and going out of service.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{DEADLINE, Relay, assert_fails, echo, play, run, stdout};

fn enter(public: &str) -> TcpStream {
    let player = TcpStream::connect(public).unwrap();
    player.set_read_timeout(Some(DEADLINE)).unwrap();
    player
}

fn plays_on(player: &mut TcpStream, words: &str) {
    player.write_all(words.as_bytes()).unwrap();
    let mut heard = vec![0; words.len()];
    player.read_exact(&mut heard).unwrap();
    assert_eq!(heard, words.as_bytes());
}

#[test]
fn relay_and_agent_are_followed_in_place_by_command_and_by_signal() {
    let mut relay = Relay::start();
    let invite = relay.invite("desk", &[]);
    let (home, echo) = (tempfile::tempdir().unwrap(), echo());
    let mut agent = relay.agent(home.path(), &[&invite, &format!("game=tcp:{echo}")]);
    let public = agent.event("tunnel")["public"].as_str().unwrap().to_owned();
    let mut player = enter(&public);
    plays_on(&mut player, "at first");

    let said = stdout(&run(relay.home.path(), &["relay", "upgrade"]));
    assert!(said.contains("upgraded: process"), "{said}");
    relay.running.followed();
    plays_on(&mut player, "with another relay");

    relay.running.signal("USR2");
    relay.running.followed();
    plays_on(&mut player, "and another");

    let said = stdout(&run(home.path(), &["agent", "upgrade"]));
    assert!(said.contains("upgraded: process"), "{said}");
    agent.followed();
    plays_on(&mut player, "with another agent");
    play(&public);
    assert!(relay.page("/metrics").contains("relay_links_active 1"));

    // Who follows has everything that its predecessor had, also its locks.
    let second = run(relay.home.path(), &["relay", "--listen", "127.0.0.1:0"]);
    assert_fails(&second, 1, &["in use by another relay"]);
    let second = run(home.path(), &["agent"]);
    assert_fails(&second, 1, &["already running"]);
    agent.signal("TERM");
    agent.event("stopped");
    assert_eq!(
        player.read(&mut [0; 1]).map_err(|error| error.kind()),
        Err(std::io::ErrorKind::ConnectionReset)
    );
    relay.running.signal("TERM");
    relay.running.event("stopped");
}

#[test]
fn an_upgrade_into_mistakes_leaves_everything_as_it_was() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("relay.toml");
    fs::write(&file, "").unwrap();
    let path = file.to_str().unwrap().to_owned();
    let relay = Relay::start_in(home, "127.0.0.1:0", &["--config", &path]);
    let invite = relay.invite("desk", &[]);
    let (home, echo) = (tempfile::tempdir().unwrap(), echo());
    let mut agent = relay.agent(home.path(), &[&invite, &format!("game=tcp:{echo}")]);
    let mut player = enter(agent.event("tunnel")["public"].as_str().unwrap());
    plays_on(&mut player, "before");
    for mistake in [
        "[links]\nresume_windo = \"1 s\"\n",
        "[certificate]\nverify = \"name\"\n",
    ] {
        fs::write(&file, mistake).unwrap();
        let output = run(relay.home.path(), &["relay", "upgrade"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("the old one goes on"), "{text}");
        plays_on(&mut player, "as before");
    }
}

#[test]
fn nobody_to_follow_or_to_drain_is_said() {
    let home = tempfile::tempdir().unwrap();
    for command in [["relay", "upgrade"], ["relay", "drain"], ["agent", "upgrade"]] {
        let output = run(home.path(), &command);
        assert_eq!(output.status.code(), Some(1));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("spawnpoint: nothing answers"), "{text}");
    }
}

#[test]
fn a_relay_is_drained_to_its_deadline() {
    let relay = Relay::start();
    let invite = relay.invite("desk", &[]);
    let (home, echo) = (tempfile::tempdir().unwrap(), echo());
    let mut agent = relay.agent(home.path(), &[&invite, &format!("game=tcp:{echo}")]);
    let mut player = enter(agent.event("tunnel")["public"].as_str().unwrap());
    plays_on(&mut player, "still in");
    let said = stdout(&run(relay.home.path(), &["relay", "drain", "--deadline", "300ms"]));
    assert!(
        said.contains("draining: players who are in (1)") && said.contains("drained"),
        "{said}"
    );
    assert!(player.read(&mut [0; 1]).is_err());
    agent.event("draining");
    let (code, errors) = relay.running.end();
    assert_eq!(code, Some(0), "{errors}");
}
