//! A name server with one list of addresses.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;

use crate::loopback;

/// Lengths in a message: its header, and the type and class behind the name of a question.
const HEADER: usize = 12;
const TYPE_AND_CLASS: usize = 4;

/// What a name server does with a question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Temper {
    /// Answers from the list.
    Right,
    /// Does not answer.
    Silent,
    /// Has everybody on the list.
    Everybody,
}

/// A name server on loopback.
#[derive(Clone, Debug)]
pub struct NameServer {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<HashMap<String, usize>>>,
    temper: Arc<Mutex<Temper>>,
}

impl NameServer {
    /// Starts one for the list `zone`, which has 127.0.0.2, as every list has, and `listed` with their codes.
    pub async fn start(zone: &'static str, listed: &[(Ipv4Addr, u8)], temper: Temper) -> Self {
        let socket = UdpSocket::bind(loopback(0)).await.unwrap();
        let server = Self {
            address: socket.local_addr().unwrap(),
            asked: Arc::default(),
            temper: Arc::new(Mutex::new(temper)),
        };
        let mut names = HashMap::new();
        for (ip, code) in listed.iter().chain(&[(Ipv4Addr::new(127, 0, 0, 2), 2)]) {
            let [a, b, c, d] = ip.octets();
            names.insert(format!("{d}.{c}.{b}.{a}.{zone}"), *code);
        }
        let (asked, temper) = (server.asked.clone(), server.temper.clone());
        tokio::spawn(async move {
            let mut packet = [0; 1_500];
            while let Ok((length, peer)) = socket.recv_from(&mut packet).await {
                let (name, end) = name_in(&packet[..length]);
                *asked.lock().unwrap().entry(name.clone()).or_default() += 1;
                let temper = *temper.lock().unwrap();
                let code = match temper {
                    Temper::Silent => continue,
                    Temper::Everybody => Some(2),
                    Temper::Right => names.get(&name).copied(),
                };
                let answer = answer(&packet[..end + TYPE_AND_CLASS], code);
                let _ = socket.send_to(&answer, peer).await;
            }
        });
        server
    }

    /// From now on it is like this.
    pub fn set_temper(&self, temper: Temper) {
        *self.temper.lock().unwrap() = temper;
    }

    /// How often it was asked for names that begin with `start`.
    pub fn asked(&self, start: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        let matching = asked.iter().filter(|(name, _)| name.starts_with(start));
        matching.map(|(_, count)| count).sum()
    }
}

/// The name that a question asks for, and where it ends.
fn name_in(packet: &[u8]) -> (String, usize) {
    let (mut labels, mut at) = (Vec::new(), HEADER);
    while packet[at] != 0 {
        let end = at + 1 + usize::from(packet[at]);
        labels.push(String::from_utf8_lossy(&packet[at + 1..end]).to_lowercase());
        at = end;
    }
    (labels.join("."), at + 1)
}

/// The answer to `question`: an address that ends in `code`, or that there is no such name.
fn answer(question: &[u8], code: Option<u8>) -> Vec<u8> {
    let mut answer = question.to_vec();
    // An answer of a server that is in charge; three is "no such name".
    (answer[2], answer[3]) = (0x84, if code.is_some() { 0 } else { 3 });
    answer[4..HEADER].copy_from_slice(&[0, 1, 0, u8::from(code.is_some()), 0, 0, 0, 0]);
    if let Some(code) = code {
        // The name of the question, A, IN, a minute, four bytes.
        answer.extend_from_slice(&[0xc0, HEADER as u8, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, code]);
    }
    answer
}
