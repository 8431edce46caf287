use std::time::Duration;

use ovsdb::io::{Client, Remote};
use ovsdb::vswitch::{Bridge, Interface, Port};
use ovsdb::{Interest, Table, Transaction};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = std::env::args().nth(1).unwrap_or("/run/openvswitch/db.sock".to_owned());
    let client = Client::connect(Remote::unix(socket), Interest::new().table::<Interface>()).await?;
    let mut change = Transaction::new();
    let bridge = change.require(Bridge::NAME, "br0");
    let interface = change.insert(Interface::row().set(Interface::NAME, "p1"));
    let port = change.insert(Port::row().set(Port::NAME, "p1").refer(Port::INTERFACES, [&interface]));
    change.mutate(bridge, [Bridge::PORTS.insert([port])]);
    let outcome = client.transact_and_settle(change, Duration::from_secs(5)).await?;
    let row = outcome.uuid(&interface).and_then(|uuid| client.snapshot().row::<Interface>(uuid));
    println!("p1 is OpenFlow port {:?}", row.and_then(|row| row.ofport));
    Ok(())
}
