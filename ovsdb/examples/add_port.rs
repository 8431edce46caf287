//! Adds a port to a bridge and waits for its OpenFlow port number.

use std::{error::Error, path::PathBuf, time::Duration};

use ovsdb::io::{Client, Remote};
use ovsdb::vswitch::{Bridge, Interface, Port};
use ovsdb::{Interest, Table, Transaction};

pub async fn add_port(socket: PathBuf, bridge: &str, name: &str) -> Result<Option<i64>, Box<dyn Error>> {
    let client = Client::connect(Remote::Unix(socket), Interest::new().table::<Interface>()).await?;
    let mut change = Transaction::new();
    let bridge = change.require(Bridge::NAME, bridge);
    let interface = change.insert(Interface::row().set(Interface::NAME, name));
    let port = change.insert(Port::row().set(Port::NAME, name).refer(Port::INTERFACES, [&interface]));
    change.mutate(bridge, [Bridge::PORTS.insert([port])]);
    let outcome = client.transact_and_settle(change, Duration::from_secs(5)).await?;
    let row = outcome.uuid(&interface).and_then(|uuid| client.snapshot().row::<Interface>(uuid));
    Ok(row.and_then(|row| row.ofport))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let ofport = add_port("/run/openvswitch/db.sock".into(), "br0", "p1").await?;
    println!("p1 is OpenFlow port {ofport:?}");
    Ok(())
}
