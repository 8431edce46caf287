//! A bridge of the dummy datapath that holds a compiled program.

use std::collections::BTreeMap;

use compiler::simulate::matrix::Site;
use compiler::{PortRef, Program};
use openflow::connection::Config;
use openflow::io::{Client, Target};
use openflow::{FlowMod, Message, PortNo};
use tests::private_ovs::PrivateOvs;

/// Its name.
pub const BRIDGE: &str = "br-int";

/// A bridge with the ports of a site: the numbers are ours, so that a program can be bound before anything is asked.
pub fn numbers(site: &Site) -> BTreeMap<PortRef, PortNo> {
    let mut numbers = BTreeMap::from([(PortRef::Gateway, PortNo(1)), (PortRef::Tunnel, PortNo(2))]);
    for (place, port) in site.ports.iter().enumerate() {
        numbers.insert(PortRef::Interface(port.interface.clone()), PortNo(10 + place as u32));
    }
    numbers
}

/// The flows of a program, by the numbers of its ports.
pub fn flow_mods(program: &Program, numbers: &BTreeMap<PortRef, PortNo>) -> Vec<FlowMod> {
    program.bind(|port| numbers.get(port).copied()).collect()
}

/// Makes the bridge anew, with these ports.
pub fn make_bridge(ovs: &PrivateOvs, numbers: &BTreeMap<PortRef, PortNo>) {
    let mut args: Vec<String> = [
        "--if-exists",
        "del-br",
        BRIDGE,
        "--",
        "add-br",
        BRIDGE,
        "--",
        "set",
        "bridge",
        BRIDGE,
        "datapath_type=dummy",
        "fail_mode=secure",
        "protocols=OpenFlow10,OpenFlow13,OpenFlow15",
    ]
    .map(str::to_owned)
    .into();
    for (port, number) in numbers {
        let name = match port {
            PortRef::Gateway => "gw".to_owned(),
            PortRef::Tunnel => "tun".to_owned(),
            PortRef::Interface(name) => name.clone(),
        };
        let mut add: Vec<String> = vec![
            "--".into(),
            "add-port".into(),
            BRIDGE.into(),
            name.clone(),
            "--".into(),
            "set".into(),
            "interface".into(),
            name,
            format!("ofport_request={}", number.0),
        ];
        if *port == PortRef::Tunnel {
            add.extend(["type=geneve", "options:remote_ip=flow", "options:key=flow"].map(str::to_owned));
        } else {
            add.push("type=dummy".into());
        }
        args.append(&mut add);
    }
    ovs.vsctl(args).unwrap();
}

/// A connection to it.
pub async fn connect(ovs: &PrivateOvs) -> Client {
    let target = Target::Unix(ovs.mgmt_socket(BRIDGE));
    let (client, mut events) = Client::connect(&target, Config::default()).await.unwrap();
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    client
}

/// Takes these flows for all there are.
pub async fn install(client: &Client, flows: Vec<FlowMod>) {
    let clear = FlowMod {
        table: openflow::TableId::ALL,
        command: openflow::FlowModCommand::Delete,
        ..FlowMod::default()
    };
    let messages: Vec<Message> =
        std::iter::once(clear).chain(flows).map(|flow| Message::FlowMod(Box::new(flow))).collect();
    client.apply_bundle(messages).await.unwrap();
}
