//! Criterion benches of codecs, fragmentation and the flow table.
fn main() {}
