//! The agent's host drivers on a real network stack: links, addresses, routes, neighbours, kernel settings, nftables.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::File;
use std::future::Future;
use std::time::Duration;

use compiler::host::{HostState, InterfaceAddress, Link, NFTABLES_TABLE, Neighbour, Route};
use nix::sched::{CloneFlags, setns};
use ovs_agent::drivers::netlink::Netlink;
use ovs_agent::drivers::nftables::Nftables;
use ovs_agent::drivers::sysctl::Sysctls;
use tests::namespace::Namespace;
use tests::skip;

fn node(test: &str) -> Option<Namespace> {
    Namespace::new(test).inspect_err(|why| skip::skip("dataplane", test, why)).ok()
}

/// Runs `work` on a thread inside the namespace, as the agent of a lab node runs inside the node's.
fn inside<F: Future<Output = ()>>(node: &Namespace, work: impl FnOnce() -> F + Send) {
    let file = File::open(node.path()).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(work());
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn desired() -> HostState {
    let mut state = HostState::default();
    let device = || "gw0".to_owned();
    state.links.insert(Link { device: device(), mac: "0e:00:00:00:00:01".parse().unwrap(), mtu: 1400 });
    for (address, length) in [("10.244.1.1", 32), ("fd00:10:244:1::1", 128)] {
        let address = address.parse().unwrap();
        state.addresses.insert(InterfaceAddress { device: device(), address, length });
    }
    for (destination, via, source) in [
        ("10.244.1.0/24", "169.254.254.1", "192.0.2.1"),
        ("10.244.2.0/24", "169.254.254.1", "192.0.2.1"),
        ("fd00:10:244:2::/64", "fe80::1", "fd00:10:244:1::1"),
    ] {
        state.routes.insert(Route {
            destination: destination.parse().unwrap(),
            device: device(),
            via: Some(via.parse().unwrap()),
            source: Some(source.parse().unwrap()),
            mtu: None,
        });
        let mac = network::Mac::ROUTER;
        state.neighbours.insert(Neighbour { device: device(), address: via.parse().unwrap(), mac });
    }
    state
}

fn prepare(node: &Namespace) {
    node.text("ip link set lo up");
    node.text("ip link add gw0 type veth peer name gw0-peer");
    node.text("ip link set gw0-peer up");
    node.text("ip link add uplink type veth peer name uplink-peer");
    node.text("ip link set uplink mtu 1450 up");
    node.text("ip addr add 192.0.2.1/24 dev uplink");
    // What is not ours.
    node.text("ip route add 198.51.100.0/24 dev uplink proto static");
    node.text("ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev uplink nud permanent");
}

#[test]
fn the_stack_becomes_what_is_desired_and_stays_untouched_then() {
    let Some(node) = node("host") else { return };
    prepare(&node);
    inside(&node, || async {
        let netlink = Netlink::open().unwrap();
        let told = netlink.changes();
        let report = netlink.realize(&desired()).await.unwrap();
        assert!(report.failed.is_empty(), "{:?}", report.failed);
        assert_eq!(report.applied.len(), 8, "{:?}", report.applied);
        assert!(told.has_changed().unwrap());
        let again = netlink.realize(&desired()).await.unwrap();
        assert!(again.applied.is_empty() && again.failed.is_empty(), "{again:?}");
        let device = netlink.device_with(&["192.0.2.1".parse().unwrap()]).await.unwrap().unwrap();
        assert_eq!((device.0.as_str(), device.1.mtu), ("uplink", 1450));
    });
    let link = node.text("ip link show gw0");
    assert!(
        link.contains("0e:00:00:00:00:01") && link.contains("mtu 1400") && link.contains(",UP"),
        "{link}"
    );
    let routes = node.text("ip route show");
    assert!(
        routes.contains("10.244.2.0/24 via 169.254.254.1 dev gw0 proto 245 src 192.0.2.1 onlink"),
        "{routes}"
    );
    let routes = node.text("ip -6 route show");
    assert!(routes.contains("fd00:10:244:2::/64 via fe80::1 dev gw0 proto 245"), "{routes}");
}

#[test]
fn drift_is_repaired_and_what_is_not_ours_is_left_alone() {
    let Some(node) = node("drift") else { return };
    prepare(&node);
    let realize = |state: HostState| {
        inside(&node, || async move {
            let netlink = Netlink::open().unwrap();
            let report = netlink.realize(&state).await.unwrap();
            assert!(report.failed.is_empty(), "{:?}", report.failed);
            let again = netlink.realize(&state).await.unwrap();
            assert!(again.applied.is_empty(), "{:?}", again.applied);
        });
    };
    realize(desired());
    for damage in [
        // A new Ethernet address makes the kernel drop the neighbours.
        "ip link set gw0 address 0e:00:00:00:00:99",
        // Down: routes and IPv6 addresses are gone.
        "ip link set gw0 down",
        "ip link set gw0 mtu 1300",
        "ip addr del 10.244.1.1/32 dev gw0",
        "ip addr add 10.9.9.9/24 dev gw0",
        "ip route del 10.244.2.0/24",
        "ip route replace 10.244.2.0/24 via 192.0.2.9 dev uplink proto 245",
        "ip route add 10.244.7.0/24 dev uplink proto 245",
        "ip neigh replace 169.254.254.1 lladdr 02:00:00:00:00:66 dev gw0 nud permanent",
        "ip neigh add 10.9.9.8 lladdr 02:00:00:00:00:66 dev gw0 nud permanent",
        "ip link del gw0-peer",
    ] {
        node.text(damage);
        if damage.contains("del gw0-peer") {
            node.text("ip link add gw0 type veth peer name gw0-peer");
        }
        realize(desired());
    }
    let mut fewer = desired();
    fewer.routes.pop_last();
    realize(fewer);
    realize(HostState::default());
    assert!(!node.text("ip route show").contains("proto 245"));
    assert!(node.text("ip route show").contains("198.51.100.0/24 dev uplink proto static"));
    assert!(node.text("ip neigh show").contains("192.0.2.77"));
    assert!(node.text("ip addr show uplink").contains("192.0.2.1/24"));
}

#[test]
fn a_route_of_somebody_else_a_missing_device_and_a_foreign_source_are_named() {
    let Some(node) = node("refused") else { return };
    prepare(&node);
    node.text("ip route add 10.244.2.0/24 dev uplink proto static");
    let mut state = desired();
    state.routes.insert(Route {
        destination: "10.244.3.0/24".parse().unwrap(),
        device: "gw0".into(),
        via: Some("169.254.254.1".parse().unwrap()),
        source: Some("203.0.113.1".parse().unwrap()),
        mtu: None,
    });
    state.links.insert(Link { device: "nowhere0".into(), mac: network::Mac::ROUTER, mtu: 1400 });
    inside(&node, || async {
        let report = Netlink::open().unwrap().realize(&state).await.unwrap();
        let said: Vec<_> = report.failed.iter().map(ToString::to_string).collect();
        let all = said.join("\n");
        assert_eq!(said.len(), 3, "{all}");
        for part in
            ["10.244.2.0/24", "somebody else", "10.244.3.0/24", "address of this node", "device nowhere0"]
        {
            assert!(all.contains(part), "{part}: {all}");
        }
        assert_eq!(report.applied.len(), 7, "the rest is done: {:?}", report.applied);
    });
    assert!(node.text("ip route show").contains("10.244.2.0/24 dev uplink proto static"));
}

#[test]
fn kernel_settings_are_the_nodes_own() {
    let Some(node) = node("sysctl") else { return };
    inside(&node, || async {
        let settings = [("net/ipv4/ip_forward".to_owned(), "1".to_owned())].into();
        let sysctls = Sysctls::default();
        let (written, failed) = sysctls.realize(&settings);
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(written, ["net/ipv4/ip_forward"]);
        assert!(sysctls.realize(&settings).0.is_empty());
    });
    assert_eq!(node.text("cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
}

const BODY: &str = "chain spoof {\n\ttype filter hook prerouting priority raw; policy accept;\n\
    \tiifname != { \"lo\", \"gw0\" } ip saddr { 10.244.1.0/24, 10.244.2.0/24 } counter drop comment \"claims a pod's address\"\n}\n\
    chain leave {\n\ttype nat hook postrouting priority srcnat; policy accept;\n\
    \toifname != \"gw0\" ip6 saddr fd00:10:244:1::/64 counter masquerade\n}\n";

#[test]
fn the_nftables_table_is_replaced_only_when_it_differs() {
    let Some(node) = node("nft") else { return };
    if !node.run("nft list tables").status.success() {
        skip::skip("dataplane", "nft", "nft is not installed, or the kernel has no nf_tables");
        return;
    }
    node.text("nft add table inet other");
    let realize = |body: &'static str| {
        let mut changed = false;
        inside(&node, || async { changed = Nftables::new(NFTABLES_TABLE).realize(body).await.unwrap() });
        changed
    };
    assert!(realize(BODY));
    let listed = node.text("nft list table inet ferrule");
    // nft prints adjacent ranges as one.
    assert!(listed.contains("10.244.1.0") && listed.contains("masquerade"), "{listed}");
    assert!(!realize(BODY), "nothing differs");
    for drift in [
        "nft flush chain inet ferrule spoof",
        "nft add rule inet ferrule leave accept",
        "nft add chain inet ferrule seal_0000000000000000_0000000000000000",
        "nft delete table inet ferrule",
    ] {
        node.text(drift);
        assert!(realize(BODY), "{drift}");
        assert!(!realize(BODY), "{drift}");
    }
    // Traffic counts; that is no drift.
    node.text("ip link set lo up");
    node.run("ping -c 1 -W 1 127.0.0.1");
    assert!(!realize(BODY));

    inside(&node, || async {
        let error = Nftables::new(NFTABLES_TABLE).realize("chain a { nonsense here; }").await.unwrap_err();
        assert!(error.to_string().contains("nonsense"), "{error}");
    });
    assert!(!realize(BODY), "a refused table changes nothing");
    assert!(realize(""));
    assert!(!realize(""));
    assert!(node.text("nft list tables").contains("inet other"));
    assert!(!node.text("nft list tables").contains("ferrule"));
}

#[test]
fn a_change_by_somebody_else_is_told() {
    let Some(node) = node("told") else { return };
    prepare(&node);
    inside(&node, || async {
        let netlink = Netlink::open().unwrap();
        netlink.realize(&desired()).await.unwrap();
        let mut told = netlink.changes();
        tokio::time::sleep(Duration::from_millis(50)).await;
        told.mark_unchanged();
        node.text("ip route del 10.244.2.0/24");
        tokio::time::timeout(Duration::from_secs(5), told.changed()).await.unwrap().unwrap();
        let devices: BTreeSet<_> = ["gw0".to_owned()].into();
        assert_eq!(netlink.observe(&devices).await.unwrap().routes.len(), 2);
    });
}

#[test]
fn nft_takes_what_the_compiler_writes() {
    let Some(node) = node("nftc") else { return };
    if !node.run("nft list tables").status.success() {
        skip::skip("dataplane", "nftc", "nft is not installed, or the kernel has no nf_tables");
        return;
    }
    let mut view = network::NodeView::default();
    for number in 1..=2 {
        let name = network::NodeName::new(format!("node-{number}"));
        let text = |text: String| text.parse().unwrap();
        let member = network::Node {
            name: name.clone(),
            labels: Default::default(),
            addresses: vec![text(format!("192.168.0.{number}")), text(format!("fd00:192::{number}"))],
            pod_cidrs: ["10.244.N.0/24", "fd00:10:244:N::/64"]
                .map(|range| range.replace('N', &number.to_string()).parse().unwrap())
                .to_vec(),
            ..network::Node::default()
        };
        view.nodes.insert(name, member);
    }
    let own = network::NodeName::new("node-1");
    let config = compiler::NodeConfig::new(own, compiler::Datapath::Netdev, 1500);
    let body = compiler::compile(&view, &config, &[]).host.nftables;
    inside(&node, || async {
        assert!(Nftables::new(NFTABLES_TABLE).realize(&body).await.unwrap(), "{body}")
    });
    let listed = node.text("nft list table inet ferrule");
    assert!(listed.contains("leaves the cluster") && listed.contains("claims a pod's address"), "{listed}");
}
