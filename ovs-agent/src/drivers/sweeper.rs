//! Ends what the switch translates to endpoints that are gone: lists the connections, has the stale ones forgotten, and lists
//! them again to see that they are. It must not know Services.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use compiler::register::ZONE;
use openflow::io::Client;
use openflow::message::{CtFlush, CtTuple, Message, NiciraMessage};

use super::cutter::CutError;
use super::unixctl::Unixctl;
use crate::cut::connection::{Connection, Discriminator};
use crate::cut::stale::Served;

/// When to look once more after a change: the datapath goes by its old flows for up to half a second after the switch confirmed
/// the new ones (`max-revalidator`), and a client that goes on asking may have made an entry behind the first sweep.
pub const SETTLED: Duration = Duration::from_secs(1);

/// How often to look again although nothing changed, whatever was missed.
pub const AGAIN: Duration = Duration::from_secs(30);

/// A million connections take a switch some ten seconds.
const LIMIT: Duration = Duration::from_secs(120);

/// How often what was to be forgotten may still be there.
const PASSES: usize = 3;

/// Does it; gives how many connections were forgotten.
pub async fn sweep(client: &Client, rundir: &Path, served: &Served) -> Result<usize, CutError> {
    let work = async {
        let mut unixctl = Unixctl::connect(rundir).await?;
        let mut forgotten = 0;
        for _pass in 0..PASSES {
            let stale = stale(&mut unixctl, served).await?;
            if stale.is_empty() {
                break;
            }
            forgotten += stale.len();
            for flush in stale {
                client.send(Message::Nicira(Box::new(NiciraMessage::CtFlush(flush)))).await?;
            }
            client.barrier().await?;
        }
        Ok(forgotten)
    };
    tokio::time::timeout(LIMIT, work).await.unwrap_or(Err(CutError::Slow))
}

async fn stale(unixctl: &mut Unixctl, served: &Served) -> Result<Vec<CtFlush>, CutError> {
    let zone = format!("zone={ZONE}");
    let mut lines = unixctl.ask("dpctl/dump-conntrack", &[&zone]).await?;
    let mut found = Vec::new();
    while let Some(some) = lines.next().await? {
        let connections = some.iter().filter_map(|line| Connection::parse(line));
        let stale = connections.filter(|connection| connection.zone == ZONE && served.is_stale(connection));
        found.extend(stale.filter_map(|connection| flush(&connection)));
    }
    Ok(found)
}

/// Forgets exactly this connection.
fn flush(connection: &Connection) -> Option<CtFlush> {
    let Discriminator::Ports { source, destination } = connection.discriminator else { return None };
    let mapped = |address: IpAddr| -> Ipv6Addr {
        match address {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        }
    };
    let original = CtTuple {
        src: Some(mapped(connection.source)),
        dst: Some(mapped(connection.destination)),
        src_port: Some(source),
        dst_port: Some(destination),
        ..CtTuple::default()
    };
    Some(CtFlush { ip_proto: connection.protocol, original: Some(original), reply: None, zone: Some(ZONE) })
}
