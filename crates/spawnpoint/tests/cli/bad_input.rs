//! Bad input: one clear message, the right exit code, nothing lost.

use std::fs;
use std::net::UdpSocket;

use crate::harness::{Relay, assert_fails, command, run, run_with_input, stdout};

const TRUNCATED: &str = "spawnpoint1qyqqzqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqg";

fn home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_bad_invite_is_told_before_any_network() {
    let home = home();
    assert_fails(
        &run(home.path(), &["agent", TRUNCATED, "minecraft"]),
        2,
        &["damaged", "copy the whole line again"],
    );
    assert_fails(
        &run(home.path(), &["agent", "spawnpoint:oops", "minecraft"]),
        2,
        &["starts with `spawnpoint1`"],
    );
    let foreign = "eyJhIjoiMTIzNDU2Nzg5MCIsInQiOiIxMjM0NTY3OC05MGFiLWNkZWYifQ".repeat(2);
    assert_fails(
        &run(home.path(), &["agent", &foreign, "minecraft"]),
        2,
        &["not an invite"],
    );
    assert_fails(
        &run_with_input(home.path(), &["agent", "-", "minecraft"], "\n"),
        2,
        &["the invite is empty"],
    );
    let mut with_environment = command(home.path(), &["agent", "minecraft"]);
    with_environment.env("SPAWNPOINT_INVITE", TRUNCATED);
    assert_fails(&with_environment.output().unwrap(), 2, &["damaged"]);
    assert!(
        fs::read_dir(home.path()).unwrap().next().is_none(),
        "nothing was written"
    );
}

#[test]
fn whoever_does_not_say_what_to_expose_is_told_what_listens_here() {
    // When somebody else has the port, that is found just as well.
    let _server = UdpSocket::bind(("127.0.0.1", 34197));
    let (home, relay) = (home(), Relay::start());
    let invite = relay.invite("desk", &[]);
    assert_fails(
        &run(home.path(), &["agent", &invite]),
        2,
        &["on this machine listens what looks like", "factorio"],
    );
    let presets = stdout(&run(home.path(), &["presets"]));
    let line = presets.lines().find(|line| line.starts_with("factorio "));
    assert!(line.is_some_and(|line| line.contains("34197/udp")), "{presets}");
}

#[test]
fn an_agent_without_invite_or_tunnel_says_what_is_missing() {
    let home = home();
    assert_fails(
        &run(home.path(), &["agent", "minecraft"]),
        2,
        &["no invite", "SPAWNPOINT_INVITE"],
    );
    let relay = Relay::start();
    let invite = relay.invite("desk", &[]);
    assert_fails(
        &run(home.path(), &["agent", &invite]),
        2,
        // What else it says depends on what listens here.
        &["say what to expose"],
    );
    assert_fails(
        &run(home.path(), &["agent", &invite, "mincraft"]),
        2,
        &["unknown preset `mincraft`", "did you mean `minecraft`"],
    );
    let asks = |word: &str| run(home.path(), &["agent", &invite, word]);
    assert_fails(&asks("18123"), 2, &["did you mean tcp:18123 or udp:18123?"]);
    assert_fails(&asks(&invite), 2, &["the invite comes first"]);
    assert_fails(
        &run(home.path(), &["agent", "INVITE", "minecraft"]),
        2,
        &["in place of `INVITE`"],
    );
    assert_fails(
        &run(home.path(), &["agent", &invite, "a=tcp:1", "a=tcp:2"]),
        2,
        &["two tunnels are named `a`"],
    );
}

#[test]
fn a_mistake_in_a_configuration_is_named_with_place_and_remedy() {
    let home = home();
    let path = home.path().join("relay.toml");
    let check = |text: &str, words: &[&str]| {
        fs::write(&path, text).unwrap();
        let output = run(home.path(), &["relay", "check", "--config", path.to_str().unwrap()]);
        assert_fails(&output, 2, words);
        // A relay that is started with it says the same and makes nothing.
        assert_fails(
            &run(home.path(), &["relay", "--config", path.to_str().unwrap()]),
            2,
            words,
        );
        assert!(!home.path().join(".local").exists());
    };
    check(
        "[players]\nport = \"25565\"\n",
        &["relay.toml:2", "`players.port`", "did you mean `players.ports`"],
    );
    check("listen = 7843\n", &["relay.toml", "listen"]);
    check("[links]\nstream_window = \"1 KiB\"\n", &["stream_window", "64 KiB"]);
    check("[players\n", &["relay.toml:1"]);
    let missing = home.path().join("missing.toml");
    assert_fails(
        &run(home.path(), &["relay", "--config", missing.to_str().unwrap()]),
        2,
        &["missing.toml"],
    );
}

#[test]
fn a_flag_that_makes_no_sense_is_told_by_name() {
    let home = home();
    for (arguments, word) in [
        (vec!["relay", "--listen", "nonsense"], "--listen"),
        (vec!["relay", "--ports", "9-1"], "--ports"),
        (vec!["invite", "My Friend"], "no host name"),
        (vec!["relay", "--log", "a=b=c"], "no log filter"),
    ] {
        let output = run(home.path(), &arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let home = home();
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    let inside = file.join("data");
    let output = run(
        home.path(),
        &[
            "relay",
            "--data-dir",
            inside.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
        ],
    );
    assert_fails(&output, 1, &[inside.to_str().unwrap()]);
}

#[test]
fn a_data_directory_serves_one_relay_at_a_time() {
    let relay = Relay::start();
    let output = run(
        relay.home.path(),
        &["relay", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    );
    assert_fails(&output, 1, &["in use by another relay"]);
}

#[test]
fn a_corrupt_directory_is_told_and_left_alone() {
    let home = home();
    let data = home.path().join("data");
    fs::create_dir(&data).unwrap();
    let path = data.join("directory.sqlite3");
    let garbage = b"this was a database once".repeat(100);
    fs::write(&path, &garbage).unwrap();
    let arguments = [
        "relay",
        "--data-dir",
        data.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
    ];
    assert_fails(&run(home.path(), &arguments), 1, &["directory.sqlite3", "backup"]);
    assert_eq!(fs::read(&path).unwrap(), garbage);
}

#[test]
fn a_taken_port_is_named_with_the_flag_that_changes_it() {
    let home = home();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = socket.local_addr().unwrap().to_string();
    let output = run(home.path(), &["relay", "--listen", &taken, "--admin", "127.0.0.1:0"]);
    assert_fails(&output, 1, &[&taken, "--listen", "in use"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().to_string();
    let output = run(home.path(), &["relay", "--listen", "127.0.0.1:0", "--admin", &taken]);
    assert_fails(&output, 1, &[&taken, "--admin", "in use"]);
}

#[test]
fn certificate_files_that_cannot_be_used_are_named() {
    let home = home();
    let (cert, key) = (home.path().join("cert.pem"), home.path().join("key.pem"));
    fs::write(&cert, "no certificate").unwrap();
    let config = home.path().join("relay.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\npublic_host = \"localhost\"\n[certificate]\ncert = {cert:?}\nkey = {key:?}\n[admin]\nenabled = false\n"
    );
    fs::write(&config, text).unwrap();
    let output = run(home.path(), &["relay", "--config", config.to_str().unwrap()]);
    assert_fails(&output, 1, &["cert.pem", "CERTIFICATE"]);
}

#[test]
fn an_invite_before_the_first_start_says_what_to_do() {
    let home = home();
    assert_fails(
        &run(home.path(), &["invite", "desk"]),
        1,
        &["start `spawnpoint relay` first", "--data-dir"],
    );
}

#[test]
fn a_name_that_is_taken_or_missing_is_told_with_the_remedy() {
    let relay = Relay::start();
    relay.invite("desk", &[]);
    assert_fails(
        &run(relay.home.path(), &["invite", "desk"]),
        1,
        &["desk", "spawnpoint host rotate"],
    );
    for command in ["show", "revoke", "rotate"] {
        assert_fails(
            &run(relay.home.path(), &["host", command, "nobody"]),
            1,
            &["nobody", "spawnpoint host list"],
        );
    }
    assert_fails(
        &run(relay.home.path(), &["host", "grant", "desk", "--ports", "x"]),
        2,
        &["--ports", "`x`"],
    );
    assert_fails(
        &run(relay.home.path(), &["host", "grant", "desk", "--expires", "soon"]),
        2,
        &["--expires"],
    );
    assert_fails(
        &run(relay.home.path(), &["host", "grant", "desk", "--max-players", "0"]),
        2,
        &["--max-players", "any"],
    );
}
