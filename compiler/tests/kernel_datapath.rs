//! What the kernel's datapath cannot do is not asked of it: Open vSwitch refuses such a flow, and with it every bundle.

#![allow(clippy::unwrap_used)]

use compiler::{Datapath, FlowAction, LocalPort, NodeConfig};
use network::{Mac, NodeName, NodeView};
use openflow::{Action, Field};

/// Open vSwitch sets them by `OVS_KEY_ATTR_ND_EXTENSIONS`, which Linux does not have (`linux/openvswitch.h`).
const USERSPACE_ONLY: [Field; 2] = [Field::ND_RESERVED, Field::ND_OPTIONS_TYPE];

fn sets_what_userspace_alone_can(datapath: Datapath) -> bool {
    let config = NodeConfig::new(NodeName::new("node-1"), datapath, 1500);
    let port = LocalPort {
        interface: "fe1".into(),
        pod: None,
        mac: Mac([2; 6]),
        addresses: [[10, 244, 1, 2].into(), "fd00:10:244:1::2".parse().unwrap()].into(),
    };
    let program = compiler::compile(&NodeView::default(), &config, &[port]);
    let sets = |action: &FlowAction| match action {
        FlowAction::Do(Action::SetField(value) | Action::RegLoad2(value)) => Some(value.field()),
        FlowAction::Do(Action::RegMove { dst, .. }) => Some(dst.field),
        _ => None,
    };
    let fields = program.flows.values().flat_map(|flow| &flow.actions).filter_map(sets);
    fields.into_iter().any(|field| USERSPACE_ONLY.contains(&field))
}

#[test]
fn no_flow_asks_the_kernel_for_what_it_cannot_set() {
    assert!(!sets_what_userspace_alone_can(Datapath::System));
    assert!(sets_what_userspace_alone_can(Datapath::Netdev), "userspace answers neighbour solicitations");
}
