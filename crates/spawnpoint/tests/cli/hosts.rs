//! Managing hosts while the relay runs.

use std::io::{Read, Write};

use crate::harness::{DEADLINE, Relay, assert_fails, echo, play, run, stdout};

#[test]
fn an_invite_is_one_line_and_nothing_else() {
    let relay = Relay::start();
    let text = stdout(&run(relay.home.path(), &["invite", "desk"]));
    assert!(
        text.starts_with("spawnpoint1") && text.ends_with('\n') && text.lines().count() == 1,
        "{text:?}"
    );
}

#[test]
fn a_host_is_listed_shown_changed_and_revoked() {
    let relay = Relay::start();
    let home = relay.home.path();
    assert!(stdout(&run(home, &["host", "list"])).contains("no hosts yet"));
    let invite = relay.invite(
        "desk",
        &[
            "--max-players",
            "7",
            "--protocols",
            "tcp",
            "--expires",
            "30d",
            "--hostnames",
            "Play.Example",
        ],
    );
    let agent_home = tempfile::tempdir().unwrap();
    let mut agent = relay.agent(agent_home.path(), &[&invite, &format!("game=tcp:{}", echo())]);
    let public = agent.event("tunnel")["public"].as_str().unwrap().to_owned();
    let port = public.rsplit(':').next().unwrap();
    let shown = stdout(&run(home, &["host", "show", "desk"]));
    for word in [
        "active",
        "tcp on ports of the pool",
        "7 players at most",
        "for another",
        "play.example",
        port,
    ] {
        assert!(shown.contains(word), "no `{word}` in {shown}");
    }
    assert!(stdout(&run(home, &["host", "list"])).contains(&format!("game={port}/tcp")));
    let granted = stdout(&run(
        home,
        &["host", "grant", "desk", "--max-players", "any", "--expires", "never"],
    ));
    assert!(
        granted.contains("tcp on ports of the pool") && !granted.contains("at most"),
        "{granted}"
    );
    play(&public);
    stdout(&run(home, &["host", "revoke", "desk"]));
    let (code, said) = agent.end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("revoked") && said.contains("ask for a new one"), "{said}");
    assert!(stdout(&run(home, &["host", "list"])).contains("revoked"));
    // A revoked host that is invited again has its port back.
    let invite = relay.invite("desk", &[]);
    let mut agent = relay.agent(agent_home.path(), &[&invite]);
    assert_eq!(agent.event("tunnel")["public"], public);
}

#[test]
fn a_rotated_invite_replaces_the_old_one() {
    let relay = Relay::start();
    let old = relay.invite("desk", &[]);
    let new = stdout(&run(relay.home.path(), &["host", "rotate", "desk"]));
    let home = tempfile::tempdir().unwrap();
    let (code, said) = relay.agent(home.path(), &[&old, "tcp:9"]).end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("does not know the invite's token"), "{said}");
    let mut agent = relay.agent(home.path(), &[new.trim(), "tcp:9"]);
    agent.event("ready");
}

#[test]
fn bans_are_set_at_home_and_by_the_operator_and_shown_to_both() {
    let relay = Relay::start();
    let invite = relay.invite("desk", &[]);
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let state = state.to_str().unwrap();
    let mut agent = relay.agent(
        home.path(),
        &["--state-dir", state, &invite, &format!("game=tcp:{}", echo())],
    );
    agent.event("ready");
    let at_home = |words: &[&str]| run(home.path(), &[&["agent"], words, &["--state-dir", state]].concat());
    let at_relay = |words: &[&str]| run(relay.home.path(), &[&["relay"], words].concat());
    let said = stdout(&at_home(&[
        "ban",
        "203.0.113.7",
        "--for",
        "2h",
        "--reason",
        "griefing again",
    ]));
    assert!(
        said.contains("203.0.113.7 is banned from this host's tunnels for 2 h"),
        "{said}"
    );
    stdout(&at_relay(&["ban", "198.51.100.0/24", "--reason", "scanner"]));
    let (own, all) = (stdout(&at_home(&["bans"])), stdout(&at_relay(&["bans"])));
    assert!(
        own.contains("203.0.113.7/32") && own.contains("griefing again") && !own.contains("198.51"),
        "{own}"
    );
    for word in [
        "203.0.113.7/32",
        "desk",
        "host",
        "198.51.100.0/24",
        "for good",
        "operator",
        "scanner",
    ] {
        assert!(all.contains(word), "no `{word}` in {all}");
    }
    assert_fails(&at_home(&["unban", "198.51.100.0/24"]), 1, &["not banned by this host"]);
    assert_fails(
        &at_relay(&["unban", "203.0.113.7"]),
        1,
        &["is not banned there", "--host NAME"],
    );
    assert_fails(
        &at_home(&["ban", "everybody"]),
        1,
        &["`everybody` is no address or prefix"],
    );
    stdout(&at_home(&["unban", "203.0.113.7"]));
    stdout(&at_relay(&["unban", "198.51.100.0/24"]));
    assert!(stdout(&at_home(&["bans"])).contains("nobody is banned"));
    assert!(stdout(&at_relay(&["bans"])).contains("nobody is banned"));
}

/// A handshake for `a.b` and the beginning of a login as `alice`, in the words of Minecraft 1.21.4.
const ALICE: &[u8] = b"\x0a\0\x81\x06\x03a.b\x63\xdd\x02\x17\0\x05alice\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

#[test]
fn a_player_is_banned_by_the_name_that_they_say_in_the_game() {
    let relay = Relay::start();
    let invite = relay.invite("desk", &[]);
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    let state = state.to_str().unwrap();
    let tunnel = format!("mc=minecraft:{}", echo());
    let mut agent = relay.agent(home.path(), &["--state-dir", state, &invite, &tunnel]);
    let public = agent.event("tunnel")["public"].as_str().unwrap().to_owned();
    let at_home = |words: &[&str]| run(home.path(), &[&["agent"], words, &["--state-dir", state]].concat());
    let mut player = std::net::TcpStream::connect(public).unwrap();
    player.set_read_timeout(Some(DEADLINE)).unwrap();
    player.write_all(ALICE).unwrap();
    player.read_exact(&mut [0; ALICE.len()]).unwrap();
    let players = stdout(&at_home(&["players"]));
    assert!(players.contains("alice"), "{players}");
    let said = stdout(&at_home(&["ban", "Alice", "--for", "2h"]));
    assert!(
        said.contains("127.0.0.1 is banned from this host's tunnels for 2 h"),
        "{said}"
    );
    // In a reset or an end, as the last words cross.
    let is_out = player.read(&mut [0; 1]);
    let is_late = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
    assert!(
        !is_out.as_ref().is_err_and(is_late) && !matches!(is_out, Ok(1..)),
        "{is_out:?}"
    );
    // Who has left is still found by that name.
    stdout(&at_home(&["unban", "alice"]));
    assert!(stdout(&at_home(&["bans"])).contains("nobody is banned"));
}

#[test]
fn usage_is_shown_by_day_and_month_for_people_and_programs() {
    let relay = Relay::start();
    let invite = relay.invite("desk", &["--quota", "500GiB"]);
    let home = tempfile::tempdir().unwrap();
    let mut agent = relay.agent(home.path(), &[&invite, &format!("game=tcp:{}", echo())]);
    let public = agent.event("tunnel")["public"].as_str().unwrap().to_owned();
    agent.event("ready");
    drop(play(&public));
    let usage = |words: &[&str]| stdout(&run(relay.home.path(), &[&["host", "usage"], words].concat()));
    // A running relay writes it every ten seconds.
    let deadline = std::time::Instant::now() + DEADLINE;
    while !usage(&["desk"]).contains("game/tcp") {
        assert!(std::time::Instant::now() < deadline, "nothing is written down");
    }
    let csv = usage(&["--by", "month", "--last", "2", "--format", "csv"]);
    let (names, line) = csv.split_once('\n').unwrap();
    assert_eq!(names, "month,host,tunnel,protocol,sessions,peak,up,down");
    assert!(line.contains(",desk,game,tcp,1,1,"), "{line}");
    let json: serde_json::Value = serde_json::from_str(usage(&["--format", "json"]).trim()).unwrap();
    assert_eq!((&json["host"], &json["sessions"]), (&"desk".into(), &1.into()));
    assert!(stdout(&run(relay.home.path(), &["host", "show", "desk"])).contains("500 GiB a month"));
    assert_fails(
        &run(relay.home.path(), &["host", "usage", "nobody"]),
        1,
        &["no host `nobody`"],
    );
}
