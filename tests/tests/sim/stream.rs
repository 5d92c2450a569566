//! TCP sessions on carriers that die at any moment, with everything that their two ends keep for it.
//!
//! ```text
//! player - socket - End (core::stream) = Carrier, and the next, and the next = End (core::stream) - socket - game server
//! ```
//! Sockets check every byte that they hear against what the other one says. The pumps and the resumption are those of `spawnpoint_net::session` and of
//! the two `link::resume`, told again in single steps, so that a carrier can die between any two. When the world comes to rest, every session must have
//! ended as its player and its server meant it, and both ends must have forgotten it.

mod carrier;
mod end;
mod hostile;
mod link;
mod pipe;
mod socket;
mod table;

use std::collections::BTreeMap;

use spawnpoint_core::stream::Ending;

use super::seed::Dice;
use carrier::{Carriers, Id};
use end::Phase;
use socket::{Noise, Socket};
use table::{Table, delivered};

pub use hostile::simulate as simulate_hostile;

const STEPS: usize = 12_000;

/// Sessions at once.
const MOST: usize = 12;

/// The world comes to rest in fewer rounds than this, or never.
const ROUNDS: usize = 20_000;

/// Random steps, each of them checked; then everybody hurries to the end, and the books are closed.
pub fn simulate(dice: &mut Dice) {
    let mut world = World::new(dice.clone());
    for _ in 0..STEPS {
        world.step();
        world.check();
    }
    world.come_to_rest();
    world.close_the_books();
}

/// A side of the link; also an index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    Relay,
    Agent,
}

impl Side {
    pub const BOTH: [Self; 2] = [Self::Relay, Self::Agent];

    pub const fn other(self) -> Self {
        match self {
            Self::Relay => Self::Agent,
            Self::Agent => Self::Relay,
        }
    }
}

/// What is known of a session beyond its ends.
#[derive(Debug, Default)]
struct Case {
    /// The sockets of ends that are over, by side.
    sockets: [Option<Socket>; 2],
    /// How much of it the end that was over last had taken over.
    taken: u64,
    /// It was ended by something else than its player and its server.
    was_cut: bool,
    /// The agent has had it.
    was_known: bool,
    /// The agent has it for the second time: it had ended there, which the relay had no way to know.
    is_again: bool,
}

struct World {
    dice: Dice,
    noise: Noise,
    carriers: Carriers,
    /// By side.
    tables: [Table; 2],
    cases: BTreeMap<Id, Case>,
    /// A stop never comes after the end that it explains.
    is_orderly: bool,
    /// Carriers that die, out of a thousand steps.
    mortality: u64,
    resumed: u64,
}

impl World {
    fn new(mut dice: Dice) -> Self {
        let (relay, agent) = (link::window(&mut dice), link::window(&mut dice));
        Self {
            noise: Noise::new(&mut dice),
            carriers: Carriers::new(),
            tables: [Table::new(relay, agent), Table::new(agent, relay)],
            cases: BTreeMap::new(),
            is_orderly: dice.chance(700),
            mortality: *dice.pick(&[10, 100, 300, 900]),
            resumed: 0,
            dice,
        }
    }

    fn step(&mut self) {
        match self.dice.below(1000) {
            0..=29 => self.a_player_comes(),
            30..=59 => self.tell(),
            60..=69 => self.an_end_gives_up(),
            70 => self.upgrade(),
            71..=170 => self.change_carriers(),
            171..=220 => self.hear_words(),
            221..=260 => self.meet(),
            _ => self.play(),
        }
        self.bury();
    }

    fn a_player_comes(&mut self) {
        if self.tables[0].ends.len() >= MOST {
            return;
        }
        let id = self.cases.len() as Id;
        let socket = self.socket(id, Side::Relay);
        self.cases.insert(id, Case::default());
        self.begin(id, socket);
    }

    fn socket(&mut self, id: Id, side: Side) -> Socket {
        let mut voices = [id * 7919, id * 7919 + 50_021];
        if side == Side::Agent {
            voices.reverse();
        }
        Socket::new(&mut self.dice, self.noise.clone(), voices)
    }

    /// A few turns of one session.
    fn play(&mut self) {
        let ids: Vec<Id> = self.cases_at_play();
        if ids.is_empty() {
            return;
        }
        let id = *self.dice.pick(&ids);
        for _ in 0..self.dice.within(1, 4) {
            self.turn(id);
        }
    }

    fn cases_at_play(&self) -> Vec<Id> {
        let mut ids: Vec<Id> = self
            .tables
            .iter()
            .flat_map(|table| table.ends.keys().copied())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn turn(&mut self, id: Id) {
        let Self {
            dice, carriers, tables, ..
        } = self;
        for carrier in carriers.values_mut() {
            if dice.chance(700) {
                carrier.carry(dice, id);
            }
        }
        for table in tables {
            let Some(end) = table.ends.get_mut(&id) else { continue };
            if dice.chance(500) {
                end.socket.act(dice);
            }
            if dice.chance(600) {
                let turns = if dice.chance(100) { 150 } else { 1 };
                (0..turns).for_each(|_| end.speak(carriers, dice));
            }
            if dice.chance(600) {
                end.listen(carriers, dice);
            }
            table.news.extend(end.news.take().map(|offset| delivered(id, offset)));
        }
    }

    /// Something that is none of the session's own business ends it on one side, or a deadline does.
    fn an_end_gives_up(&mut self) {
        let ids = self.cases_at_play();
        let side = *self.dice.pick(&Side::BOTH);
        if ids.is_empty() {
            return;
        }
        let id = *self.dice.pick(&ids);
        let Some(end) = self.tables[side as usize].ends.get_mut(&id) else {
            return;
        };
        if end.waits_for_nobody() || end.has_last_words() {
            end.cut(&mut self.carriers);
        } else if self.dice.chance(100) {
            end.cut(&mut self.carriers);
            self.case(id).was_cut = true;
        }
    }

    /// Forgets the ends that are over.
    fn bury(&mut self) {
        for (side, table) in self.tables.iter_mut().enumerate() {
            for (id, mut end) in table.ends.extract_if(.., |_, end| end.phase == Phase::Over) {
                end.let_go(&mut self.carriers);
                let case = self.cases.get_mut(&id).unwrap();
                case.taken = end.stream.incoming.offset();
                case.sockets[side] = Some(end.socket);
            }
        }
    }

    fn case(&mut self, id: Id) -> &mut Case {
        self.cases.get_mut(&id).unwrap()
    }

    fn check(&mut self) {
        let Self {
            dice, tables, cases, ..
        } = self;
        for side in Side::BOTH {
            let (here, there) = (side as usize, side.other() as usize);
            let ids: Vec<Id> = tables[here].ends.keys().copied().collect();
            for id in ids {
                tables[here].ends.get_mut(&id).unwrap().check(dice);
                let given_up = tables[here].ends[&id].given_up();
                match tables[there].ends.get(&id) {
                    Some(peer) => assert!(
                        cases[&id].is_again || given_up <= peer.stream.incoming.offset(),
                        "session {id}: {side:?} gave up {given_up}, its peer has only {}",
                        peer.stream.incoming.offset()
                    ),
                    None => assert!(
                        given_up == 0 || cases[&id].was_known,
                        "session {id}: bytes were given up that nobody ever had"
                    ),
                }
            }
        }
    }

    /// Everybody hurries, carriers live, and nothing may be left in the end.
    fn come_to_rest(&mut self) {
        for round in 0..ROUNDS {
            let ids = self.cases_at_play();
            if ids.is_empty() {
                return;
            }
            if round % 8 == 0 {
                self.restore_the_link();
                self.tell();
            }
            self.hear_words();
            self.meet();
            for id in ids {
                for table in &mut self.tables {
                    let Some(end) = table.ends.get_mut(&id) else { continue };
                    end.socket.hurry(&mut self.dice);
                    // Its deadline has passed.
                    if round > 50 && (end.waits_for_nobody() || end.has_last_words()) {
                        end.cut(&mut self.carriers);
                    }
                }
                self.turn(id);
            }
            self.bury();
            self.check();
        }
        panic!("sessions are left that never end: {:?}", self.cases_at_play());
    }

    fn close_the_books(&self) {
        let cut = self.cases.values().filter(|case| case.was_cut).count();
        println!(
            "{} sessions, {cut} of them cut; resumed {} times",
            self.cases.len(),
            self.resumed
        );
        for (id, case) in &self.cases {
            if case.was_cut {
                continue;
            }
            let [Some(player), Some(server)] = &case.sockets else {
                let is_reset = case.sockets[0].as_ref().is_some_and(Socket::is_reset);
                assert!(is_reset, "session {id} never reached its server: {case:?}");
                continue;
            };
            self.check_ending(*id, player, server);
            self.check_ending(*id, server, player);
        }
    }

    /// What `speaker` said and meant has come to `hearer`, unless that has gone itself.
    fn check_ending(&self, id: Id, speaker: &Socket, hearer: &Socket) {
        if hearer.is_reset() {
            return;
        }
        let both = || format!("session {id}: {speaker:?} {hearer:?}");
        assert!(
            hearer.heard == speaker.given,
            "not every word has come to the other side, {}",
            both()
        );
        let is_told = match speaker.ended {
            Some(Ending::Reset) if hearer.got_end => {
                // Whoever has heard the other's end has no stop left to explain a reset with: it is told as an end.
                let is_explained = !speaker.was_finished && !speaker.got_end;
                hearer.got_reset || !is_explained || (!self.is_orderly && hearer.ended.is_some())
            }
            Some(Ending::Reset) => hearer.got_reset,
            _ => hearer.got_end && !hearer.got_reset,
        };
        assert!(is_told, "an end was told wrong, {}", both());
    }
}
