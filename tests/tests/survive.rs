//! Sessions outlive what happens to the path: nobody is cut off, no byte is wrong, and the game server sees every UDP player where it was.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test panics as its report"
)]

use std::time::Duration;

use spawnpoint_tests::crowd::{Crowd, Origin, Report, Size};
use spawnpoint_tests::path::Path;
use spawnpoint_tests::{DEADLINE, Host, Lab, loopback};

const SIZE: Size = Size {
    ticks: 20,
    bulks: 2,
    bulk_rate: 500_000,
    flows: 5,
};

/// A crowd that plays over a path of its own.
struct Scene {
    path: Path,
    crowd: Crowd,
    _host: Host,
    _lab: Lab,
}

impl Scene {
    async fn start() -> Self {
        let (lab, origin) = (Lab::start().await, Origin::start(loopback(0).ip()).await.unwrap());
        let path = Path::start(lab.relay().info().listen, 1).await.unwrap();
        path.set_delay(Duration::from_millis(10));
        let tunnels = [format!("game=tcp:{}", origin.tcp), format!("voice=udp:{}", origin.udp)];
        let host = Host::start(
            path.invite(&lab.invite("desk")),
            &tunnels.each_ref().map(String::as_str),
        );
        host.ready().await;
        let (tcp, udp) = (host.public("game").await, host.public("voice").await);
        let crowd = Crowd::start(origin, tcp, udp, SIZE).await;
        assert!(crowd.players.settle(DEADLINE).await, "not everybody plays");
        Self {
            path,
            crowd,
            _host: host,
            _lab: lab,
        }
    }

    /// The path is back: waits until everybody hears something, and for whatever comes late.
    async fn recover(&self) {
        self.crowd.players.mark();
        self.crowd.players.back(DEADLINE).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    /// Ends tidily and asserts that nobody has suffered more than a pause after the path's return.
    async fn end(self) {
        let back = self.crowd.players.report().back();
        let report = self.crowd.stop().await;
        assert_clean(&report);
        let is_soon = |pause: Option<Duration>, most| pause.is_some_and(|pause| pause <= Duration::from_secs(most));
        assert!(is_soon(back.median, 1) && is_soon(back.worst, 2), "back after {back}");
    }

    async fn dark(self, time: Duration) {
        self.path.set_dark(true);
        tokio::time::sleep(time).await;
        self.path.set_dark(false);
        self.recover().await;
        self.end().await;
    }
}

fn assert_clean(report: &Report) {
    let (cut, faults) = (report.disconnects(), report.faults());
    assert!(
        cut.is_empty(),
        "{} were cut off: {:#?}",
        cut.len(),
        &cut[..cut.len().min(3)]
    );
    assert!(report.wrong() == 0, "{} wrong bytes: {faults:#?}", report.wrong());
    assert!(report.moved.is_empty(), "{:#?}", report.moved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_on_a_lossy_path_misses_nothing() {
    let scene = Scene::start().await;
    scene.path.set_loss(0.01);
    scene.recover().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nat_that_rebinds_twice_is_not_noticed() {
    let scene = Scene::start().await;
    for _ in 0..2 {
        scene.path.rebind().unwrap();
        scene.recover().await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_moves_to_another_address_keeps_its_players() {
    let scene = Scene::start().await;
    scene.path.readdress().unwrap();
    scene.recover().await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_old_way_is_dead_keeps_its_players() {
    let scene = Scene::start().await;
    scene.path.abandon();
    // The path works again at once, for those who notice that they need another.
    scene.crowd.players.mark();
    scene.crowd.players.back(DEADLINE).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_clean(&scene.crowd.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_dark_seconds_cut_nobody_off() {
    Scene::start().await.dark(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_dark_seconds_cut_nobody_off() {
    Scene::start().await.dark(Duration::from_secs(5)).await;
}
