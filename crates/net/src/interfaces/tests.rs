use std::future::Future;
#[cfg(target_os = "linux")]
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::*;

/// Set in a process that has a network of its own.
#[cfg(target_os = "linux")]
const APART: &str = "SPAWNPOINT_TEST_APART";

#[tokio::test(start_paused = true)]
async fn a_new_address_is_told_once() {
    let machine = Machine::default();
    let mut watch = machine.watch();
    machine.move_to(Some(1));
    assert!(within(Duration::from_secs(3), watch.changed()).await);
    assert_eq!(watch.sources().collect::<Vec<_>>(), [address(1)]);
    assert!(!within(Duration::from_secs(60), watch.changed()).await);
}

#[tokio::test(start_paused = true)]
async fn a_lost_address_is_told_too() {
    let machine = Machine::default();
    machine.move_to(Some(1));
    let mut watch = machine.watch();
    machine.move_to(None);
    assert!(within(Duration::from_secs(3), watch.changed()).await);
    assert_eq!(watch.sources().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_goes_and_comes_back_is_told() {
    let machine = Machine::default();
    machine.move_to(Some(1));
    let mut watch = machine.watch();
    machine.move_to(None);
    watch.note(Instant::now());
    machine.move_to(Some(1));
    assert!(within(Duration::from_secs(1), watch.changed()).await);
}

#[tokio::test(start_paused = true)]
async fn a_notice_without_a_change_is_not_told() {
    let machine = Machine::default();
    let mut watch = machine.watch();
    watch.note(Instant::now());
    assert!(!within(Duration::from_secs(60), watch.changed()).await);
}

#[tokio::test(start_paused = true)]
async fn a_restless_network_is_told_after_a_quarter_second() {
    let machine = Machine::default();
    let mut watch = AddressWatch::with(Notices::every(Duration::from_millis(20)), machine.ask());
    machine.move_to(Some(1));
    let begun = Instant::now();
    watch.changed().await;
    assert_eq!(begun.elapsed(), Duration::from_millis(20) + LONGEST);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_never_waits_for_long_is_told_all_the_same() {
    let machine = Machine::default();
    let mut watch = machine.watch();
    machine.move_to(Some(1));
    let mut tries = 0;
    while !within(Duration::from_millis(30), watch.changed()).await {
        tries += 1;
        assert!(tries < 100, "waiting in pieces never ends");
    }
}

#[tokio::test]
async fn the_way_to_this_machine_itself_is_its_own_address() {
    let here = Ipv4Addr::LOCALHOST.into();
    let watch = AddressWatch::towards(vec![here]);
    assert_eq!(watch.sources().collect::<Vec<_>>(), [here]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_kernel_tells_of_addresses_and_routes() {
    if std::env::var_os(APART).is_none() {
        return run_apart("the_kernel_tells_of_addresses_and_routes");
    }
    ip("link set lo up");
    let mut watch = AddressWatch::new();
    assert!(matches!(watch.notices, Notices::Netlink(_)));
    assert_eq!(watch.sources().count(), 0);

    // A way to the world appears.
    ip("address add 198.51.100.7/32 dev lo");
    ip("route add default dev lo src 198.51.100.7");
    assert!(within(PERIOD / 2, watch.changed()).await);
    assert_eq!(watch.sources().next(), Some(IpAddr::from([198, 51, 100, 7])));

    // A container starts: no concern of ours.
    ip("address add 172.17.0.1/32 dev lo");
    assert!(!within(PERIOD / 2, watch.changed()).await);

    // Another network, while nobody is waiting.
    ip("address add 198.51.100.8/32 dev lo");
    ip("route replace default dev lo src 198.51.100.8");
    assert!(within(PERIOD / 2, watch.changed()).await);
    assert_eq!(watch.sources().next(), Some(IpAddr::from([198, 51, 100, 8])));

    // More notices than the kernel keeps for us.
    let many: String = (0..20_000)
        .map(|number| format!("route add blackhole 10.{}.{}.1/32\n", number / 256, number % 256))
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), many).unwrap();
    ip(&format!("-batch {}", file.path().display()));
    assert!(!within(PERIOD / 2, watch.changed()).await);
    ip("route delete default dev lo");
    assert!(within(PERIOD / 2, watch.changed()).await);
    assert_eq!(watch.sources().count(), 0);
}

/// Runs the named test of this file once more in a process with a network of its own. Says so where the machine does not allow that.
#[cfg(target_os = "linux")]
fn run_apart(test: &str) {
    // As a user of its own too, so that no root is needed where the machine lets anybody have one.
    let apart = |program: &std::path::Path| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net"]).arg(program);
        command
    };
    let possible = apart("ip".as_ref()).args(["link", "set", "lo", "up"]).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this machine gives no network of one's own (unshare --user --net ip)");
        return;
    }
    let output = apart(&std::env::current_exe().unwrap())
        .args(["--exact", &format!("interfaces::tests::{test}"), "--nocapture"])
        .env(APART, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("1 passed"), "{text}");
}

#[cfg(target_os = "linux")]
fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// A machine whose one address a test decides.
#[derive(Clone, Default)]
struct Machine(Arc<Mutex<Option<u8>>>);

impl Machine {
    fn move_to(&self, network: Option<u8>) {
        *self.0.lock().unwrap() = network;
    }

    fn ask(&self) -> impl FnMut() -> Sources + Send + 'static {
        let machine = self.clone();
        move || vec![machine.0.lock().unwrap().map(address), None]
    }

    fn watch(&self) -> AddressWatch {
        AddressWatch::with(Notices::every(PERIOD), self.ask())
    }
}

fn address(network: u8) -> IpAddr {
    [198, 51, 100, network].into()
}

async fn within(patience: Duration, wait: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(patience, wait).await.is_ok()
}
