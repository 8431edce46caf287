//! Makes bad bytes of good ones: cut, flipped, spliced, repeated, with lengths that lie. The same seed gives the same bytes.

/// A stream of mutations.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

/// Numbers that sit on the edges of lengths and counts.
const EDGES: [u16; 12] = [0, 1, 3, 4, 7, 8, 9, 16, 0x7fff, 0x8000, 0xfff8, 0xffff];
/// No mutation makes more than a message holds.
const LONGEST: usize = 65_535;

impl Mutator {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        // xorshift stands still at zero.
        Self { state: seed ^ 0x9e37_79b9_7f4a_7c15 | 1 }
    }

    /// Xorshift64 (Marsaglia 2003).
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    /// A number below `limit`, 0 when there is none.
    fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.next() % limit as u64) as usize }
    }

    /// One of the seeds with one to four mutations.
    pub fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick(seeds).to_vec();
        for _ in 0..=self.below(4) {
            self.step(&mut bytes, seeds);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn pick<'s>(&mut self, seeds: &'s [Vec<u8>]) -> &'s [u8] {
        seeds.get(self.below(seeds.len())).map_or(&[], Vec::as_slice)
    }

    fn step(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        match self.below(8) {
            0 => bytes.truncate(at),
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (self.state & 7);
                }
            }
            2 => {
                let value = self.next() as u8;
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            3 => self.lie(bytes, at & !1),
            4 => {
                // The length in a message's header, made true or not.
                let truth = bytes.len() as u16;
                if let Some(slot) = bytes.get_mut(2..4) {
                    slot.copy_from_slice(&truth.to_be_bytes());
                }
            }
            5 => {
                let other = self.pick(seeds).to_vec();
                let from = self.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            6 => {
                let piece = bytes[at..(at + 1 + self.below(64)).min(bytes.len())].to_vec();
                for _ in 0..=self.below(8) {
                    bytes.splice(at..at, piece.iter().copied());
                }
            }
            _ => {
                let end = (at + 1 + self.below(16)).min(bytes.len());
                bytes.drain(at.min(end)..end);
            }
        }
    }

    /// Writes a length where one may stand.
    fn lie(&mut self, bytes: &mut [u8], at: usize) {
        let edge = EDGES[self.below(EDGES.len())];
        let near = bytes.len() as u16;
        let near = near.wrapping_add(self.below(17) as u16).wrapping_sub(8);
        let value = if self.next() & 1 == 0 { edge } else { near };
        if let Some(slot) = bytes.get_mut(at..at + 2) {
            slot.copy_from_slice(&value.to_be_bytes());
        }
    }
}
