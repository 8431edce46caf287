//! Every packet that the simulator drops ends at a flow whose cookie says that it drops; none that passes meets one.

#![allow(clippy::unwrap_used)]

mod networks;

use compiler::drops::{DropClass, is_drop};
use compiler::simulate::matrix::compile_all;
use compiler::simulate::{Fabric, Packet};
use network::{Pod, Protocol};
use networks::network;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_drop_has_its_flow(network in network()) {
        let compiled = compile_all(&network);
        let mut fabric = Fabric::new(compiled.iter().map(|site| (&site.node, &site.program, site.ports.as_slice())));
        let pods: Vec<&Pod> = network.pods.values().filter(|pod| pod.is_policed()).collect();
        for from in &pods {
            for to in pods.iter().filter(|to| to.key != from.key) {
                for (source, spoofed) in [(from.addresses[0], false), (to.addresses[0], true)] {
                    fabric.forget_connections();
                    let packet = Packet::first(source, to.addresses[0], Protocol::Tcp, 80);
                    let walk = fabric.from_pod(&from.key, packet).unwrap();
                    let steps: Vec<_> = walk.hops.iter().flat_map(|hop| &hop.trace.steps).collect();
                    let drops = steps.iter().filter(|step| is_drop(step.cookie)).count();
                    prop_assert_eq!(drops, usize::from(!walk.passed()), "{:#?}", walk);
                    let dropped = steps.iter().find(|step| is_drop(step.cookie));
                    if let Some(key) = dropped.and_then(|step| step.flow.as_ref()) {
                        let class = DropClass::of(key.table, &key.match_);
                        let policy = matches!(class, DropClass::DefaultDeny | DropClass::PolicyRule);
                        prop_assert_eq!(spoofed, class == DropClass::SpoofGuard, "{:?}", class);
                        prop_assert!(spoofed || policy, "{:?}", class);
                    }
                }
            }
        }
    }
}
