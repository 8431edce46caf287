//! The Open vSwitch database: keeps our bridge and its ports as they should be and reports port numbers. It must not know
//! what ports are for.

mod difference;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use compiler::switch::SwitchRows;
use ovsdb::io::{Client, ClientConfig, Remote, State};
use ovsdb::vswitch::{Bridge, Interface, Open_vSwitch, Port};
use ovsdb::{Interest, Replica};
use tokio::sync::{mpsc, watch};

use crate::event::{Database, Event, PortStatus};

/// What the database should hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// The bridge and its ports; `None` while it is not known, then nothing is touched.
    pub rows: Option<Arc<SwitchRows>>,
    /// The switch holds all its flows: `other_config:flow-restore-wait`, which whatever starts ovs-vswitchd may have set,
    /// is to be cleared.
    pub flows_restored: bool,
    /// Ports of the bridge that are to go although they do not carry our mark.
    pub foreign: BTreeSet<String>,
}

/// The columns that we read. Counters are left out: the server would send them every few seconds.
fn interest() -> Interest {
    Interest::new()
        .column(Open_vSwitch::BRIDGES)
        .column(Open_vSwitch::OTHER_CONFIG)
        .column(Bridge::NAME)
        .column(Bridge::DATAPATH_TYPE)
        .column(Bridge::FAIL_MODE)
        .column(Bridge::PROTOCOLS)
        .column(Bridge::OTHER_CONFIG)
        .column(Bridge::EXTERNAL_IDS)
        .column(Bridge::PORTS)
        .column(Port::NAME)
        .column(Port::INTERFACES)
        .column(Interface::NAME)
        .column(Interface::TYPE)
        .column(Interface::OPTIONS)
        .column(Interface::MAC)
        .column(Interface::MTU_REQUEST)
        .column(Interface::EXTERNAL_IDS)
        .column(Interface::OFPORT)
        .column(Interface::ERROR)
}

/// The wait before a refused transaction is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until the receiver of events is gone.
pub async fn run(
    socket: impl AsRef<Path>,
    bridge: String,
    mut wanted: watch::Receiver<Wanted>,
    events: mpsc::Sender<Event>,
) {
    let client = Client::start(Remote::unix(socket), interest(), ClientConfig::default());
    let mut states = client.watch();
    let mut report = Report { bridge, events, sent: None, lost: None, problem: None };
    // What was asked for when it held all of that: what differs from it later is somebody else's doing, also when something else
    // is asked for in the same moment.
    let mut held: Option<Wanted> = None;
    loop {
        let state = states.borrow_and_update().clone();
        let target = wanted.borrow_and_update().clone();
        let mut outcome = Settled::Yes;
        if state.live {
            let drifts =
                held.as_ref().map(|held| difference::drifts(&state.replica, held)).unwrap_or_default();
            outcome = realize(&client, &state.replica, &target, &mut report.problem).await;
            if let Settled::Yes = outcome {
                held = Some(target.clone());
                if !drifts.is_empty() && report.events.send(Event::Drifted(drifts)).await.is_err() {
                    return;
                }
            }
        }
        // What a transaction did is in the state already; intermediate states need no report.
        let state = states.borrow().clone();
        if !report.tell(&state, &target).await {
            return;
        }
        let again = async {
            match outcome {
                Settled::Yes => std::future::pending().await,
                Settled::Later => tokio::time::sleep(RETRY).await,
            }
        };
        tokio::select! {
            changed = states.changed() => if changed.is_err() { return },
            changed = wanted.changed() => if changed.is_err() { return },
            () = again => {}
            () = report.events.closed() => return,
        }
    }
}

enum Settled {
    Yes,
    Later,
}

async fn realize(
    client: &Client,
    replica: &Replica,
    wanted: &Wanted,
    problem: &mut Option<String>,
) -> Settled {
    let Some(rows) = &wanted.rows else { return Settled::Yes };
    let Some(transaction) = difference::transaction(replica, rows, wanted) else {
        *problem = None;
        return Settled::Yes;
    };
    match client.transact(transaction).await {
        Ok(_) => {
            *problem = None;
            Settled::Yes
        }
        Err(error) => {
            tracing::warn!(%error, "the database did not take a change; trying again");
            *problem = Some(error.to_string());
            Settled::Later
        }
    }
}

/// Tells the node what changed, once.
struct Report {
    bridge: String,
    events: mpsc::Sender<Event>,
    sent: Option<Database>,
    lost: Option<String>,
    problem: Option<String>,
}

impl Report {
    async fn tell(&mut self, state: &State, wanted: &Wanted) -> bool {
        if !state.live {
            // Until the first attempt has an end there is nothing to tell.
            let Some(problem) = state.error.clone() else { return true };
            if self.lost.as_ref() != Some(&problem) {
                self.lost = Some(problem.clone());
                self.sent = None;
                return self.events.send(Event::DatabaseLost(problem)).await.is_ok();
            }
            return true;
        }
        self.lost = None;
        let mut database = read(&state.replica, &self.bridge);
        database.problem = self.problem.clone();
        database.realized = wanted
            .rows
            .as_ref()
            .is_some_and(|rows| difference::transaction(&state.replica, rows, wanted).is_none());
        if self.sent.as_ref() == Some(&database) {
            return true;
        }
        self.sent = Some(database.clone());
        self.events.send(Event::Database(Box::new(database))).await.is_ok()
    }
}

/// What the database says of our bridge.
fn read(replica: &Replica, bridge: &str) -> Database {
    let mut database = Database::default();
    let Some((_, bridge)) = replica.find::<Bridge>(|row| row.name == bridge) else { return database };
    database.fail_mode = bridge.fail_mode.unwrap_or_default();
    database.datapath_type = bridge.datapath_type;
    for port in bridge.ports.iter().filter_map(|uuid| replica.row::<Port>(*uuid)) {
        for interface in port.interfaces.iter().filter_map(|uuid| replica.row::<Interface>(*uuid)) {
            // -1 stands for a port that could not be made (ovs-vswitchd.conf.db(5), Interface ofport).
            let ofport = interface.ofport.and_then(|number| u32::try_from(number).ok()).filter(|n| *n > 0);
            let status = PortStatus { ofport, error: interface.error.filter(|error| !error.is_empty()) };
            database.ports.insert(interface.name, status);
        }
    }
    database
}
