//! Cuts what a policy denies: waits until nothing passes by what the switch had cached, lists the connections, and asks the
//! switch about each that is threatened; the pipeline blocks those that lose. It must not know policies.

use std::path::Path;
use std::time::{Duration, Instant};

use compiler::Table;
use compiler::register::ZONE;
use openflow::io::{Client, ClientError};
use openflow::message::FlowStatsRequest;
use openflow::{Field, FlowStats, TableId};

use super::cache;
use super::unixctl::{Unixctl, UnixctlError};
use crate::cut::connection::{Connection, Discriminator};
use crate::cut::{Order, Outcome, question::question};

/// Why connections could not be cut.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// They cannot be listed.
    #[error(transparent)]
    Unixctl(#[from] UnixctlError),
    /// The switch cannot be asked.
    #[error("the switch cannot be asked about its connections: {0}")]
    Client(#[from] ClientError),
    /// It takes too long.
    #[error("the connections were not gone through within {} s", LIMIT.as_secs())]
    Slow,
}

/// A million connections take a switch some ten seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// Questions between two barriers: the switch's other work waits no longer than for these.
const BATCH: usize = 256;

/// How often to say how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// Does it; when it is done, nothing of a connection passes that the flows in force deny.
pub async fn cut(client: &Client, rundir: &Path, order: &Order) -> Result<Outcome, CutError> {
    let work = async {
        let mut unixctl = Unixctl::connect(rundir).await?;
        cache::settle(client, &mut unixctl).await?;
        let mut asking = Asking { client, order, outcome: Outcome::default(), unanswered: 0 };
        asking.associations().await?;
        asking.connections(&mut unixctl).await?;
        Ok(asking.outcome)
    };
    tokio::time::timeout(LIMIT, work).await.unwrap_or(Err(CutError::Slow))
}

struct Asking<'a> {
    client: &'a Client,
    order: &'a Order,
    outcome: Outcome,
    unanswered: usize,
}

impl Asking<'_> {
    async fn connections(&mut self, unixctl: &mut Unixctl) -> Result<(), CutError> {
        let zone = format!("zone={ZONE}");
        let mut told = Instant::now();
        let mut lines = unixctl.ask("dpctl/dump-conntrack", &[&zone]).await?;
        while let Some(some) = lines.next().await? {
            for connection in some.iter().filter_map(|line| Connection::parse(line)) {
                if connection.zone != ZONE {
                    continue;
                }
                self.outcome.listed += 1;
                if !connection.is_blocked() && !connection.is_over {
                    self.ask(&connection).await?;
                }
            }
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                let Outcome { listed, asked } = self.outcome;
                tracing::info!(listed, asked, "still looking for connections that a policy denies");
            }
        }
        self.client.barrier().await?;
        Ok(())
    }

    /// SCTP's are not in connection tracking, which does not know its ports, but among the flows that the switch learned for
    /// their replies.
    async fn associations(&mut self) -> Result<(), CutError> {
        let mut learned = Vec::new();
        let request = FlowStatsRequest::table(TableId(Table::SctpReplies.id()));
        self.client.dump_flows(request, |flow| learned.extend(association(&flow))).await?;
        for association in learned {
            self.outcome.listed += 1;
            self.ask(&association).await?;
        }
        Ok(())
    }

    async fn ask(&mut self, connection: &Connection) -> Result<(), CutError> {
        if !self.order.threat.concerns(connection) {
            return Ok(());
        }
        let Some(question) = question(connection, &self.order.senders) else { return Ok(()) };
        self.client.packet_out(question).await?;
        self.outcome.asked += 1;
        self.unanswered += 1;
        if self.unanswered == BATCH {
            self.unanswered = 0;
            self.client.barrier().await?;
        }
        Ok(())
    }
}

/// The association whose replies a flow lets pass.
fn association(reply: &FlowStats) -> Option<Connection> {
    let port = |field| u16::try_from(reply.match_.exact(field)?).ok();
    let address = |v4, v6| {
        let v4 = reply.match_.exact(v4).and_then(|bits| u32::try_from(bits).ok());
        let v4 = v4.map(|bits| std::net::IpAddr::V4(bits.into()));
        v4.or_else(|| Some(std::net::IpAddr::V6(reply.match_.exact(v6)?.into())))
    };
    let answerer = address(Field::IPV4_SRC, Field::IPV6_SRC)?;
    Some(Connection {
        protocol: network::Protocol::Sctp.number(),
        source: address(Field::IPV4_DST, Field::IPV6_DST)?,
        destination: answerer,
        discriminator: Discriminator::Ports {
            source: port(Field::SCTP_DST)?,
            destination: port(Field::SCTP_SRC)?,
        },
        answerer,
        answerer_port: port(Field::SCTP_SRC),
        zone: ZONE,
        mark: 0,
        is_over: false,
    })
}
