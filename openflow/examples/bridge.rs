//! Ten lines against a real bridge: `cargo run -p openflow --example bridge -- unix:/run/openvswitch/br-int.mgmt`.

use openflow::io::Client;
use openflow::message::FlowStatsRequest;
use openflow::{Field, FlowMod, Instruction, Match, Message, TableId};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let target =
        std::env::args().nth(1).ok_or("give the bridge's address, like unix:/run/openvswitch/br-int.mgmt")?;
    let (client, _events) = Client::connect(&target.parse()?, Default::default()).await?;
    let arp = Match::new().with(Field::ETH_TYPE, 0x0806u16);
    let flow = FlowMod::add(TableId(0), 100, arp, vec![Instruction::GotoTable(TableId(1))]);
    client.apply_bundle([Message::FlowMod(Box::new(flow))]).await?;
    client.dump_flows(FlowStatsRequest::default(), |flow| println!("{flow:?}")).await?;
    Ok(())
}
