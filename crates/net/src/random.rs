//! Random numbers from the operating system.

/// `N` bytes fit for secrets.
///
/// # Panics
/// When the operating system has no randomness to give, since nothing here could go on safely then.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system's random source works");
    bytes
}

/// A number from 0 to 1, for jitter.
pub fn random_unit() -> f64 {
    f64::from(u32::from_le_bytes(random_bytes())) / f64::from(u32::MAX)
}
