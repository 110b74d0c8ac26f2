//! Chance as a parameter: one generator a component, seeded by the system in the binary and by the
//! simulation in tests.

use std::sync::{Arc, Mutex, PoisonError};

use rand::{Rng as _, RngCore, SeedableRng, rngs::SmallRng};

/// Characters of generated names: upstream leaves out vowels and what reads like them.
const NAME_CHARACTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A shared generator; clones draw from the same sequence.
#[derive(Clone, Debug)]
pub struct Rng(Arc<Mutex<SmallRng>>);

impl Rng {
    /// The same sequence for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(SmallRng::seed_from_u64(seed))))
    }

    /// Seeded by the operating system.
    pub fn from_system() -> Self {
        Self(Arc::new(Mutex::new(SmallRng::from_os_rng())))
    }

    /// A number in `0..bound`; 0 where bound is 0.
    pub fn below(&self, bound: usize) -> usize {
        self.with(|rng| if bound == 0 { 0 } else { rng.random_range(0..bound) })
    }

    /// A fraction in `0.0..1.0`, for jitter.
    pub fn fraction(&self) -> f64 {
        self.with(|rng| rng.random())
    }

    pub fn next_u64(&self) -> u64 {
        self.with(|rng| rng.next_u64())
    }

    /// A version 4 UUID in its usual text form (RFC 9562).
    pub fn uid(&self) -> String {
        let bits = (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64());
        let bits = (bits & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }

    /// `length` characters for a generated name.
    pub fn name_suffix(&self, length: usize) -> String {
        (0..length)
            .map(|_| char::from(NAME_CHARACTERS[self.below(NAME_CHARACTERS.len())]))
            .collect()
    }

    fn with<T>(&self, draw: impl FnOnce(&mut SmallRng) -> T) -> T {
        draw(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_sequence() {
        let (a, b) = (Rng::seeded(4), Rng::seeded(4));
        assert_eq!(a.uid(), b.uid());
        assert_eq!(a.name_suffix(5), b.name_suffix(5));
        let uid = a.uid();
        assert_eq!((uid.len(), &uid[14..15]), (36, "4"));
        assert!("89ab".contains(&uid[19..20]));
    }
}
