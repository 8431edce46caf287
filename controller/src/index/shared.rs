//! Labels that many pods have, held once. Knows no pods.

use std::collections::HashSet;
use std::sync::Arc;

use network::Labels;

/// Fewer are not worth a look for those that nobody has any more.
const FEW: usize = 1024;

/// Every distinct labels.
#[derive(Debug, Default)]
pub struct Shared {
    held: HashSet<Arc<Labels>>,
    /// At so many it is time to look which of them nobody has any more.
    full: usize,
}

impl Shared {
    /// Makes equal labels the same.
    pub fn share(&mut self, labels: &mut Arc<Labels>) {
        if let Some(held) = self.held.get(labels) {
            *labels = Arc::clone(held);
            return;
        }
        if self.held.len() >= self.full {
            self.held.retain(|held| Arc::strong_count(held) > 1);
            self.held.shrink_to(2 * self.held.len());
            self.full = FEW.max(2 * self.held.len());
        }
        self.held.insert(Arc::clone(labels));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_ones_are_the_same_and_those_of_nobody_are_forgotten() {
        let labels = |n: usize| Arc::new(Labels::from([("app".to_owned(), n.to_string())]));
        let mut shared = Shared::default();
        let (mut one, mut other) = (labels(0), labels(0));
        shared.share(&mut one);
        shared.share(&mut other);
        assert!(Arc::ptr_eq(&one, &other));
        // They come and go, and one stays.
        for n in 1..10 * FEW {
            shared.share(&mut labels(n));
        }
        assert!(shared.held.len() <= FEW, "{}", shared.held.len());
        let mut again = labels(0);
        shared.share(&mut again);
        assert!(Arc::ptr_eq(&one, &again));
    }
}
