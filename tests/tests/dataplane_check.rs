//! `ferrule check --before` on machines that are fit, and on one that is not: another network's leftovers, ports that are
//! taken, a path that takes less than its device says.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::net::UdpSocket;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use tests::lab_up::binaries;
use tests::namespace::Namespace;
use tests::skip;
use tests::steady::until;

/// What was found, and how it ended. `/etc` is a folder of the machine's own, made by `prepare`.
fn check(machine: &Namespace, prepare: &str, peers: &[&str]) -> (Option<i32>, Vec<Value>) {
    let ferrule = binaries().join("ferrule");
    let peers: String = peers.iter().map(|peer| format!(" --peer {peer}")).collect();
    let script = format!(
        "mount -t tmpfs tmpfs /etc && mkdir -p /etc/cni/net.d && {prepare} && exec {} check --before -o json{peers}",
        ferrule.display()
    );
    let output = machine.command("sh").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let found: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    (output.status.code(), found["items"].as_array().unwrap().clone())
}

/// The one finding of a check about `what`.
fn finding<'a>(items: &'a [Value], check: &str, what: &str) -> &'a Value {
    let is_it = |item: &&Value| item["check"] == check && item["what"].as_str().unwrap().contains(what);
    let mut all = items.iter().filter(is_it);
    let first = all.next().unwrap_or_else(|| panic!("{check}, {what}: {items:#?}"));
    assert_eq!(all.next(), None, "{check}, {what}");
    first
}

/// Two machines, and a router between them.
fn machines() -> Result<[Namespace; 3], String> {
    let all = [Namespace::new("check-a")?, Namespace::new("check-r")?, Namespace::new("check-b")?];
    let [a, router, b] = &all;
    for (machine, own, gateway, device) in
        [(a, "192.0.2.2/30", "192.0.2.1", "to-a"), (b, "192.0.2.6/30", "192.0.2.5", "to-b")]
    {
        machine.text("ip link set lo up");
        machine.text(&format!(
            "ip link add eth0 type veth peer name {device} netns {}",
            router.path().display()
        ));
        machine.text(&format!("ip address add {own} dev eth0"));
        machine.text("ip link set eth0 up");
        router.text(&format!("ip address add {gateway}/30 dev {device}"));
        router.text(&format!("ip link set {device} up"));
        machine.text(&format!("ip route add default via {gateway}"));
    }
    router.text("sysctl -q -w net.ipv4.ip_forward=1");
    Ok(all)
}

/// The tunnels' port, taken on a machine.
fn held(machine: &Namespace) -> UdpSocket {
    let namespace = File::open(machine.path()).unwrap();
    std::thread::scope(|scope| {
        let bind = || {
            setns(&namespace, CloneFlags::CLONE_NEWNET).unwrap();
            UdpSocket::bind("0.0.0.0:6081").unwrap()
        };
        scope.spawn(bind).join().unwrap()
    })
}

#[test]
fn what_stands_in_the_way_of_an_installation_is_named() {
    let [a, router, b] = match machines() {
        Ok(all) => all,
        Err(why) => return skip::skip("dataplane", "check", &why),
    };
    until("the path is there", Duration::from_secs(10), || {
        a.run("ping -c 1 -W 1 192.0.2.6").status.success()
    });

    let (code, items) = check(&a, "true", &["192.0.2.6"]);
    assert_eq!(code, Some(0), "{items:#?}");
    assert_eq!(
        finding(&items, "mtu", "packets of 1500 bytes, as eth0 does: pods get 1450")["status"],
        "good"
    );
    for (name, what) in [("ports", "UDP 6081"), ("ports", "TCP 7470"), ("other-cni", "no other network")] {
        assert_eq!(finding(&items, name, what)["status"], "good");
    }
    assert_eq!(finding(&items, "nftables", "nf_tables")["status"], "good");

    // Another network was here, its tunnels hold the port, and the way to the other machine is narrower than both ends are.
    a.text("ip link add cali0123456789a type veth peer name other");
    router.text("ip link set to-b mtu 1400");
    b.text("ip link set eth0 mtu 1400");
    let _held = held(&a);
    let prepare = "touch /etc/cni/net.d/10-calico.conflist /etc/cni/net.d/10-ferrule.conflist";
    let (code, items) = check(&a, prepare, &["192.0.2.6", "192.0.2.130"]);
    assert_eq!(code, Some(2), "{items:#?}");
    for (name, what) in [
        ("other-cni", "/etc/cni/net.d/10-calico.conflist configures another network"),
        ("other-cni", "device cali0123456789a is left of"),
        ("ports", "UDP 6081 is taken by dataplane_check"),
        ("mtu", "eth0 has an MTU of 1500, and the path takes 1400 bytes"),
        ("mtu", "it does not answer"),
    ] {
        let found = finding(&items, name, what);
        assert_eq!(found["status"], "bad", "{found:#}");
        assert!(found["cure"].as_str().is_some_and(|cure| !cure.is_empty()), "{found:#}");
    }
}
