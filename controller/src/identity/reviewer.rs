//! Which node a service-account token belongs to, by asking the API server; for a short while without asking. Knows no
//! streams, and no HTTP: the API server is a trait.
//!
//! | the API server says | a token that it knew lately | another one |
//! |---|---|---|
//! | good | its node | its node |
//! | not good | refused | refused |
//! | nothing (it is away) | its node, for at most [`STALE`] after it was found good and not beyond its own expiry | told to wait: unavailable, not denied |

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use network::NodeName;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::judgement::{Refusal, Review, ServiceAccount, judge};

/// How long a token that was found good is not asked about again.
pub const FRESH: Duration = Duration::from_secs(60);
/// How long it is believed while the API server is away.
pub const STALE: Duration = Duration::from_secs(3600);
/// How long a token that was refused is not asked about again.
pub const REFUSED: Duration = Duration::from_secs(10);
/// How long a question may wait and take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions at a time: a flood of tokens must not become one of reviews.
const AT_ONCE: usize = 8;
/// Tokens that are remembered, of each sort.
const REMEMBERED: usize = 4096;
/// A service account's token is about 1 KiB; nothing longer is worth a question.
const LONGEST: usize = 16 << 10;

/// The API server, as far as tokens go. An error says why there is no answer.
pub trait ApiServer: std::fmt::Debug + Send + Sync + 'static {
    /// Reviews a token for [`super::judgement::AUDIENCE`].
    fn review(&self, token: &str) -> impl Future<Output = Result<Review, String>> + Send;
}

/// Why there is no node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoNode {
    /// The token proves nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nobody can say now.
    #[error("the API server cannot be asked about the token ({0}); try again")]
    Away(String),
}

type Hash = [u8; 32];

#[derive(Debug)]
struct Good {
    node: NodeName,
    found: Instant,
    /// Not believed after that without a new review.
    until: Instant,
}

#[derive(Debug, Default)]
struct Memory {
    good: BTreeMap<Hash, Good>,
    refused: BTreeMap<Hash, (Refusal, Instant)>,
}

/// Answers, from memory or by asking.
#[derive(Debug)]
pub struct Reviewer<A> {
    api: A,
    account: ServiceAccount,
    memory: Mutex<Memory>,
    turns: Semaphore,
}

impl<A: ApiServer> Reviewer<A> {
    /// A reviewer of tokens of this service account.
    pub fn new(api: A, account: ServiceAccount) -> Self {
        Self { api, account, memory: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }

    /// The node of a token. `wall` is only compared with the token's own expiry.
    pub async fn node_of(&self, token: &str, now: Instant, wall: SystemTime) -> Result<NodeName, NoNode> {
        if token.len() > LONGEST {
            return Err(Refusal::Unknown(format!("it is longer than {LONGEST} bytes")).into());
        }
        let hash: Hash = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = self.remembered(&hash, now) {
            return known.map_err(NoNode::from);
        }
        let asked = tokio::time::timeout(PATIENCE, self.ask(token)).await;
        match asked
            .unwrap_or_else(|_| Err(NoNode::Away(format!("no answer within {} s", PATIENCE.as_secs()))))
        {
            Ok(node) => {
                let until = (now + STALE).min(now + remaining(token, wall).unwrap_or(STALE));
                self.memory().remember_good(hash, Good { node: node.clone(), found: now, until });
                Ok(node)
            }
            Err(NoNode::Refused(refusal)) => {
                self.memory().remember_refused(hash, refusal.clone(), now);
                Err(refusal.into())
            }
            Err(away) => match self.memory().good.get(&hash).filter(|good| now < good.until) {
                Some(good) => {
                    tracing::warn!(node = %good.node, error = %away, "a token is believed as it was found last");
                    Ok(good.node.clone())
                }
                None => Err(away),
            },
        }
    }

    fn remembered(&self, hash: &Hash, now: Instant) -> Option<Result<NodeName, Refusal>> {
        let memory = self.memory();
        let good = memory.good.get(hash).filter(|good| now < (good.found + FRESH).min(good.until));
        if let Some(good) = good {
            return Some(Ok(good.node.clone()));
        }
        let refused = memory.refused.get(hash).filter(|(_, found)| now < *found + REFUSED);
        refused.map(|(refusal, _)| Err(refusal.clone()))
    }

    async fn ask(&self, token: &str) -> Result<NodeName, NoNode> {
        let _turn = self.turns.acquire().await;
        let review = self.api.review(token).await.map_err(NoNode::Away)?;
        Ok(judge(&review, &self.account)?)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Every use is one look-up or one insertion.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn remember_good(&mut self, hash: Hash, good: Good) {
        self.refused.remove(&hash);
        if self.good.len() >= REMEMBERED
            && let Some(oldest) = self.good.iter().min_by_key(|(_, good)| good.found).map(|(hash, _)| *hash)
        {
            self.good.remove(&oldest);
        }
        self.good.insert(hash, good);
    }

    fn remember_refused(&mut self, hash: Hash, refusal: Refusal, now: Instant) {
        // What the API server refuses now was good before at most.
        self.good.remove(&hash);
        if self.refused.len() >= REMEMBERED {
            self.refused.retain(|_, (_, found)| now < *found + REFUSED);
        }
        if self.refused.len() < REMEMBERED {
            self.refused.insert(hash, (refusal, now));
        }
    }
}

/// How long a token is still good by its own word (RFC 7519 §4.1.4). Its signature was checked by who reviewed it.
fn remaining(token: &str, wall: SystemTime) -> Option<Duration> {
    #[derive(serde::Deserialize)]
    struct Claims {
        exp: u64,
    }
    let payload = bytes_of_base64(token.split('.').nth(1)?)?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    let expiry = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(claims.exp))?;
    Some(expiry.duration_since(wall).unwrap_or_default())
}

/// RFC 4648: §5 without padding, as tokens have it (RFC 7515 §2), or §4 with it, as Secrets do.
pub fn bytes_of_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in text.trim_end_matches('=').bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::super::judgement::tests::{account, good};
    use super::*;

    /// Knows the tokens `node-1…`; the rest is refused.
    #[derive(Debug, Default)]
    struct Fake {
        away: AtomicBool,
        withdrawn: AtomicBool,
        asked: AtomicUsize,
    }

    impl ApiServer for Fake {
        async fn review(&self, token: &str) -> Result<Review, String> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.away.load(Ordering::Relaxed) {
                return Err("connection refused".into());
            }
            if !token.starts_with("node-1") || self.withdrawn.load(Ordering::Relaxed) {
                return Ok(Review { error: "token has expired".into(), ..Review::default() });
            }
            Ok(good(Some("node-1")))
        }
    }

    struct World {
        reviewer: Reviewer<Fake>,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { reviewer: Reviewer::new(Fake::default(), account()), now: Instant::now() }
        }

        async fn ask(&self, token: &str) -> Result<NodeName, NoNode> {
            self.reviewer.node_of(token, self.now, SystemTime::UNIX_EPOCH + Duration::from_secs(1000)).await
        }

        fn asked(&self) -> usize {
            self.reviewer.api.asked.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn a_token_is_asked_about_once_a_while() {
        let mut world = World::new();
        for _ in 0..3 {
            assert_eq!(world.ask("node-1.a").await, Ok(NodeName::new("node-1")));
            assert!(world.ask("stranger").await.unwrap_err().to_string().contains("has expired"));
        }
        assert_eq!(world.asked(), 2);
        world.now += REFUSED;
        world.ask("stranger").await.unwrap_err();
        assert_eq!(world.asked(), 3);
        world.now += FRESH;
        world.ask("node-1.a").await.unwrap();
        assert_eq!(world.asked(), 4);
    }

    #[tokio::test]
    async fn without_the_api_server_known_tokens_work_for_a_while_and_others_wait() {
        let mut world = World::new();
        world.ask("node-1.a").await.unwrap();
        world.reviewer.api.away.store(true, Ordering::Relaxed);
        world.now += FRESH;
        assert_eq!(world.ask("node-1.a").await, Ok(NodeName::new("node-1")));
        assert!(
            matches!(world.ask("node-1.b").await, Err(NoNode::Away(why)) if why.contains("connection refused"))
        );
        world.now += STALE;
        assert!(matches!(world.ask("node-1.a").await, Err(NoNode::Away(_))));
        // What waited is taken at once when it is back.
        world.reviewer.api.away.store(false, Ordering::Relaxed);
        assert_eq!(world.ask("node-1.b").await, Ok(NodeName::new("node-1")));
    }

    #[tokio::test]
    async fn a_token_is_not_believed_beyond_its_own_expiry() {
        let mut world = World::new();
        // {"exp":1100}: a hundred seconds after the wall clock of the test.
        let token = "node-1.eyJleHAiOjExMDB9.signature";
        world.ask(token).await.unwrap();
        world.reviewer.api.away.store(true, Ordering::Relaxed);
        world.now += Duration::from_secs(99);
        world.ask(token).await.unwrap();
        world.now += Duration::from_secs(1);
        assert!(matches!(world.ask(token).await, Err(NoNode::Away(_))));
    }

    #[tokio::test]
    async fn a_token_that_is_withdrawn_is_refused_when_it_is_asked_about() {
        let mut world = World::new();
        world.ask("node-1.a").await.unwrap();
        world.reviewer.api.withdrawn.store(true, Ordering::Relaxed);
        world.now += FRESH;
        assert!(matches!(world.ask("node-1.a").await, Err(NoNode::Refused(_))));
        world.reviewer.api.away.store(true, Ordering::Relaxed);
        world.now += REFUSED;
        assert!(
            matches!(world.ask("node-1.a").await, Err(NoNode::Away(_))),
            "it was good once, and is no more"
        );
    }

    #[tokio::test]
    async fn a_flood_of_tokens_neither_fills_memory_nor_drives_good_ones_out() {
        let world = World::new();
        world.ask("node-1.a").await.unwrap();
        for k in 0..REMEMBERED + 100 {
            world.ask(&format!("x{k}")).await.unwrap_err();
        }
        assert_eq!(world.reviewer.memory().refused.len(), REMEMBERED);
        let before = world.asked();
        world.ask("node-1.a").await.unwrap();
        assert_eq!(world.asked(), before);
        let long = "x".repeat(LONGEST + 1);
        assert!(matches!(world.ask(&long).await, Err(NoNode::Refused(_))));
        assert_eq!(world.asked(), before);
    }

    #[test]
    fn base64_as_tokens_have_it() {
        assert_eq!(bytes_of_base64("eyJleHAiOjExMDB9"), Some(b"{\"exp\":1100}".to_vec()));
        assert_eq!(bytes_of_base64("-_8"), Some(vec![0xfb, 0xff]));
        assert_eq!(bytes_of_base64("+/8="), Some(vec![0xfb, 0xff]));
        assert_eq!(bytes_of_base64("a b"), None);
    }
}
