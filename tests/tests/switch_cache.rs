//! What Open vSwitch has cached on its own datapath, after its flows changed: nothing goes by those of before. Two entries that
//! overlap are what makes Open vSwitch 3.1 take one for the other.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use openflow::io::{Client, Target};
use ovs_agent::drivers::cache;
use ovs_agent::drivers::unixctl::Unixctl;
use tests::private_ovs::PrivateOvs;
use tests::steady;

const LIMIT: Duration = Duration::from_secs(20);

struct Bench {
    ovs: PrivateOvs,
}

impl Bench {
    fn new() -> Option<Self> {
        let ovs = PrivateOvs::start().unwrap()?;
        ovs.dummy_bridge("br0").unwrap();
        for (port, number) in [("p1", 1), ("p2", 2)] {
            let request = format!("ofport_request={number}");
            ovs.vsctl(["add-port", "br0", port, "--", "set", "interface", port, "type=dummy", &request])
                .unwrap();
        }
        Some(Self { ovs })
    }

    fn flow(&self, command: &str, flow: &str) {
        self.ovs.ofctl(["-OOpenFlow13", command, "br0", flow]).unwrap();
    }

    fn packet(&self, ip: &str) {
        let packet =
            format!("in_port(1),eth(src=50:54:00:00:00:01,dst=50:54:00:00:00:02),{ip},udp(src=1,dst=80)");
        self.ovs.appctl(["netdev-dummy/receive", "p1", &packet]).unwrap();
    }

    fn to(&self, address: &str) {
        self.packet(&format!(
            "eth_type(0x0800),ipv4(src=10.1.0.1,dst={address},proto=17,tos=0,ttl=64,frag=no)"
        ));
    }

    /// What the datapath does with packets to 10.0.0.0/24 by an entry of theirs, if it has one.
    fn cached(&self) -> Option<String> {
        let flows = self.ovs.appctl(["dpctl/dump-flows", "--names"]).unwrap();
        let flow = flows.lines().find(|flow| flow.contains("dst=10.0.0."))?;
        Some(flow.rsplit_once("actions:")?.1.to_owned())
    }

    /// The datapath gets packets a little later than they are given to it.
    fn caches(&self, actions: &str) {
        steady::until(actions, LIMIT, || self.cached().as_deref() == Some(actions));
    }

    /// All that the switch looked through twice.
    fn look_through(&self) {
        for _pass in 0..2 {
            self.ovs.appctl(["revalidator/wait"]).unwrap();
        }
    }
}

#[test]
fn a_deny_reaches_entries_that_overlap() {
    let Some(bench) = Bench::new() else { return };
    // An entry as wide as the second below will be, so that the datapath looks among such first.
    bench.flow("add-flow", "priority=5,in_port=1,ipv6,actions=output:2");
    bench
        .packet("eth_type(0x86dd),ipv6(src=fe80::1,dst=fe80::2,label=0,proto=17,tclass=0,hlimit=64,frag=no)");
    // A narrow entry, of a time of narrow flows; then a wide one, of a time of wide flows.
    bench.flow("add-flow", "priority=10,in_port=1,ip,nw_dst=10.0.0.0/24,actions=output:2");
    bench.flow("add-flow", "priority=5,in_port=1,ip,actions=output:2,output:2");
    bench.to("10.0.0.5");
    bench.caches("p2");
    bench.flow("del-flows", "in_port=1,ip,nw_dst=10.0.0.0/24");
    bench.caches("p2,p2");
    bench.to("10.0.1.5");
    steady::until("the wide entry", LIMIT, || {
        bench.ovs.appctl(["dpctl/dump-flows"]).unwrap().matches("eth_type(0x0800)").count() == 2
    });

    bench.flow("add-flow", "priority=10,in_port=1,ip,nw_dst=10.0.0.0/24,actions=drop");
    bench.look_through();
    let held = bench.cached();
    println!("Open vSwitch by itself: {held:?}, which should be \"drop\"");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let target = Target::Unix(bench.ovs.mgmt_socket("br0"));
        let (client, _events) = Client::connect(&target, Default::default()).await.unwrap();
        let mut unixctl = Unixctl::connect(bench.ovs.rundir()).await.unwrap();
        cache::settle(&client, &mut unixctl).await.unwrap();
    });
    assert!(bench.cached().is_none_or(|actions| actions == "drop"), "{:?}", bench.cached());
    bench.to("10.0.0.5");
    bench.caches("drop");
}
