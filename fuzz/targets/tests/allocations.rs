//! Hostile bytes make a decoder hold no more than their own length allows: counted, for every truncation and every corrupted
//! byte of the recorded messages, and for what is built to be expensive. One test, for the count is the process's.

use std::alloc::System;
use std::time::{Duration, Instant};

use fuzz_targets::{Mutator, TARGETS, seeds};
use openflow::{Match, Message};
use ovsdb::{SplitLimits, Splitter};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes of values per byte of message, vectors that grow by doubling among them. The dearest known is a list of actions
/// of eight bytes.
const PER_BYTE: usize = 16;
/// The same for the fields of a match: a TLV of five bytes is a value of some 64.
const PER_BYTE_OF_FIELDS: usize = 40;
/// What even the smallest message may cost.
const BASE: usize = 1_024;

/// Decodes, and gives the bytes allocated meanwhile.
fn cost<T>(decode: impl FnOnce() -> T) -> (T, usize) {
    let region = Region::new(ALLOCATOR);
    let value = decode();
    let change = region.change();
    (value, change.bytes_allocated)
}

fn check(bytes: &[u8], worst: &mut (f64, Vec<u8>)) {
    let (result, allocated) = cost(|| Message::decode(bytes));
    if let Err(error) = &result {
        assert!(error.offset <= bytes.len(), "{error}");
    }
    assert!(
        allocated <= PER_BYTE * bytes.len() + BASE,
        "{allocated} bytes for {} bytes {bytes:02x?}: {result:?}",
        bytes.len()
    );
    let per_byte = allocated.saturating_sub(BASE) as f64 / bytes.len().max(1) as f64;
    if per_byte > worst.0 {
        *worst = (per_byte, bytes.to_vec());
    }
}

#[test]
fn no_bytes_cost_more_than_their_length_allows() {
    let mut worst = (0.0, Vec::new());
    let messages = seeds::recorded_messages();
    assert!(messages.len() > 400, "only {} recorded messages", messages.len());
    for message in &messages {
        // Long replies repeat themselves: their first bytes stand for the rest.
        let span = message.len().min(400);
        let mut bytes = message.clone();
        for at in 0..span {
            let good = bytes[at];
            for bad in [0, 0xff, good ^ 1, good ^ 0x80, good.wrapping_add(1), good.wrapping_sub(8)] {
                bytes[at] = bad;
                check(&bytes, &mut worst);
            }
            bytes[at] = good;
        }
        for end in 0..span {
            let mut cut = message[..end].to_vec();
            check(&cut, &mut worst);
            if end >= 8 {
                cut[2..4].copy_from_slice(&(end as u16).to_be_bytes());
                check(&cut, &mut worst);
            }
        }
    }
    let mut mutator = Mutator::new(5);
    for _ in 0..50_000 {
        check(&mutator.mutate(&messages), &mut worst);
    }
    for message in expensive_messages() {
        let began = Instant::now();
        check(&message, &mut worst);
        assert!(began.elapsed() < Duration::from_secs(5), "{} bytes took too long", message.len());
    }
    tiny_fields();
    deep_json();
    eprintln!(
        "the dearest message took {:.1} bytes per byte of its own above the base: {:02x?}",
        worst.0,
        &worst.1[..worst.1.len().min(64)]
    );
}

/// Messages of 64 KiB that are made of the smallest things there are.
fn expensive_messages() -> Vec<Vec<u8>> {
    let long = |kind: u8, fixed: &[u8], unit: &[u8]| {
        let room = (65_528 - 8 - fixed.len()) / unit.len();
        let mut bytes = vec![4, kind, 0, 0, 0, 0, 0, 1];
        bytes.extend_from_slice(fixed);
        bytes.extend(unit.iter().copied().cycle().take(unit.len() * room));
        let length = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let packet_out = |unit: &[u8]| {
        let mut bytes = long(13, &[0xff; 16], unit);
        let actions = (bytes.len() - 24) as u16;
        bytes[16..18].copy_from_slice(&actions.to_be_bytes());
        bytes
    };
    vec![
        // A HELLO of empty elements; echoes; an experimenter.
        long(0, &[], &[0, 9, 0, 4, 0, 0, 0, 0]),
        long(2, &[], &[1]),
        long(4, &[0, 0, 0x23, 0x20, 0, 0, 0, 99], &[0; 8]),
        // 8,000 actions of the shortest kind: dec_nw_ttl, and ones that nobody knows.
        packet_out(&[0, 24, 0, 8, 0, 0, 0, 0]),
        packet_out(&[0x7f, 0, 0, 8, 0, 0, 0, 0]),
        packet_out(&[0, 0, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        // Port descriptions, table statistics, group descriptions without buckets, meters without bands.
        long(19, &[0, 13, 0, 1, 0, 0, 0, 0], &[1; 64]),
        long(19, &[0, 3, 0, 1, 0, 0, 0, 0], &[0; 24]),
        long(19, &[0, 7, 0, 1, 0, 0, 0, 0], &[0, 8, 0, 0, 0, 0, 0, 1]),
        long(19, &[0, 10, 0, 1, 0, 0, 0, 0], &[0, 8, 0, 0, 0, 0, 0, 1]),
        long(19, &[0, 12, 0, 1, 0, 0, 0, 0], &[0, 64, 0, 0, 0, 0, 0, 0]),
        // A group of empty buckets.
        long(
            15,
            &[0, 0, 1, 0, 0, 0, 0, 1],
            &[0, 16, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        ),
    ]
}

/// 10,000 TLVs of five bytes, each another field that nobody knows: a value, not quadratic in time.
fn tiny_fields() {
    let fields: Vec<u8> = (0..10_000u32)
        .flat_map(|number| {
            let [_, high, middle, low] = (number * 2).to_be_bytes();
            [0x40 | high, middle, low & 0xfe, 1, 0x55]
        })
        .collect();
    let began = Instant::now();
    let (read, allocated) = cost(|| Match::from_bytes(&fields));
    assert!(began.elapsed() < Duration::from_secs(5), "10,000 fields took {:?}", began.elapsed());
    eprintln!("10,000 fields: {:.1} bytes per byte", allocated as f64 / fields.len() as f64);
    assert!(allocated <= PER_BYTE_OF_FIELDS * fields.len(), "{allocated} bytes for {}", fields.len());
    drop(read);
}

/// Nesting is refused at the limit, and costs a level no more than a byte.
fn deep_json() {
    let deep = format!("{{\"a\":{}", "[".repeat(10_000));
    let (refused, allocated) = cost(|| {
        let mut splitter = Splitter::new(SplitLimits::default());
        splitter.push(deep.as_bytes());
        splitter.next_message().map(|message| message.map(<[u8]>::len))
    });
    assert!(refused.is_err());
    assert!(allocated <= 4 * deep.len(), "{allocated}");
    // Every other reader gets it too.
    for (_, target) in TARGETS {
        target(deep.as_bytes());
    }
    assert!(openflow::text::parse_actions(&"clone(".repeat(10_000), &Match::new()).is_err());
    assert!(
        openflow::text::parse_actions(
            &format!("{}output:1{}", "clone(".repeat(10_000), ")".repeat(10_000)),
            &Match::new()
        )
        .is_err()
    );
}
