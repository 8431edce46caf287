//! The same work on many things, on all cores at once. The outcome is that of one core: results come in the order of what they
//! were made of, and nothing changes meanwhile. Knows nothing of the index.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Fewer things are not worth a thread.
const FEW: usize = 512;

/// A core takes so many at a time.
const CHUNK: usize = 64;

/// What a function makes of every one, in their order.
pub fn map<T: Sync, R: Send>(all: &[T], make: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if all.len() < FEW {
        return all.iter().map(make).collect();
    }
    map_on(std::thread::available_parallelism().map_or(1, usize::from), all, make)
}

fn map_on<T: Sync, R: Send>(cores: usize, all: &[T], make: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut made = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(chunk) = all.chunks(CHUNK).nth(number) else { return made };
            made.push((number, chunk.iter().map(&make).collect::<Vec<R>>()));
        }
    };
    let mut chunks = std::thread::scope(|scope| {
        let others: Vec<_> = (1..cores).map(|_| scope.spawn(work)).collect();
        let mut made = work();
        for other in others {
            made.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        made
    });
    chunks.sort_unstable_by_key(|(number, _)| *number);
    chunks.into_iter().flat_map(|(_, made)| made).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_however_many_there_are_and_on_however_many_cores() {
        for count in [0, 1, CHUNK - 1, CHUNK, FEW - 1, FEW, 10_000] {
            let all: Vec<usize> = (0..count).collect();
            let wanted: Vec<usize> = all.iter().map(|number| number * 3).collect();
            assert_eq!(map(&all, |number| number * 3), wanted, "{count}");
            for cores in [1, 2, 7] {
                assert_eq!(map_on(cores, &all, |number| number * 3), wanted, "{count} on {cores}");
            }
        }
    }
}
