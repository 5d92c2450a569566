#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn entry() -> Listing {
    Listing {
        edition: "MCPE".into(),
        motd: "Dedicated Server".into(),
        protocol: 390,
        version: "1.14.60".into(),
        online: 0,
        max: 10,
        server: "13253860892328930865".into(),
        level: "Bedrock level".into(),
        mode: "Survival".into(),
        port_v4: Some(19132),
        port_v6: Some(19133),
    }
}

#[test]
fn pings_keep_their_bytes() {
    // As a Minecraft PE of 2012 sent it, without a client id.
    let old = Ping {
        time: 0x0009_76d9,
        client: None,
        if_open: true,
    };
    let bytes = hex("02 00000000000976d9 00ffff00fefefefefdfdfdfd12345678");
    assert_eq!(Ping::decode(&bytes), Ok(old));
    assert_eq!(old.encode(), bytes);

    let new = Ping {
        time: 1,
        client: Some(2),
        if_open: false,
    };
    let bytes = hex("01 0000000000000001 00ffff00fefefefefdfdfdfd12345678 0000000000000002");
    assert_eq!(Ping::decode(&bytes), Ok(new));
    assert_eq!(new.encode(), bytes);
}

#[test]
fn a_pong_recorded_from_a_server_keeps_its_bytes() {
    let bytes = hex(
        "1c 00000000000976d9 b8f97decfabfd9b8 00ffff00fefefefefdfdfdfd12345678 0013 4d434350503b44656d6f3b73686f6768696370",
    );
    let pong = Pong {
        time: 0x0009_76d9,
        server: 0xb8f9_7dec_fabf_d9b8,
        id: "MCCPP;Demo;shoghicp".into(),
    };
    assert_eq!(Pong::decode(&bytes), Ok(pong.clone()));
    assert_eq!(pong.encode().unwrap(), bytes);
    assert_eq!(Listing::parse(&pong.id), Err(Violation::BadListing));
}

#[test]
fn the_documented_listing_holds_in_both_directions() {
    let id = "MCPE;Dedicated Server;390;1.14.60;0;10;13253860892328930865;Bedrock level;Survival;1;19132;19133;";
    assert_eq!(Listing::parse(id), Ok(entry()));
    assert_eq!(entry().to_string(), id);
}

#[test]
fn a_listing_of_an_old_server_has_six_fields() {
    let old = Listing::parse("MCPE;Minecraft: PE Server;113;1.1.0.55;0;2").unwrap();
    assert_eq!(
        (old.motd.as_str(), old.max, old.port_v4),
        ("Minecraft: PE Server", 2, None)
    );
}

#[test]
fn a_semicolon_in_a_message_stays_in_its_field() {
    let listing = Listing::parse(r"MCPE;one\;two;1;v;3;4;").unwrap();
    assert_eq!(listing.motd, "one;two");
}

#[test]
fn the_longest_listing_at_its_worst_fits_a_pong() {
    let worst = ";".repeat(5_000);
    let listing = Listing {
        edition: worst.clone(),
        motd: worst.clone(),
        protocol: i32::MIN,
        version: worst.clone(),
        online: u32::MAX,
        max: u32::MAX,
        server: worst.clone(),
        level: worst.clone(),
        mode: worst,
        port_v4: Some(u16::MAX),
        port_v6: Some(u16::MAX),
    };
    assert!(listing.to_string().len() <= MAX_ID, "{}", listing.to_string().len());
}

#[test]
fn every_offence_has_its_name() {
    let ping = Ping {
        time: 1,
        client: Some(2),
        if_open: false,
    }
    .encode();
    let pong = Pong {
        time: 1,
        server: 2,
        id: "x".into(),
    }
    .encode()
    .unwrap();
    for cut in (0..ping.len()).filter(|&cut| cut != 25) {
        assert_eq!(
            Ping::decode(&ping[..cut]),
            Err(Violation::Truncated),
            "ping cut to {cut}"
        );
    }
    for cut in (0..pong.len()).filter(|&cut| cut != 33) {
        assert_eq!(
            Pong::decode(&pong[..cut]),
            Err(Violation::Truncated),
            "pong cut to {cut}"
        );
    }
    let longer = [&ping[..], &[0]].concat();
    assert_eq!(Ping::decode(&longer), Err(Violation::TrailingBytes));
    let mut other = ping.to_vec();
    other[9] = 1;
    assert_eq!(Ping::decode(&other), Err(Violation::BadMagic));
    assert!(!is_offline(&other) && is_offline(&ping) && is_offline(&pong));
    assert_eq!(Ping::decode(&pong), Err(Violation::UnexpectedPacket));
    assert_eq!(Pong::decode(&ping), Err(Violation::UnexpectedPacket));
    let mut broken = pong.to_vec();
    *broken.last_mut().unwrap() = 0xff;
    assert_eq!(Pong::decode(&broken), Err(Violation::BadUnicode));
    let mut huge = pong[..33].to_vec();
    huge.extend_from_slice(&[0xff, 0xff]);
    assert_eq!(Pong::decode(&huge), Err(Violation::IdTooLong));
    let long = Pong {
        time: 1,
        server: 2,
        id: "x".repeat(MAX_ID + 1),
    };
    assert_eq!(long.encode(), Err(Violation::IdTooLong));
}

proptest! {
    #[test]
    fn pings_and_pongs_come_back(time: u64, client: Option<u64>, if_open: bool, server: u64, id in ".{0,300}") {
        let ping = Ping { time, client, if_open };
        prop_assert_eq!(Ping::decode(&ping.encode()), Ok(ping));
        let pong = Pong { time, server, id };
        prop_assert_eq!(Pong::decode(&pong.encode().unwrap()), Ok(pong));
    }

    #[test]
    fn listings_come_back(motd in "[ -~§äß]{0,60}", level in "[ -~]{0,60}", protocol: i32, online: u32, ports: Option<(u16, u16)>) {
        let listing = Listing {
            motd, level, protocol, online,
            port_v4: ports.map(|ports| ports.0),
            port_v6: ports.map(|ports| ports.1),
            ..entry()
        };
        prop_assert_eq!(Listing::parse(&listing.to_string()), Ok(listing));
    }

    #[test]
    fn no_datagram_panics(kind in prop::sample::select(vec![0x01u8, 0x02, 0x1c, 0x80]), rest: Vec<u8>, id in ".*") {
        let datagram = [&[kind][..], &rest].concat();
        let _ = (Ping::decode(&datagram), Pong::decode(&datagram), is_offline(&datagram), Listing::parse(&id));
    }
}
