//! The whole tunnel against direct loopback and peers.
fn main() {}
