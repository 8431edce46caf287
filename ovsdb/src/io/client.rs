//! The client: a live view of a database, and transactions on it; must not know the protocol.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::driver::{self, Command};
use super::remote::Remote;
use crate::monitor::{Interest, MissingColumn};
use crate::outcome::{Outcome, TransactError};
use crate::replica::Replica;
use crate::session::SessionConfig;
use crate::transaction::Transaction;
use crate::typed::Table;
use crate::vswitch::{self, Open_vSwitch};

/// How a client behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The database.
    pub database: String,
    /// What the session allows the server.
    pub session: SessionConfig,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// The wait after the first failed attempt; it doubles with each.
    pub backoff_first: Duration,
    /// The longest wait between attempts.
    pub backoff_limit: Duration,
    /// How long a transaction may take, with the wait for a connection.
    pub transact_timeout: Duration,
}

impl Default for ClientConfig {
    /// `Open_vSwitch`; 5 s to connect, 50 ms to 2 s between attempts, 10 s for a transaction.
    fn default() -> Self {
        Self {
            database: vswitch::DATABASE.to_owned(),
            session: SessionConfig::default(),
            connect_timeout: Duration::from_secs(5),
            backoff_first: Duration::from_millis(50),
            backoff_limit: Duration::from_secs(2),
            transact_timeout: Duration::from_secs(10),
        }
    }
}

/// What a client knows at one moment. A clone is a cheap snapshot.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The monitored rows: those of the last live connection while there is none.
    pub replica: Replica,
    /// Whether there is a live connection.
    pub live: bool,
    /// How many times a connection became live: a new number means that the server, or the way to it, was lost.
    pub synchronizations: u64,
    /// Wanted columns that the server lacks.
    pub missing: Vec<MissingColumn>,
    /// The locks asked for, and whether we have them.
    pub locks: BTreeMap<String, bool>,
    /// Why the last connection ended or could not be made.
    pub error: Option<String>,
}

/// No live connection was to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("database server {remote}: {reason}; check that ovsdb-server runs and listens there")]
pub struct ConnectError {
    /// Where.
    pub remote: Remote,
    /// What the last attempt met.
    pub reason: String,
}

/// A wait that ended without what it was for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// It did not come in time.
    #[error("the database did not show it within {0:?}")]
    TimedOut(Duration),
    /// There was no live connection when the time was up.
    #[error("no connection to the database: {0}")]
    NotConnected(String),
    /// The client has ended.
    #[error("the database client has ended")]
    Ended,
}

/// Why a change is not known to be carried out by the switch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleError {
    /// The change itself did not succeed.
    #[error(transparent)]
    Transact(#[from] TransactError),
    /// It is in the database, and ovs-vswitchd has not followed.
    #[error("ovs-vswitchd did not carry out configuration {next_cfg}: {error}; check that ovs-vswitchd runs")]
    Switch {
        /// The number that `cur_cfg` has to reach.
        next_cfg: i64,
        /// What the wait met.
        error: WaitError,
    },
}

/// A live view of a database, and transactions on it. Clones share one connection, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<State>,
    remote: Remote,
    config: Arc<ClientConfig>,
}

impl Client {
    /// Begins to connect, in the background and for ever. For `Open_vSwitch`, `cur_cfg` is always monitored too.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn start(remote: Remote, interest: Interest, config: ClientConfig) -> Self {
        let interest = match config.database == vswitch::DATABASE {
            true => interest.column(Open_vSwitch::CUR_CFG),
            false => interest,
        };
        let (commands, receiver) = mpsc::channel(64);
        let (publish, state) = watch::channel(State::default());
        let config = Arc::new(config);
        tokio::spawn(driver::run(remote.clone(), interest, Arc::clone(&config), receiver, publish));
        Self { commands, state, remote, config }
    }

    /// Connects to `Open_vSwitch` and waits for the first synchronisation.
    pub async fn connect(remote: Remote, interest: Interest) -> Result<Self, ConnectError> {
        Self::connect_with(remote, interest, ClientConfig::default()).await
    }

    /// Connects and waits for the first synchronisation, for at most `connect_timeout`.
    pub async fn connect_with(
        remote: Remote,
        interest: Interest,
        config: ClientConfig,
    ) -> Result<Self, ConnectError> {
        let limit = config.connect_timeout;
        let client = Self::start(remote, interest, config);
        match client.wait_for(limit, |_| Some(())).await {
            Ok(()) => Ok(client),
            Err(error) => Err(ConnectError {
                remote: client.remote.clone(),
                reason: client.state.borrow().error.clone().unwrap_or_else(|| error.to_string()),
            }),
        }
    }

    /// Where the server is.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// What is known now.
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// The monitored rows as they are now.
    pub fn snapshot(&self) -> Replica {
        self.state.borrow().replica.clone()
    }

    /// Tells of every change of the state; intermediate states may be skipped. What changed between two is
    /// [`Replica::difference`].
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    /// Carries out a transaction. When it returns, [`Client::snapshot`] shows what it did.
    ///
    /// Without a connection it waits for one, up to `transact_timeout`. A dropped future does not take it back.
    pub async fn transact(&self, transaction: Transaction) -> Result<Outcome, TransactError> {
        let (reply, outcome) = oneshot::channel();
        let deadline = Instant::now() + self.config.transact_timeout;
        let ended = || "the database client has ended".to_owned();
        let command = Command::Transact { transaction: Arc::new(transaction), deadline, reply };
        if self.commands.send(command).await.is_err() {
            return Err(TransactError::NotConnected { reason: ended() });
        }
        outcome.await.unwrap_or_else(|_| Err(TransactError::OutcomeUnknown { reason: ended() }))
    }

    /// Asks for a lock, now and on each later connection; [`State::locks`] tells whether we have it. A transaction that
    /// must only take effect under it has to assert it.
    pub async fn lock(&self, lock: &str) {
        // Without the driver there is no lock to be had, which the state says already.
        let _ = self.commands.send(Command::Lock(lock.to_owned())).await;
    }

    /// Waits until the test finds what it looks for in the rows of a live connection, and gives that.
    pub async fn wait_for<T>(
        &self,
        limit: Duration,
        mut test: impl FnMut(&Replica) -> Option<T>,
    ) -> Result<T, WaitError> {
        self.wait_for_state(limit, |state| if state.live { test(&state.replica) } else { None }).await
    }

    /// Like [`Client::wait_for`], for any part of the state.
    pub async fn wait_for_state<T>(
        &self,
        limit: Duration,
        mut test: impl FnMut(&State) -> Option<T>,
    ) -> Result<T, WaitError> {
        let mut state = self.state.clone();
        let mut found = None;
        let wait = state.wait_for(|state| {
            found = test(state);
            found.is_some()
        });
        match within(limit, wait).await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return Err(WaitError::Ended),
            None => {
                let state = self.state.borrow();
                return Err(match (&state.error, state.live) {
                    (Some(error), false) => WaitError::NotConnected(error.clone()),
                    _ => WaitError::TimedOut(limit),
                });
            }
        }
        found.ok_or(WaitError::Ended)
    }

    /// Carries out a transaction on `Open_vSwitch`, and waits until ovs-vswitchd has followed: increments `next_cfg`
    /// with it, and waits for `cur_cfg` to reach that, as ovs-vsctl(8) does.
    ///
    /// What the switch could not do it says in the `error` column of the interface.
    pub async fn transact_and_settle(
        &self,
        mut transaction: Transaction,
        limit: Duration,
    ) -> Result<Outcome, SettleError> {
        let own = transaction.operations().len();
        transaction.mutate(Open_vSwitch::all(), [Open_vSwitch::NEXT_CFG.increase_by(1)]);
        let select = transaction.select(Open_vSwitch::all(), Some(&[Open_vSwitch::NEXT_CFG.name()]));
        let mut outcome = self.transact(transaction).await?;
        let row = outcome.rows(select).and_then(<[_]>::first);
        let next_cfg =
            row.map(|row| Open_vSwitch::NEXT_CFG.of(row)).ok_or_else(|| TransactError::Malformed {
                problem: "the Open_vSwitch table is empty; run ovs-vsctl init".to_owned(),
            })?;
        let reached =
            |replica: &Replica| replica.find::<Open_vSwitch>(|row| row.cur_cfg >= next_cfg).map(drop);
        self.wait_for(limit, reached).await.map_err(|error| SettleError::Switch { next_cfg, error })?;
        outcome.results.truncate(own);
        Ok(outcome)
    }
}

async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}
