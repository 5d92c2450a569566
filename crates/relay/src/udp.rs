//! The UDP players of one tunnel.
//!
//! Two tasks meet here: the public port's receiver brings players' packets, the link's reader brings the origin's. Both hold the table's lock for one
//! look-up and never wait. What does not fit is dropped and counted, never queued without bound.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prometheus_client::metrics::counter::Counter;
use spawnpoint_core::admission::{Circle, DenyReason};
#[cfg(unix)]
use spawnpoint_core::flow::FlowSnapshot;
use spawnpoint_core::flow::{DropReason, Ended, FlowTable, Limits};
use spawnpoint_core::route::HostNumber;
use spawnpoint_net::{Burst, DatagramOutbox, Packets, unix_now};
use spawnpoint_ops::TunnelLabels;
use spawnpoint_proto::datagram::{Announcement, Header, Kind};
use spawnpoint_proto::{FlowId, Protocol, Time, TunnelId, TunnelName};
use spawnpoint_sniff::raknet::{self, Pong};
use tokio::sync::Notify;

use crate::access::Access;
use crate::away::Presence;
use crate::context::Context;
use crate::dnsbl::{Question, Standing};
#[cfg(unix)]
use crate::handover::state::HandedFlow;
use crate::list::List;
use crate::quic::Via;
use crate::rates::{PACKET, Tolls, Way};
use crate::tunnel::{OwnRule, Seat};
use crate::usage::Book;

/// A player whom the server never answered is forgotten after this long, since the address may be made up. Slow servers answer a first packet sooner.
const UNANSWERED: Duration = Duration::from_secs(10);

/// How often counters that only the pure cores know are taken over into metrics.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// What a flow holds while it is open.
#[derive(Debug)]
struct Hold {
    seat: Seat,
    /// The address that the player spoke to, from which replies must come.
    local: Option<IpAddr>,
    /// The public socket that the player spoke to.
    via: Via,
    tolls: Tolls,
    /// What lists are being asked about the player.
    question: Option<Question>,
    /// Bytes from the server that the player was not sent.
    unsent: AtomicU64,
}

impl Hold {
    /// Whether it has turned out that the player may not be here.
    fn is_listed(&self) -> bool {
        self.question.as_ref().is_some_and(Question::is_listed)
    }

    /// Whether a packet of the player may go on; it is paid for if so.
    fn may_say(&self, bytes: usize) -> bool {
        self.tolls.packets.pass(PACKET) && self.tolls.up.pass(bytes as u64)
    }

    /// The server has answered with a packet, which is paid for unless it is one too many.
    fn may_hear(&self, bytes: usize) -> Result<(), DropReason> {
        let is_listed = self.is_listed();
        if !is_listed {
            self.seat.settle();
        }
        let reason = match is_listed {
            true => DropReason::Denied,
            false if self.tolls.down.pass(bytes as u64) => return Ok(()),
            false => DropReason::OverRate,
        };
        self.unsent.fetch_add(bytes as u64, Ordering::Relaxed);
        Err(reason)
    }
}

/// Why a player has no flow.
enum Unopened {
    Denied(DenyReason),
    Dropped(DropReason),
}

impl From<DenyReason> for Unopened {
    fn from(reason: DenyReason) -> Self {
        Self::Denied(reason)
    }
}

impl From<DropReason> for Unopened {
    fn from(reason: DropReason) -> Self {
        Self::Dropped(reason)
    }
}

/// To whom the packets of a burst go.
#[derive(Debug)]
pub(crate) struct Addressee {
    tunnel: Arc<UdpTunnel>,
    player: SocketAddr,
    local: Option<IpAddr>,
    via: Via,
}

impl Addressee {
    /// Sends what the server said, and counts it.
    pub fn send(&self, packets: Packets<'_>) {
        let sent = self.via.socket.try_send_all(self.player, self.local, packets);
        self.tunnel.bytes[1].inc_by(sent.bytes as u64);
        if sent.lost > 0 {
            self.tunnel.drop_packets(DropReason::SocketFull, sent.lost as u64);
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.player == other.player
            && self.local == other.local
            && Arc::ptr_eq(&self.via.socket, &other.via.socket)
            && Arc::ptr_eq(&self.tunnel, &other.tunnel)
    }
}

/// The flows of one tunnel.
#[derive(Debug)]
pub(crate) struct UdpTunnel {
    context: Arc<Context>,
    id: TunnelId,
    host: HostNumber,
    name: TunnelName,
    labels: TunnelLabels,
    circle: Arc<Circle>,
    own_rule: Arc<OwnRule>,
    way: Arc<Way>,
    bytes: [Counter; 2],
    book: Arc<Book>,
    outbox: DatagramOutbox,
    /// What the server list shows of it, for a game that is pinged in packets.
    list: Option<Arc<List>>,
    table: Mutex<FlowTable<Hold>>,
    /// Players who were not let in since it was counted last, by reason: a flood must not pay for the books with our time.
    refused: Mutex<Vec<(DenyReason, u64)>>,
    /// Packets over a rate that are not counted yet.
    over_rate: AtomicU64,
    /// The first flow of an empty table was opened.
    opened: Notify,
    /// Why the server does not answer, as its agent says.
    silence: Mutex<Option<Presence>>,
}

impl UdpTunnel {
    pub fn new(
        context: &Arc<Context>,
        id: TunnelId,
        (host, name): (HostNumber, &TunnelName),
        (labels, bytes, book): (&TunnelLabels, &[Counter; 2], &Arc<Book>),
        (circle, own_rule, way): (&Arc<Circle>, &Arc<OwnRule>, &Arc<Way>),
        outbox: DatagramOutbox,
        list: Option<Arc<List>>,
    ) -> Self {
        let limits = Limits {
            idle: context.config().players.udp_idle,
            unanswered: UNANSWERED,
            // Admission bounds them.
            flows: usize::MAX,
        };
        Self {
            context: context.clone(),
            id,
            host,
            name: name.clone(),
            labels: labels.clone(),
            circle: circle.clone(),
            own_rule: own_rule.clone(),
            way: way.clone(),
            bytes: bytes.clone(),
            book: book.clone(),
            outbox,
            list,
            table: Mutex::new(FlowTable::new(limits, id.lane())),
            refused: Mutex::default(),
            over_rate: AtomicU64::new(0),
            opened: Notify::new(),
            silence: Mutex::default(),
        }
    }

    /// Why the server does not answer, when its agent is here and has said so.
    pub fn silence(&self) -> Option<Presence> {
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The agent says that the server does not answer, or that it does.
    pub fn set_silence(&self, silence: Option<Presence>) {
        *self.silence.lock().unwrap_or_else(PoisonError::into_inner) = silence;
    }

    /// The flows as a successor needs them, and the serial number of the next one.
    #[cfg(unix)]
    pub fn hand(&self) -> (u32, Vec<HandedFlow>) {
        let table = self.table();
        let (next_serial, flows) = table.snapshot(self.context.clock.now());
        let hand = |(flow, hold): (FlowSnapshot, &Hold)| HandedFlow {
            flow,
            session: hold.seat.session,
            local: hold.local,
            via: hold.via.port,
        };
        (next_serial, flows.into_iter().map(hand).collect())
    }

    /// Goes on with the flows that another process had.
    #[cfg(unix)]
    pub fn restore(&self, next_serial: u32, flows: &[HandedFlow], via: impl Fn(Option<u16>) -> Option<Via>) {
        let now = self.context.clock.now();
        let mut table = self.table();
        table.set_next_serial(next_serial);
        for handed in flows {
            let permit = self.context.players.readmit(now, handed.flow.player.ip(), &self.circle);
            let age = Duration::from_millis(handed.flow.age_ms);
            let who = (handed.session, handed.flow.player);
            let seat = Seat::restore(&self.context, (&self.labels, &self.book), who, permit, age);
            let local = handed.local;
            // A shared port that is not open any more has no more players.
            let Some(via) = via(handed.via) else { continue };
            // One that does not fit was never ours; its player opens another.
            let tolls = self.tolls(handed.flow.player);
            let hold = Hold {
                seat,
                local,
                via,
                tolls,
                question: None,
                unsent: AtomicU64::new(0),
            };
            let _ = table.restore(now, &handed.flow, hold);
        }
        self.opened.notify_one();
    }

    /// A packet from a player; never waits. Returns whether the player is in.
    pub fn on_player_packet(&self, player: SocketAddr, local: Option<IpAddr>, packet: &[u8], via: &Via) -> bool {
        let now = self.context.clock.now();
        let mut table = self.table();
        if table.permit_of(player).is_none() {
            match self.open(&mut table, now, player, local, via) {
                Ok(_) => {}
                Err(Unopened::Denied(reason)) => {
                    self.refuse(reason);
                    return false;
                }
                Err(Unopened::Dropped(reason)) => {
                    drop(table);
                    self.drop_packet(reason);
                    return false;
                }
            }
        }
        let Some(hold) = table.permit_of(player) else {
            return false;
        };
        if hold.is_listed() {
            self.refuse(DenyReason::Listed);
            let ended = table.close_player(now, player);
            drop(table);
            ended
                .into_iter()
                .for_each(|flow| self.turn_out(flow, DenyReason::Listed.as_str()));
            return false;
        }
        if !hold.may_say(packet.len()) {
            self.over_rate.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let Some(known) = table.on_player_packet(now, player, packet.len()) else {
            return false;
        };
        drop(table);
        self.bytes[0].inc_by(packet.len() as u64);
        let announced = (!known.confirmed).then_some(Announcement {
            tunnel: self.id,
            player,
        });
        self.outbox.push_packet(known.flow, announced, packet, known.packet);
        true
    }

    /// A player has come to another address.
    pub fn move_player(&self, from: SocketAddr, to: SocketAddr) {
        self.table().move_player(from, to);
    }

    fn open(
        &self,
        table: &mut FlowTable<Hold>,
        now: Time,
        player: SocketAddr,
        local: Option<IpAddr>,
        via: &Via,
    ) -> Result<FlowId, Unopened> {
        // What a flood runs into first, at the price of one look.
        self.circle.check(now)?;
        let access = self.context.access();
        let wall = unix_now();
        access.check_tunnel(self.host, &self.name, player.ip(), wall)?;
        self.own_rule.check(player.ip(), wall)?;
        self.context.check_quota(self.host, &self.name)?;
        // An address may be spoofed: nothing is kept for it before admission.
        let permit = self.context.players.admit(now, player.ip(), &self.circle)?;
        let question = match self.context.standing(player.ip()) {
            Standing::Clear => None,
            Standing::Listed => return Err(DenyReason::Listed.into()),
            // Nobody waits for the answer: a packet that comes after it is the player's last.
            Standing::Asked(question) => Some(question),
        };
        let seat = Seat::take(&self.context, (&self.labels, &self.book), player, permit);
        let was_empty = table.is_empty();
        let via = via.clone();
        let hold = Hold {
            seat,
            local,
            via,
            tolls: self.tolls(player),
            question,
            unsent: AtomicU64::new(0),
        };
        let flow = table.open(now, player, hold)?;
        if was_empty {
            self.opened.notify_one();
        }
        Ok(flow)
    }

    fn refuse(&self, reason: DenyReason) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        match refused.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += 1,
            None => refused.push((reason, 1)),
        }
    }

    /// A datagram from the agent; what a player is to have of it joins `burst`.
    pub fn on_agent_datagram(self: &Arc<Self>, header: Header, payload: Bytes, burst: &mut Burst<Addressee>) {
        let now = self.context.clock.now();
        let mut table = self.table();
        match header.kind {
            Kind::Packet { fragment: None, .. } => {
                let reply = table.on_origin_packet(now, header.flow, payload.len());
                let reply = reply.and_then(|(player, hold)| {
                    hold.may_hear(payload.len())?;
                    Ok(Some((self.addressee(player, hold), payload)))
                });
                drop(table);
                self.reply(header.flow, reply, burst);
            }
            Kind::Packet {
                fragment: Some(fragment),
                ..
            } => {
                let whole = table.on_origin_fragment(now, header.flow, fragment, payload);
                let whole = whole.and_then(|whole| {
                    let Some((player, hold, packet)) = whole else {
                        return Ok(None);
                    };
                    hold.may_hear(packet.len())?;
                    Ok(Some((self.addressee(player, hold), packet)))
                });
                drop(table);
                self.reply(header.flow, whole, burst);
            }
            Kind::Confirm => table.on_confirm(header.flow),
            Kind::Unknown => table.on_unknown(header.flow),
            Kind::Close => {
                let ended = table.close(now, header.flow);
                drop(table);
                ended.into_iter().for_each(|ended| end(ended, "origin_closed"));
            }
        }
    }

    /// What the packets of a player pay.
    fn tolls(&self, player: SocketAddr) -> Tolls {
        self.way.tolls(
            player.ip(),
            Protocol::Udp,
            &self.context.addresses,
            &self.context.config(),
        )
    }

    fn addressee(self: &Arc<Self>, player: SocketAddr, hold: &Hold) -> Addressee {
        Addressee {
            tunnel: self.clone(),
            player,
            local: hold.local,
            via: hold.via.clone(),
        }
    }

    fn reply(&self, flow: FlowId, reply: Result<Option<(Addressee, Bytes)>, DropReason>, burst: &mut Burst<Addressee>) {
        match reply {
            Ok(Some((addressee, packet))) => {
                if let Some(list) = &self.list
                    && raknet::is_offline(&packet)
                    && let Ok(pong) = Pong::decode(&packet)
                {
                    list.learn_pong(&pong.id);
                    // Its agent says so too, in a moment.
                    self.set_silence(None);
                }
                if let Some(clients) = &addressee.via.clients {
                    clients.on_reply(addressee.player, &packet);
                }
                burst.push(addressee, packet, Addressee::is_same);
            }
            Ok(None) => {}
            Err(reason) => {
                if reason == DropReason::UnknownFlow {
                    self.tell(flow, Kind::Close);
                }
                self.drop_packet(reason);
            }
        }
    }

    /// Lets flows expire and takes counters over, as long as it is polled.
    pub async fn keep(&self) {
        let mut count = tokio::time::interval(COUNT_EVERY);
        loop {
            let next = self.table().poll_timeout();
            let expiry = async {
                match next {
                    Some(time) => tokio::time::sleep_until(self.context.clock.instant(time)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expiry => {
                    let ended = self.table().handle_timeout(self.context.clock.now());
                    ended.into_iter().for_each(|flow| self.turn_out(flow, "idle"));
                }
                () = self.opened.notified() => {}
                _ = count.tick() => self.count(),
            }
        }
    }

    /// Whether anybody has a flow.
    pub fn has_players(&self) -> bool {
        !self.table().is_empty()
    }

    /// Ends the flows of players from where nobody may come any more.
    pub fn evict(&self, access: &Access) {
        let now = unix_now();
        let is_barred = |player: SocketAddr| {
            let barred = access.check_tunnel(self.host, &self.name, player.ip(), now);
            barred.and(self.own_rule.check(player.ip(), now)).is_err()
        };
        let ended = self.table().close_where(self.context.clock.now(), is_barred);
        ended.into_iter().for_each(|flow| self.turn_out(flow, "banned"));
    }

    /// Tells the agent that a flow is over, and everybody why.
    fn turn_out(&self, flow: Ended<Hold>, reason: &'static str) {
        self.tell(flow.flow, Kind::Close);
        end(flow, reason);
    }

    /// Ends every flow, when the tunnel closes.
    pub fn close(&self, reason: &'static str) {
        let ended = self.table().close_all(self.context.clock.now());
        ended.into_iter().for_each(|flow| end(flow, reason));
        self.count();
    }

    fn count(&self) {
        let refused = std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner));
        for (reason, count) in refused {
            self.context.metrics.denied_times(reason.as_str(), count);
            self.context
                .metrics
                .dropped(&self.labels, DropReason::Denied.as_str(), count);
        }
        let lost = [
            (DropReason::OverRate, self.over_rate.swap(0, Ordering::Relaxed)),
            (DropReason::Incomplete, self.table().take_abandoned()),
        ];
        for (reason, count) in lost {
            self.context.metrics.dropped(&self.labels, reason.as_str(), count);
        }
    }

    fn tell(&self, flow: FlowId, kind: Kind) {
        let mut datagram = BytesMut::with_capacity(8);
        Header { flow, kind }.encode(&mut datagram);
        self.outbox.push(flow, std::iter::once(datagram.freeze()));
    }

    fn drop_packet(&self, reason: DropReason) {
        if reason == DropReason::Duplicate {
            // The other one has arrived: that is what redundancy is for.
            return;
        }
        self.drop_packets(reason, 1);
    }

    fn drop_packets(&self, reason: DropReason, count: u64) {
        self.context.metrics.dropped(&self.labels, reason.as_str(), count);
    }

    fn table(&self) -> MutexGuard<'_, FlowTable<Hold>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn end(flow: Ended<Hold>, reason: &'static str) {
    let unsent = flow.permit.unsent.load(Ordering::Relaxed);
    flow.permit
        .seat
        .leave(reason, flow.up, flow.down.saturating_sub(unsent));
}
