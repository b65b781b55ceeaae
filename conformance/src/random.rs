//! Values by chance, the same in every run: a test that fails by one fails again.
//!
//! Not here: what is made of them; each property does that beside its test.

/// A source of numbers that begins where it is told to (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Begins at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not zero.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }

    /// One of several, of which there is at least one.
    pub fn pick<'v, T>(&mut self, values: &'v [T]) -> &'v T {
        &values[self.below(values.len())]
    }

    /// Up to `longest` characters of `alphabet`.
    pub fn word(&mut self, alphabet: &str, longest: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        (0..self.below(longest + 1)).map(|_| *self.pick(&letters)).collect()
    }

    /// Up to `longest` characters of all kinds but NUL: letters, blanks, quotes,
    /// control characters, what is longer than a byte.
    pub fn text(&mut self, longest: usize) -> String {
        let limits = [0x20, 0x7f, 0x7f, 0x7f, 0x500, 0x1_0000, 0x11_0000];
        let mut text = String::new();
        for _ in 0..self.below(longest + 1) {
            let limit = *self.pick(&limits);
            // What is no character, NUL and the surrogates, becomes a letter.
            let code = u32::try_from(self.below(limit)).unwrap_or(0);
            text.push(char::from_u32(code).filter(|c| *c != '\0').unwrap_or('x'));
        }
        text
    }
}
