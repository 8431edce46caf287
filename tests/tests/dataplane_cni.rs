//! `ferrule-cni` with real namespaces and an agent that the test plays: what a container has afterwards.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use api::cni::{Attachment, AttachmentId, Command, Failure, PodAddress, Reply, Request, Tombstone, code};
use network::Mac;
use serde_json::{Value, json};
use tests::namespace::Namespace;
use tests::{binaries, skip};

/// A node and a container as two namespaces, a folder for the state, and the agent's answers.
struct Node {
    node: Namespace,
    container: Namespace,
    folder: tempfile::TempDir,
    binary: PathBuf,
    answers: Arc<Mutex<Vec<Reply>>>,
    commands: Option<Receiver<Command>>,
}

const GATEWAY_MAC: Mac = Mac::ROUTER;

fn attachment() -> Attachment {
    let address = |address: &str, gateway: &str| PodAddress {
        address: address.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
        range: None,
    };
    Attachment {
        mac: "0a:58:0a:f4:01:05".parse().unwrap(),
        addresses: vec![address("10.244.1.5", "10.244.1.1"), address("fd00:10:244:1::5", "fd00:10:244:1::1")],
        gateway_mac: GATEWAY_MAC,
        mtu: 1400,
        tx_checksum_offload: false,
    }
}

fn id() -> AttachmentId {
    AttachmentId { container_id: "container-1".into(), interface: "eth0".into() }
}

impl Node {
    fn new(test: &str) -> Option<Self> {
        let made = Namespace::new(&format!("{test}-n"))
            .and_then(|node| Ok((node, Namespace::new(&format!("{test}-c"))?)));
        match made {
            Ok((node, container)) => Some(Self {
                node,
                container,
                folder: tempfile::tempdir().unwrap(),
                binary: binaries::build("cni", "ferrule-cni"),
                answers: Arc::default(),
                commands: None,
            }),
            Err(why) => {
                skip::skip("dataplane", test, &why);
                None
            }
        }
    }

    /// Starts the agent: it gives the answers in order, the last one again and again.
    fn agent(&mut self, answers: Vec<Reply>) {
        *self.answers.lock().unwrap() = answers;
        if self.commands.is_some() {
            return;
        }
        let listener = UnixListener::bind(self.folder.path().join("cni.sock")).unwrap();
        let (sender, receiver) = channel();
        let answers = self.answers.clone();
        // Ends with the process; the socket's folder goes first.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                let request: Request = serde_json::from_str(&text).unwrap();
                let answer = {
                    let mut answers = answers.lock().unwrap();
                    if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
                };
                if sender.send(request.command).is_err() {
                    return;
                }
                stream.write_all(&serde_json::to_vec(&answer).unwrap()).unwrap();
            }
        });
        self.commands = Some(receiver);
    }

    fn asked(&self) -> Vec<String> {
        let commands = self.commands.as_ref().unwrap().try_iter();
        commands
            .map(|command| serde_json::to_value(command).unwrap()["command"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Runs the binary in the node's namespace: what it printed, and whether it succeeded.
    fn cni(&self, command: &str, extra: Value) -> (Value, bool) {
        let mut config = json!({
            "cniVersion": "1.1.0", "name": "ferrule", "type": "ferrule-cni",
            "agentSocket": self.folder.path().join("cni.sock"), "stateDir": self.folder.path(),
        });
        config.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let mut child = self
            .node
            .command(self.binary.to_str().unwrap())
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", id().container_id)
            .env("CNI_IFNAME", id().interface)
            .env("CNI_NETNS", self.container.path())
            .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_UID=u1")
            .env("CNI_PATH", "/opt/cni/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let document = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (document, output.status.success())
    }

    fn host_end_exists(&self) -> bool {
        self.node.run(&format!("ip link show {}", id().host_interface())).status.success()
    }

    fn tombstone(&self) -> PathBuf {
        self.folder.path().join("tombstones").join(Tombstone::file_name(&id()))
    }
}

#[test]
fn a_container_gets_everything_and_check_sees_every_difference() {
    let Some(mut node) = Node::new("add") else { return };
    node.agent(vec![Reply::Added(attachment()), Reply::Done]);
    node.container.text("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    let (result, success) = node.cni("ADD", json!({}));
    assert!(success, "{result:#}");

    let link = node.container.text("ip -d link show eth0");
    assert!(
        link.contains("0a:58:0a:f4:01:05") && link.contains("mtu 1400") && link.contains(",UP,"),
        "{link}"
    );
    assert!(node.container.text("ip link show lo").contains(",UP,"));
    let addresses = node.container.text("ip addr show eth0");
    assert!(addresses.contains("inet 10.244.1.5/32") && addresses.contains("inet6 fd00:10:244:1::5/128"));
    assert!(!addresses.contains("fd00:10:244:1::5/128 scope global tentative"), "{addresses}");
    let routes = node.container.text("ip -4 route");
    assert!(routes.contains("default via 10.244.1.1 dev eth0 proto static onlink mtu 1400"), "{routes}");
    assert!(routes.contains("10.244.1.1 dev eth0 proto static scope link"), "{routes}");
    let routes = node.container.text("ip -6 route");
    assert!(routes.contains("default via fd00:10:244:1::1 dev eth0"), "{routes}");
    for family in ["-4", "-6"] {
        let neighbours = node.container.text(&format!("ip {family} neigh"));
        assert!(neighbours.contains(&format!("lladdr {GATEWAY_MAC} PERMANENT")), "{neighbours}");
    }
    if let Ok(ethtool) = node.container.command("ethtool").args(["-k", "eth0"]).output()
        && ethtool.status.success()
    {
        let text = String::from_utf8_lossy(&ethtool.stdout).into_owned();
        assert!(text.contains("tx-checksumming: off"), "{text}");
    }

    let host = id().host_interface();
    assert_eq!(result["cniVersion"], "1.1.0");
    assert_eq!(result["interfaces"][0]["name"], host.as_str());
    assert_eq!(result["interfaces"][1]["mac"], "0a:58:0a:f4:01:05");
    assert_eq!(result["interfaces"][1]["mtu"], 1400);
    assert_eq!(result["ips"][1]["address"], "fd00:10:244:1::5/128");
    assert_eq!(result["ips"][0]["interface"], 1);
    let host_link = node.node.text(&format!("ip link show {host}"));
    assert!(
        host_link.contains("NOARP") && host_link.contains(",UP,") && host_link.contains("mtu 1400"),
        "{host_link}"
    );

    let (said, success) = node.cni("CHECK", json!({ "prevResult": result }));
    assert!(success, "{said:#}");
    for (damage, told) in [
        ("ip neigh del 10.244.1.1 dev eth0", "neighbour 10.244.1.1"),
        ("ip addr del 10.244.1.5/32 dev eth0", "no address 10.244.1.5"),
        ("ip -6 route del default", "route to ::/0"),
        ("ip link set eth0 mtu 1300", "MTU 1300, not 1400"),
        ("ip link set eth0 address 0a:58:0a:f4:01:06", "not 0a:58:0a:f4:01:05"),
        ("ip link set eth0 down", "is down"),
    ] {
        node.container.text(damage);
        let (said, success) = node.cni("CHECK", json!({ "prevResult": result }));
        assert!(!success && said["code"] == code::CHECK_FAILED, "{said:#}");
        assert!(said["msg"].as_str().unwrap().contains(told), "{told}: {said:#}");
    }
    node.container.text("ip link del eth0");
    let (said, _) = node.cni("CHECK", json!({ "prevResult": result }));
    assert!(said["msg"].as_str().unwrap().contains("eth0 is gone"), "{said:#}");
    let (said, _) = node.cni("CHECK", json!({}));
    assert_eq!(said["code"], code::INVALID_CONFIG);
}

#[test]
fn the_container_cannot_talk_to_the_host_around_the_switch() {
    let Some(mut node) = Node::new("deaf") else { return };
    node.agent(vec![Reply::Added(attachment())]);
    node.node.text(
        "sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0",
    );
    assert!(node.cni("ADD", json!({})).1);
    node.node.text("ip link set lo up");
    node.node.text("ip addr add 192.0.2.1/32 dev lo");
    node.node.text("ip -6 addr add fd00:bad::1/128 dev lo nodad");
    // The way back would lead through another device, as in a real node.
    node.node.text("ip link add gw type veth peer name gw-peer");
    node.node.text("ip link set gw up");
    node.node.text("ip route add 10.244.1.0/24 dev gw");
    let host = id().host_interface();
    let link = node.node.text(&format!("ip -o link show {host}"));
    let mac = link.split("link/ether ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    for gateway in ["10.244.1.1", "fd00:10:244:1::1"] {
        node.container.text(&format!("ip neigh replace {gateway} lladdr {mac} dev eth0 nud permanent"));
    }
    let heard = |name: &str| {
        let counters = node.node.text("cat /proc/net/snmp /proc/net/snmp6");
        let (mut names, mut total) = (Vec::new(), 0u64);
        for line in counters.lines() {
            match line.split_once(": ") {
                Some(("Icmp", rest)) if rest.starts_with("In") => {
                    names = rest.split(' ').map(str::to_owned).collect()
                }
                Some(("Icmp", rest)) => {
                    let numbers = rest.split(' ').zip(&names).filter(|(_, field)| *field == name);
                    total += numbers.map(|(number, _)| number.parse::<u64>().unwrap()).sum::<u64>();
                }
                _ => {
                    let mut words = line.split_whitespace();
                    if words.next() == Some("Icmp6InEchos") {
                        total += words.next().unwrap().parse::<u64>().unwrap();
                    }
                }
            }
        }
        total
    };
    for target in ["192.0.2.1", "fd00:bad::1"] {
        let ping = node.container.run(&format!("ping -c 2 -i 0.2 -W 1 {target}"));
        assert!(!ping.status.success(), "{target} answers around the switch");
    }
    assert_eq!(heard("InEchos"), 0, "the host's stack heard the container");
}

#[test]
fn a_leftover_is_replaced_and_an_interface_of_somebody_else_is_not() {
    let Some(mut node) = Node::new("leftover") else { return };
    node.agent(vec![Reply::Added(attachment())]);
    assert!(node.cni("ADD", json!({})).1);
    let (again, success) = node.cni("ADD", json!({ "cniVersion": "0.4.0" }));
    assert!(success, "a broken ADD's veth is in the way: {again:#}");
    assert_eq!(again["ips"][0]["version"], "4");
    node.node.text(&format!("ip link del {}", id().host_interface()));
    node.container.text("ip link add eth0 type veth peer name other");
    let (said, success) = node.cni("ADD", json!({}));
    assert!(!success && said["code"] == code::INVALID_ENVIRONMENT, "{said:#}");
    assert!(!node.host_end_exists());
}

#[test]
fn what_was_begun_is_undone() {
    let Some(mut node) = Node::new("undo") else { return };
    // Nobody listens.
    let (said, success) = node.cni("ADD", json!({}));
    assert!(!success && said["code"] == code::AGENT_UNREACHABLE, "{said:#}");
    assert!(!node.host_end_exists() && !node.tombstone().exists());

    let refusal = Failure { code: code::NO_ADDRESS, msg: "no free address".into(), details: String::new() };
    node.agent(vec![Reply::Failed(refusal)]);
    let (said, _) = node.cni("ADD", json!({}));
    assert_eq!((&said["code"], &said["msg"]), (&code::NO_ADDRESS.into(), &"no free address".into()));
    assert!(!node.host_end_exists());
    assert_eq!(node.asked(), ["ADD"], "who refused has nothing to give back");

    // An address that the kernel refuses: the agent has to take everything back.
    let mut impossible = attachment();
    impossible.addresses[1].address = "ff02::5".parse().unwrap();
    node.agent(vec![Reply::Added(impossible), Reply::Done]);
    let (said, success) = node.cni("ADD", json!({}));
    assert!(!success && said["code"] == code::IO, "{said:#}");
    assert!(said["msg"].as_str().unwrap().contains("ff02::5"), "{said:#}");
    assert_eq!(node.asked(), ["ADD", "DEL"]);
    assert!(!node.host_end_exists());
    assert!(!node.container.run("ip link show eth0").status.success());

    node.agent(vec![Reply::Added(attachment()), Reply::Done]);
    let (said, _) = node.cni("ADD", json!({ "mtu": 9000 }));
    assert_eq!(said["code"], code::INVALID_CONFIG, "{said:#}");
    assert_eq!(node.asked(), ["ADD", "DEL"]);
    node.agent(vec![Reply::Added(attachment()), Reply::Done]);
    assert_eq!(node.cni("ADD", json!({ "mtu": 1280 })).0["interfaces"][1]["mtu"], 1280);
}

#[test]
fn del_always_succeeds_and_is_remembered_for_an_agent_that_is_away() {
    let Some(mut node) = Node::new("del") else { return };
    let (said, success) = node.cni("DEL", json!({}));
    assert!(success, "before ADD, without an agent: {said:#}");
    assert!(node.tombstone().exists());
    node.agent(vec![Reply::Done, Reply::Added(attachment()), Reply::Done]);
    assert!(node.cni("ADD", json!({})).1);
    assert_eq!(node.asked(), ["DEL", "ADD"], "the old DEL must not hit the new attachment");
    assert!(!node.tombstone().exists());
    for _ in 0..2 {
        let (said, success) = node.cni("DEL", json!({}));
        assert!(success && said.is_null(), "{said:#}");
        assert!(!node.host_end_exists());
    }
    assert!(!node.container.run("ip link show eth0").status.success());
    assert!(!node.tombstone().exists());
}

#[test]
fn a_wrong_namespace_is_never_the_nodes_own() {
    let Some(mut node) = Node::new("netns") else { return };
    node.agent(vec![Reply::Added(attachment())]);
    let own = std::mem::replace(&mut node.container, Namespace::new("netns-x").unwrap());
    drop(own);
    let run = |path: &str| {
        let mut child = node
            .node
            .command(node.binary.to_str().unwrap())
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", "c")
            .env("CNI_IFNAME", "eth0")
            .env("CNI_NETNS", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(br#"{"cniVersion":"1.1.0","name":"n"}"#).unwrap();
        serde_json::from_slice::<Value>(&child.wait_with_output().unwrap().stdout).unwrap()["code"].clone()
    };
    assert_eq!(run("/proc/self/ns/net"), code::INVALID_ENVIRONMENT);
    assert_eq!(run("/proc/self/ns/mnt"), code::INVALID_ENVIRONMENT);
    assert_eq!(run("/etc/hostname"), code::INVALID_ENVIRONMENT);
    assert_eq!(run("/run/netns/ferrule-test-no-such"), code::UNKNOWN_CONTAINER);
    assert!(!node.node.text("ip -o link").contains("fe"), "nothing was made");
}
