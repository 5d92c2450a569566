//! Starting, stopping, restarting, remembering.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::harness::{Relay, Running, command, echo, play, run, say, stdout, until};

#[test]
fn a_relay_says_how_it_is() {
    let relay = Relay::start();
    assert!(relay.page("/healthz").starts_with("HTTP/1.1 200"));
    assert!(relay.page("/readyz").contains("ready"));
    assert!(relay.page("/metrics").contains("relay_links_active 0"));
}

#[test]
fn a_held_terminal_stops_neither_relay_nor_agent() {
    let (relay, _unread) = Relay::start_unread();
    let invite = relay.invite("desk", &[]);
    let (home, game) = (tempfile::tempdir().unwrap(), format!("game=tcp:{}", echo()));
    let mut agent = command(home.path(), &["agent", "--json", "--log", "trace", &invite, &game]);
    let (mut agent, _unread) = Running::start_unread(&mut agent);
    let public = agent.event("tunnel")["public"].as_str().unwrap().to_owned();
    let mut player = play(&public);
    // Far more than a pipe and the process keep.
    until("lines of the log are lost", || {
        say(&mut player);
        !relay.page("/metrics").contains("relay_log_lines_lost 0\n")
    });
    play(&public);
    // Nor does it hold up their end.
    for running in [agent, relay.running] {
        #[cfg(unix)]
        {
            running.signal("TERM");
            assert_eq!(running.end().0, Some(0));
        }
    }
}

#[test]
fn a_relay_without_any_configuration_says_in_three_lines_what_to_do_next() {
    let home = tempfile::tempdir().unwrap();
    let mut arguments = command(
        home.path(),
        &["relay", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"],
    );
    let mut relay = arguments.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(relay.stdout.take().unwrap()));
    let said: Vec<String> = (0..4).map(|_| lines.next().unwrap().unwrap()).collect();
    relay.kill().unwrap();
    relay.wait().unwrap();
    assert!(
        said[0].contains("up")
            && said[2].contains("spawnpoint invite NAME")
            && said[3].contains("spawnpoint agent INVITE minecraft"),
        "{said:?}"
    );
    assert!(!said[2].contains("--data-dir"), "the usual directory need not be named");
}

#[test]
fn an_agent_remembers_its_invite_and_tunnels() {
    let relay = Relay::start();
    let invite = relay.invite("desk", &[]);
    let (home, echo) = (tempfile::tempdir().unwrap(), echo());
    // By standard input, so that the invite stands in no process list.
    let mut first = command(home.path(), &["agent", "--json", "-", &format!("game=tcp:{echo}")]);
    let (reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(invite.as_bytes()).unwrap();
    drop(writer);
    let mut agent = Running::start(first.stdin(reader));
    let public = agent.event("tunnel")["public"].as_str().unwrap().to_owned();
    play(&public);
    drop(agent);
    let mut agent = relay.agent(home.path(), &[]);
    assert_eq!(agent.event("tunnel")["public"], public);
    play(&public);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let path = home.path().join(".local/state/spawnpoint/agent/agent.toml");
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_invite_is_not_seen_in_the_list_of_processes_and_no_dump_is_made_of_it() {
    let relay = Relay::start();
    let home = tempfile::tempdir().unwrap();
    let invite = relay.invite("desk", &[]);
    let mut agent = relay.agent(home.path(), &[&invite, &format!("game=tcp:{}", echo())]);
    agent.event("ready");
    for pid in [agent.pid(), relay.running.pid()] {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap();
        let words = String::from_utf8(read("cmdline")).unwrap();
        assert!(
            words.contains("spawnpoint") && !words.contains(&invite[..40]),
            "{words:?}"
        );
        let limits = String::from_utf8(read("limits")).unwrap();
        let cores = limits
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .unwrap();
        assert_eq!(cores.split_whitespace().nth(4), Some("0"), "{cores}");
    }
}

#[test]
fn a_second_agent_does_not_rewrite_what_the_first_one_follows() {
    let relay = Relay::start();
    let invite = relay.invite("desk", &[]);
    let home = tempfile::tempdir().unwrap();
    let mut agent = relay.agent(home.path(), &[&invite, "one=tcp:9"]);
    agent.event("ready");
    let second = run(home.path(), &["agent", "two=tcp:9"]);
    crate::harness::assert_fails(&second, 1, &["already running", "--state-dir"]);
    let remembered = fs::read_to_string(home.path().join(".local/state/spawnpoint/agent/agent.toml")).unwrap();
    assert!(
        remembered.contains("\"one\"") && !remembered.contains("\"two\""),
        "{remembered}"
    );
}

#[test]
fn an_invite_in_the_environment_is_enough() {
    let relay = Relay::start();
    let invite = relay.invite("desk", &[]);
    let home = tempfile::tempdir().unwrap();
    let mut arguments = command(home.path(), &["agent", "--json", "game=tcp:9"]);
    Running::start(arguments.env("SPAWNPOINT_INVITE", invite)).event("ready");
}

#[cfg(unix)]
#[test]
fn both_sides_stop_on_request_with_success() {
    for signal in ["TERM", "INT"] {
        let relay = Relay::start();
        let invite = relay.invite("desk", &[]);
        let home = tempfile::tempdir().unwrap();
        let mut agent = relay.agent(home.path(), &[&invite, "tcp:9"]);
        agent.event("ready");
        agent.signal(signal);
        let (code, said) = agent.end();
        assert_eq!(code, Some(0), "{said}");
        relay.running.signal(signal);
        let (code, said) = relay.running.end();
        assert_eq!(code, Some(0), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn an_agent_comes_back_by_itself_after_its_relay_was_killed() {
    let relay = Relay::start();
    let invite = relay.invite("desk", &[]);
    let home = tempfile::tempdir().unwrap();
    let mut agent = relay.agent(home.path(), &[&invite, &format!("game=tcp:{}", echo())]);
    let public = agent.event("tunnel")["public"].as_str().unwrap().to_owned();
    play(&public);
    relay.running.signal("KILL");
    let Relay {
        home: relay_home,
        running,
        listen,
        ..
    } = relay;
    drop(running);
    let port = public.rsplit(':').next().unwrap().to_owned();
    let relay = Relay::start_in(relay_home, &listen, &["--ports", &port]);
    // The new process answers packets of the old one's connection, so the agent need not wait until it times out.
    assert_eq!(
        agent.event("link_down")["reason"],
        "the relay does not know this connection any more"
    );
    assert_eq!(agent.event("tunnel")["public"], public);
    play(&public);
    drop(relay);
}

#[test]
fn a_changed_file_changes_the_tunnels_while_the_agent_runs() {
    let relay = Relay::start();
    let invite = relay.invite("desk", &[]);
    let (home, echo) = (tempfile::tempdir().unwrap(), echo());
    let path = home.path().join("agent.toml");
    let write = |names: &[&str]| {
        let tunnel = |name: &&str| format!("[[tunnel]]\nname = \"{name}\"\nprotocol = \"tcp\"\norigin = \"{echo}\"\n");
        let tunnels: String = names.iter().map(tunnel).collect();
        fs::write(&path, format!("invite = \"{invite}\"\n{tunnels}")).unwrap();
    };
    write(&["one"]);
    let mut agent = relay.agent(home.path(), &["--config", path.to_str().unwrap()]);
    let one = agent.event("tunnel")["public"].as_str().unwrap().to_owned();
    agent.event("ready");
    // A mistake changes nothing.
    fs::write(&path, "tunnels = 3\n").unwrap();
    #[cfg(unix)]
    agent.signal("HUP");
    play(&one);
    write(&["one", "second"]);
    assert_eq!(agent.event("tunnel")["tunnel"], "second");
    play(&one);
}

#[test]
fn a_relay_takes_a_changed_file_up_while_it_runs_and_a_file_with_mistakes_not() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("relay.toml");
    let write =
        |players: &str| fs::write(&config, format!("[players]\nmax_players_per_address = {players}\n")).unwrap();
    write("2");
    let path = config.to_str().unwrap().to_owned();
    let mut relay = Relay::start_in(home, "127.0.0.1:0", &["--config", &path]);
    let agent_home = tempfile::tempdir().unwrap();
    let invite = relay.invite("desk", &[]);
    let mut agent = relay.agent(agent_home.path(), &[&invite, &format!("game=tcp:{}", echo())]);
    let public = agent.event("tunnel")["public"].as_str().unwrap().to_owned();
    agent.event("ready");
    let _inside = [play(&public), play(&public)];
    let denied = |relay: &Relay, times: u32| {
        let line = format!("relay_players_denied_total{{reason=\"players_of_address\"}} {times}");
        drop(std::net::TcpStream::connect(&public));
        let deadline = std::time::Instant::now() + crate::harness::DEADLINE;
        while !relay.page("/metrics").contains(&line) {
            assert!(std::time::Instant::now() < deadline, "no `{line}`");
        }
    };
    denied(&relay, 1);
    write("\"many\"");
    relay.running.signal("HUP");
    let error = relay.running.event("configured")["error"].as_str().unwrap().to_owned();
    assert!(error.contains("max_players_per_address"), "{error}");
    denied(&relay, 2);
    // Nobody need be told that the file is another one; some of it has to wait.
    fs::write(
        &config,
        "[players]\nmax_players_per_address = 3\n[links]\nmax_links = 5\n",
    )
    .unwrap();
    let configured = relay.running.event("configured");
    assert_eq!(
        (&configured["error"], &configured["waits"][0]),
        (&serde_json::Value::Null, &"links".into())
    );
    let _third = play(&public);
}

#[test]
fn an_operators_certificate_is_verified_by_name_and_replaced_while_running() {
    let home = tempfile::tempdir().unwrap();
    let make = || rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let (cert, key) = (home.path().join("cert.pem"), home.path().join("key.pem"));
    let show = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::write(&cert, made.cert.pem()).unwrap();
    };
    let (first, second) = (make(), make());
    show(&first);
    let config = home.path().join("relay.toml");
    fs::write(&config, format!("[certificate]\ncert = {cert:?}\nkey = {key:?}\n")).unwrap();
    let arguments = ["--config".to_owned(), config.to_str().unwrap().to_owned()];
    let relay = Relay::start_in(
        home,
        "127.0.0.1:0",
        &[&arguments[0], &arguments[1], "--public-host", "localhost"],
    );
    let invite = relay.invite("desk", &[]);
    let agent_home = tempfile::tempdir().unwrap();
    let trusted = agent_home.path().join("trusted.pem");
    let agent = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        fs::write(&trusted, made.cert.pem()).unwrap();
        let mut command = command(agent_home.path(), &["agent", "--json", &invite, "tcp:9"]);
        Running::start(command.env("SSL_CERT_FILE", &trusted))
    };
    agent(&first).event("ready");
    let (code, said) = agent(&second).end();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("not trusted"), "{said}");
    show(&second);
    // The renewed certificate is shown within seconds; until then an agent that trusts only it gives up at once.
    let deadline = std::time::Instant::now() + crate::harness::DEADLINE;
    while !relay.page("/metrics").contains("relay_links_active 1") {
        assert!(std::time::Instant::now() < deadline, "the new certificate is not shown");
        let mut agent = agent(&second);
        if agent.is_linked() {
            break;
        }
    }
}

#[test]
fn the_demo_pings_through_the_tunnel() {
    let home = tempfile::tempdir().unwrap();
    let said = stdout(&run(home.path(), &["demo", "--once"]));
    for word in ["direct", "tunnel", "it works", "ping"] {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
}
