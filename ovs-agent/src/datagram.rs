//! IP datagrams in pieces: put together, and taken apart (RFC 791 §3.2, RFC 8200 §4.5). Frames in, frames out; it must not know
//! who sends them, nor why.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Ethernet's header, in bytes. Nobody here sends tags.
const ETHERNET: usize = 14;
/// IPv6's header, in bytes.
const IPV6: usize = 40;
/// The extension header of a piece, in bytes, and its number.
const FRAGMENT: (usize, u8) = (8, 44);
/// The largest frame that is put together: it has to fit an OpenFlow message beside what is said of it.
const LARGEST: usize = 60_000;
/// Of how many datagrams pieces are kept; what waits longest goes first.
const WAITING: usize = 64;
/// How long. The switch sends the pieces of a datagram one after the other.
const PATIENCE: Duration = Duration::from_secs(1);

/// A datagram that was put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// As if it had never been in pieces.
    pub frame: Vec<u8>,
    /// Of how many bytes its largest piece was, without Ethernet's header.
    pub size: u16,
}

/// Pieces that wait for others. `O` tells the places apart that they come from.
#[derive(Debug)]
pub struct Gatherer<O> {
    waiting: VecDeque<Waiting<O>>,
}

impl<O> Default for Gatherer<O> {
    fn default() -> Self {
        Self { waiting: VecDeque::new() }
    }
}

#[derive(Debug)]
struct Waiting<O> {
    origin: O,
    key: Key,
    since: Instant,
    pieces: Vec<Piece>,
}

/// What the pieces of a datagram have in common: addresses and protocol as they stand in the header, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    addresses: Vec<u8>,
    protocol: u8,
    name: u32,
}

#[derive(Debug)]
struct Piece {
    start: usize,
    more: bool,
    /// Ethernet's and IP's, without what says that it is a piece.
    header: Vec<u8>,
    payload: Vec<u8>,
    size: usize,
}

impl Piece {
    fn end(&self) -> usize {
        self.start + self.payload.len()
    }
}

impl<O: PartialEq> Gatherer<O> {
    /// Takes a piece in; the datagram, once it is whole. Pieces that overlap are of no datagram (RFC 5722 §3).
    pub fn take(&mut self, origin: O, frame: &[u8], now: Instant) -> Option<Joined> {
        self.waiting.retain(|one| now.saturating_duration_since(one.since) < PATIENCE);
        let (key, piece) = read(frame)?;
        let known = self.waiting.iter().position(|one| one.key == key && one.origin == origin);
        let mut one = match known.and_then(|place| self.waiting.remove(place)) {
            Some(one) => one,
            None => Waiting { origin, key, since: now, pieces: Vec::new() },
        };
        let overlaps = |other: &Piece| piece.start < other.end() && other.start < piece.end();
        let length: usize = one.pieces.iter().chain([&piece]).map(|piece| piece.payload.len()).sum();
        if one.pieces.iter().any(overlaps) || piece.header.len() + length > LARGEST {
            return None;
        }
        one.pieces.push(piece);
        one.pieces.sort_unstable_by_key(|piece| piece.start);
        let whole = one.pieces.first().is_some_and(|first| first.start == 0)
            && one.pieces.last().is_some_and(|last| !last.more)
            && one.pieces.windows(2).all(|pair| pair[0].end() == pair[1].start && pair[0].more);
        if whole {
            return Some(join(one));
        }
        if self.waiting.len() >= WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(one);
        None
    }
}

fn join<O>(one: Waiting<O>) -> Joined {
    let size = one.pieces.iter().map(|piece| piece.size).max().unwrap_or(0);
    let mut frame = one.pieces.first().map(|first| first.header.clone()).unwrap_or_default();
    one.pieces.iter().for_each(|piece| frame.extend(&piece.payload));
    set_length(&mut frame);
    Joined { frame, size: size as u16 }
}

/// Whether a frame holds IPv4 (IPv6 otherwise); `None` for neither.
fn is_ipv4(frame: &[u8]) -> Option<bool> {
    match frame.get(12..ETHERNET)? {
        [0x08, 0x00] => Some(true),
        [0x86, 0xdd] => Some(false),
        _ => None,
    }
}

fn read(frame: &[u8]) -> Option<(Key, Piece)> {
    let packet = frame.get(ETHERNET..)?;
    let word = |at: usize| packet.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
    let (key, piece) = if is_ipv4(frame)? {
        let header = usize::from(packet.first()? & 0x0f) * 4;
        let (length, place) = (usize::from(word(2)?), word(6)?);
        let key =
            Key { addresses: packet.get(12..20)?.to_vec(), protocol: *packet.get(9)?, name: word(4)?.into() };
        let mut bare = frame.get(..ETHERNET + header.max(20))?.to_vec();
        bare[ETHERNET + 6..ETHERNET + 8].fill(0);
        let piece = Piece {
            start: usize::from(place & 0x1fff) * 8,
            more: place & 0x2000 != 0,
            header: bare,
            payload: packet.get(header.max(20)..length)?.to_vec(),
            size: length,
        };
        (key, piece)
    } else {
        let mut bare = frame.get(..ETHERNET + IPV6)?.to_vec();
        let after = IPV6 + FRAGMENT.0;
        let length = IPV6 + usize::from(word(4)?);
        if packet.get(6) != Some(&FRAGMENT.1) {
            return None;
        }
        let (next, place) = (*packet.get(IPV6)?, word(IPV6 + 2)?);
        bare[ETHERNET + 6] = next;
        let name = packet.get(IPV6 + 4..after)?;
        let key = Key {
            addresses: packet.get(8..IPV6)?.to_vec(),
            protocol: next,
            name: u32::from_be_bytes(name.try_into().ok()?),
        };
        let piece = Piece {
            start: usize::from(place & !7),
            more: place & 1 != 0,
            header: bare,
            payload: packet.get(after..length)?.to_vec(),
            size: length,
        };
        (key, piece)
    };
    let fits = !piece.payload.is_empty() && (!piece.more || piece.payload.len() % 8 == 0);
    fits.then_some((key, piece))
}

/// Takes a datagram apart into pieces of at most `size` bytes, without Ethernet's header. It stays whole where it fits; nothing
/// is left of what is no IP. `name` is what IPv6 tells its pieces by; IPv4's header has a name already.
pub fn apart(frame: &[u8], size: u16, name: u32) -> Vec<Vec<u8>> {
    let Some(ipv4) = is_ipv4(frame) else { return Vec::new() };
    let Some(header) = header_length(frame, ipv4) else { return Vec::new() };
    let size = usize::from(size);
    if frame.len() - ETHERNET <= size {
        return vec![frame.to_vec()];
    }
    let (header, payload) = frame.split_at(header);
    let room = size.saturating_sub(header.len() - ETHERNET + if ipv4 { 0 } else { FRAGMENT.0 }) / 8 * 8;
    if room == 0 {
        return Vec::new();
    }
    let count = payload.len().div_ceil(room);
    let piece = |(place, part): (usize, &[u8])| {
        let (start, more) = (place * room, place + 1 < count);
        let mut piece = header.to_vec();
        if ipv4 {
            let place = (start / 8) as u16 | if more { 0x2000 } else { 0 };
            piece[ETHERNET + 6..ETHERNET + 8].copy_from_slice(&place.to_be_bytes());
        } else {
            let next = std::mem::replace(&mut piece[ETHERNET + 6], FRAGMENT.1);
            piece.extend([next, 0]);
            piece.extend((start as u16 | u16::from(more)).to_be_bytes());
            piece.extend(name.to_be_bytes());
        }
        piece.extend(part);
        set_length(&mut piece);
        piece
    };
    payload.chunks(room).enumerate().map(piece).collect()
}

/// Of Ethernet's and IP's headers together, where they are all there.
fn header_length(frame: &[u8], ipv4: bool) -> Option<usize> {
    let ip = if ipv4 { (usize::from(frame.get(ETHERNET)? & 0x0f) * 4).max(20) } else { IPV6 };
    (frame.len() >= ETHERNET + ip).then_some(ETHERNET + ip)
}

/// Writes the length of an IP packet into its header, and IPv4's checksum.
fn set_length(frame: &mut [u8]) {
    let length = frame.len() - ETHERNET;
    let Some(ipv4) = is_ipv4(frame) else { return };
    if !ipv4 {
        frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&((length - IPV6) as u16).to_be_bytes());
        return;
    }
    let Some(end) = header_length(frame, ipv4) else { return };
    frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&(length as u16).to_be_bytes());
    frame[ETHERNET + 10..ETHERNET + 12].fill(0);
    let words = frame[ETHERNET..end].chunks(2).map(|two| u32::from(u16::from_be_bytes([two[0], two[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(ipv4: bool, length: usize) -> Vec<u8> {
        let mut frame = vec![2; 12];
        let payload = (0..length).map(|n| (n / 7) as u8);
        if ipv4 {
            frame.extend([0x08, 0x00, 0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, 17, 0, 0]);
            frame.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        } else {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64]);
            frame.extend([1; 16].into_iter().chain([2; 16]));
        }
        frame.extend(payload);
        set_length(&mut frame);
        frame
    }

    #[test]
    fn what_is_taken_apart_comes_together_in_any_order() {
        let now = Instant::now();
        for (ipv4, length) in [(true, 3_000), (false, 3_000), (true, 8_000), (false, 8_000), (true, 59_000)] {
            let whole = datagram(ipv4, length);
            let pieces = apart(&whole, 1_450, 0x1234_5678);
            assert_eq!(pieces.len(), length.div_ceil(if ipv4 { 1_424 } else { 1_400 }));
            assert!(pieces.iter().all(|piece| piece.len() <= 1_464));
            for turn in 0..3 {
                let mut order: Vec<usize> = (0..pieces.len()).collect();
                order.rotate_left(turn % pieces.len());
                if turn == 2 {
                    order.reverse();
                }
                let mut gatherer = Gatherer::default();
                let joined: Vec<Joined> =
                    order.iter().filter_map(|n| gatherer.take((), &pieces[*n], now)).collect();
                let [joined] = &joined[..] else { panic!("{order:?}: {}", joined.len()) };
                assert_eq!(joined.frame, whole);
                assert_eq!(usize::from(joined.size), pieces[0].len() - ETHERNET);
                assert!(gatherer.waiting.is_empty());
            }
        }
    }

    #[test]
    fn pieces_of_different_datagrams_and_places_are_kept_apart() {
        let now = Instant::now();
        let (a, mut b) = (datagram(true, 3_000), datagram(true, 3_000));
        b[ETHERNET + 15] = 9;
        let (a, b) = (apart(&a, 1_450, 1), apart(&b, 1_450, 1));
        let mut gatherer = Gatherer::default();
        for n in 0..2 {
            assert_eq!(gatherer.take(1, &a[n], now), None);
            assert_eq!(gatherer.take(1, &b[n], now), None);
            assert_eq!(gatherer.take(2, &a[n + 1], now), None);
        }
        assert!(gatherer.take(1, &a[2], now).is_some() && gatherer.take(1, &b[2], now).is_some());
        assert!(gatherer.take(2, &a[0], now).is_some());
    }

    #[test]
    fn what_overlaps_is_too_large_or_comes_too_late_is_no_datagram() {
        let now = Instant::now();
        let pieces = apart(&datagram(true, 3_000), 1_450, 1);
        let mut gatherer = Gatherer::default();
        for n in [0, 0, 1, 2] {
            assert_eq!(gatherer.take((), &pieces[n], now), None, "the first came twice: both are gone");
        }
        let late = now + PATIENCE;
        assert_eq!(gatherer.take((), &pieces[0], late), None, "nothing else waits any more");
        assert_eq!(gatherer.waiting.len(), 1);

        let large = apart(&datagram(false, 61_000), 1_450, 1);
        assert!(large.iter().all(|piece| gatherer.take((), piece, late).is_none()));
        // No more wait than are meant to.
        for name in 0..200u8 {
            let mut piece = pieces[1].clone();
            piece[ETHERNET + 5] = name;
            assert_eq!(gatherer.take((), &piece, late), None);
        }
        assert_eq!(gatherer.waiting.len(), WAITING);
    }

    #[test]
    fn lies_are_read_as_nothing() {
        let now = Instant::now();
        for ipv4 in [true, false] {
            let piece = &apart(&datagram(ipv4, 3_000), 1_450, 1)[0];
            let mut gatherer = Gatherer::default();
            for length in 0..piece.len() {
                assert_eq!(gatherer.take((), &piece[..length], now), None);
                apart(&piece[..length], 100, 1);
            }
            for place in 0..70 {
                for value in [0, 0xff, 0x45] {
                    let mut lie = piece.clone();
                    lie[place] = value;
                    gatherer.take((), &lie, now);
                    apart(&lie, 60, 1);
                }
            }
        }
    }
}
