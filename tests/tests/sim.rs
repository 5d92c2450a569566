//! Seeded simulations of the pure crates, on a virtual clock.
//!
//! Each simulation drives the types of `spawnpoint-core` and `spawnpoint-proto` through thousands of random steps, hostile ones among them, and
//! compares them after every step with a shadow: a second, naive account of what must be true. A run takes some fixed seeds and some fresh ones; what
//! fails prints the line that replays it. Sockets, tasks and real time have their tests elsewhere.
//!
//! Source: the manner of sozu's seeded UDP simulation.

#![allow(clippy::unwrap_used, reason = "a simulation that cannot go on has found something")]

/// One simulation a file, and the dice they share.
mod sim {
    pub mod gate;
    pub mod handshake;
    pub mod patience;
    pub mod registry;
    pub mod seed;
    pub mod stream;
    pub mod udp;
}

use sim::seed::for_every_seed;
use sim::{gate, handshake, patience, registry, stream, udp};

#[test]
fn a_udp_packet_arrives_untouched_at_its_own_peer_or_is_counted() {
    for_every_seed(
        "a_udp_packet_arrives_untouched_at_its_own_peer_or_is_counted",
        udp::simulate,
    );
}

#[test]
fn every_port_leads_to_the_newest_link_that_opened_its_tunnel() {
    for_every_seed(
        "every_port_leads_to_the_newest_link_that_opened_its_tunnel",
        registry::simulate,
    );
}

#[test]
fn the_gate_answers_as_its_limits_say() {
    for_every_seed("the_gate_answers_as_its_limits_say", gate::simulate_roomy);
}

#[test]
fn a_gate_without_room_stays_bounded() {
    for_every_seed("a_gate_without_room_stays_bounded", gate::simulate_cramped);
}

#[test]
fn a_drain_ends_in_time_and_never_goes_back() {
    for_every_seed("a_drain_ends_in_time_and_never_goes_back", patience::simulate_drain);
}

#[test]
fn a_wait_stays_below_its_cap() {
    for_every_seed("a_wait_stays_below_its_cap", patience::simulate_backoff);
}

#[test]
fn the_relay_takes_a_hello_first_and_nothing_else() {
    for_every_seed(
        "the_relay_takes_a_hello_first_and_nothing_else",
        handshake::simulate_relay,
    );
}

#[test]
fn an_agent_is_in_only_by_the_answer_to_its_own_hello() {
    for_every_seed(
        "an_agent_is_in_only_by_the_answer_to_its_own_hello",
        handshake::simulate_agent,
    );
}

#[test]
fn a_session_outlives_its_carriers_byte_for_byte() {
    for_every_seed("a_session_outlives_its_carriers_byte_for_byte", stream::simulate);
}

#[test]
fn a_peer_that_lies_about_its_offsets_harms_nobody() {
    for_every_seed(
        "a_peer_that_lies_about_its_offsets_harms_nobody",
        stream::simulate_hostile,
    );
}
