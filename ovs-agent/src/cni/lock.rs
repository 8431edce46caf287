//! One command at a time for each container. It must not know commands.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

type Lock = tokio::sync::Mutex<()>;

/// A lock for every container that somebody is busy with.
#[derive(Debug, Default)]
pub struct Locks {
    busy: Mutex<HashMap<String, Weak<Lock>>>,
}

impl Locks {
    /// Waits until nobody is busy with the container, and keeps others from it until the guard is dropped.
    pub async fn hold(&self, container: &str) -> OwnedMutexGuard<()> {
        let lock = {
            // The map is whole between any two statements, so a panic elsewhere does not matter.
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            busy.retain(|_, lock| lock.strong_count() > 0);
            match busy.get(container).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(Lock::default());
                    busy.insert(container.to_owned(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_container_waits_and_others_do_not() {
        let locks = Locks::default();
        let first = locks.hold("a").await;
        let _other = locks.hold("b").await;
        let second = locks.hold("a");
        tokio::pin!(second);
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        drop(second.await);
        drop(locks.hold("c").await);
        assert!(locks.busy.lock().unwrap().len() <= 2);
    }
}
