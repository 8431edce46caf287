//! Workloads become pods, pods get nodes and addresses; what does not fit is named and left out.

#![allow(clippy::unwrap_used, reason = "a test")]

use expect_test::{Expect, expect};
use network::{Node, Pod};
use objects::offline::{Families, hand_out, nodes_for, numbered_nodes, pod_ranges, widened};
use objects::{ObjectSet, Problem, SourceText, nodes, place, read, translate};

fn set(text: &str) -> ObjectSet {
    let (objects, problems) = read(&[SourceText::new("a.yaml", text)]);
    assert_eq!(lines(&problems), "");
    objects
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn show(pods: &[Pod]) -> String {
    let line = |pod: &Pod| {
        let node = pod.node.as_ref().map_or("-", |node| node.as_str());
        let ports: Vec<String> = pod.ports.iter().map(|p| format!("{}/{}", p.protocol, p.number)).collect();
        format!(
            "{} {node} {:?} {}{}",
            pod.key,
            pod.addresses,
            ports.join(","),
            if pod.host_network { " host" } else { "" }
        )
    };
    pods.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn check(text: &str, nodes: &[Node], pods: Expect, problems: Expect) -> Vec<Pod> {
    let placement = place(&set(text), nodes);
    pods.assert_eq(&show(&placement.pods));
    problems.assert_eq(&lines(&placement.problems));
    placement.pods
}

fn workload(kind: &str, name: &str, spec: &str) -> String {
    let version = match kind {
        "Job" => "batch/v1",
        "ReplicationController" => "v1",
        _ => "apps/v1",
    };
    format!(
        "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  {spec}\n  template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{containers: [{{name: c, ports: [{{containerPort: 80}}]}}]}}}}\n"
    )
}

#[test]
fn every_workload_and_round_robin() {
    let text = [
        workload("Deployment", "web", "replicas: 3"),
        workload("Deployment", "none", "replicas: 0"),
        workload("Deployment", "one", "selector: {}"),
        workload("StatefulSet", "db", "{replicas: 2, ordinals: {start: 5}}")
            .replace("{replicas: 2, ordinals: {start: 5}}", "replicas: 2\n  ordinals: {start: 5}"),
        workload("DaemonSet", "agent", "selector: {}"),
        workload("ReplicaSet", "rs", "replicas: 1"),
        workload("ReplicationController", "rc", "replicas: 1"),
        workload("Job", "once", "backoffLimit: 1"),
        workload("Job", "many", "completions: 5\n  parallelism: 2\n  completionMode: Indexed"),
        workload("Job", "queue", "parallelism: 3"),
        workload("Job", "asleep", "suspend: true"),
        "---\n{apiVersion: v1, kind: Pod, metadata: {name: bare}}\n".to_owned(),
    ]
    .concat();
    let pods = check(
        &text,
        &numbered_nodes(3, Families::Ipv4),
        expect![[r#"
        default/bare node-1 [] 
        shop/agent-node-1 node-1 [] TCP/80
        shop/agent-node-2 node-2 [] TCP/80
        shop/agent-node-3 node-3 [] TCP/80
        shop/db-5 node-2 [] TCP/80
        shop/db-6 node-3 [] TCP/80
        shop/many-0 node-1 [] TCP/80
        shop/many-1 node-2 [] TCP/80
        shop/once-0 node-3 [] TCP/80
        shop/one-0 node-1 [] TCP/80
        shop/queue-0 node-2 [] TCP/80
        shop/queue-1 node-3 [] TCP/80
        shop/queue-2 node-1 [] TCP/80
        shop/rc-0 node-2 [] TCP/80
        shop/rs-0 node-3 [] TCP/80
        shop/web-0 node-1 [] TCP/80
        shop/web-1 node-2 [] TCP/80
        shop/web-2 node-3 [] TCP/80"#]],
        expect![""],
    );
    let labels = |name: &str| pods.iter().find(|p| p.key.name() == name).unwrap().labels.clone();
    assert_eq!(labels("db-5")["statefulset.kubernetes.io/pod-name"], "db-5");
    assert_eq!(labels("many-1")["job-name"], "many");
    assert_eq!(labels("many-1")["batch.kubernetes.io/job-completion-index"], "1");
    let mut uids: Vec<&str> = pods.iter().map(|pod| pod.uid.as_str()).collect();
    uids.sort_unstable();
    uids.dedup();
    assert_eq!(uids.len(), pods.len());
}

#[test]
fn workloads_of_one_name_get_pods_of_different_names() {
    let text = workload("Deployment", "app", "replicas: 1")
        + &workload("StatefulSet", "app", "replicas: 1")
        + &workload("Job", "app", "parallelism: 1")
        + "---\n{apiVersion: v1, kind: Pod, metadata: {name: app-0, namespace: shop}}\n";
    check(
        &text,
        &numbered_nodes(1, Families::Ipv4),
        expect![[r#"
        shop/app-0 node-1 [] 
        shop/app-deployment-0 node-1 [] TCP/80
        shop/app-job-0 node-1 [] TCP/80
        shop/app-statefulset-0 node-1 [] TCP/80"#]],
        expect![[r#"
        a.yaml:9:1: Pod shop/app-0: a pod of this name exists already, this one is called `app-statefulset-0`; give the two objects different names
        a.yaml:2:1: Pod shop/app-0: a pod of this name exists already, this one is called `app-deployment-0`; give the two objects different names
        a.yaml:16:1: Pod shop/app-0: a pod of this name exists already, this one is called `app-job-0`; give the two objects different names"#]],
    );
}

#[test]
fn a_dump_of_a_cluster_is_not_expanded_twice() {
    let text = workload("Deployment", "web", "replicas: 2")
        + &workload("ReplicaSet", "web-abc", "replicas: 1").replace(
            "{name: web-abc, namespace: shop}",
            "{name: web-abc, namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: web, uid: u, controller: true}]}",
        )
        + "---
apiVersion: v1
kind: Pod
metadata:
  name: web-abc-xyz
  namespace: shop
  uid: 0b0b
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-abc, uid: u, controller: true}]
spec: {nodeName: node-2, containers: []}
status: {phase: Running, podIP: 10.9.8.7, podIPs: [{ip: 10.9.8.7}, {ip: 'fd00::7'}]}
";
    let pods = check(
        &text,
        &numbered_nodes(2, Families::Ipv4),
        expect!["shop/web-abc-xyz node-2 [10.9.8.7, fd00::7] "],
        expect![""],
    );
    assert_eq!(pods[0].uid, "0b0b");
}

#[test]
fn unknown_nodes_taken_and_bad_addresses() {
    let pod = |name: &str, node: &str, ip: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{{node}containers: []}}\nstatus: {{{ip}}}\n"
        )
    };
    let text = [
        pod("a", "nodeName: node-9, ", ""),
        pod("b", "", "podIP: 10.244.1.7"),
        pod("c", "", "podIP: 10.244.1.7"),
        pod("d", "", "podIP: not-an-address"),
        pod("e", "", "podIP: 127.0.0.1"),
        pod("f", "", "podIPs: [{ip: 10.1.1.1}, {ip: 10.1.1.2}]"),
        pod("g", "", "podIP: 10.244.1.1"),
        pod("h", "hostNetwork: true, ", "podIP: 10.244.1.7"),
        pod("i", "", "phase: Succeeded, podIP: 10.244.1.7"),
        pod("j", "", "podIP: 172.30.244.2"),
    ]
    .concat();
    check(
        &text,
        &numbered_nodes(2, Families::Ipv4),
        expect![[r#"
        default/b node-1 [10.244.1.7] 
        default/d node-1 [] 
        default/e node-2 [] 
        default/f node-1 [10.1.1.1] 
        default/h node-1 [172.30.244.1]  host
        default/i node-2 [10.244.1.7] "#]],
        expect![[r#"
        a.yaml:20:1: Pod default/d: status.podIP: `not-an-address` is not an IP address and is ignored; write a unicast address, for example 10.244.1.5, or leave it out
        a.yaml:26:1: Pod default/e: status.podIP: 127.0.0.1 can be nobody's address and is ignored; write a unicast address, for example 10.244.1.5, or leave it out
        a.yaml:32:1: Pod default/f: status.podIPs[1].ip: 10.1.1.2 is a second address of its family and is ignored; keep at most one IPv4 and one IPv6 address
        a.yaml:2:1: Pod default/a: spec.nodeName: the pod is bound to node `node-9`, which does not exist (known: node-1, node-2), the pod is left out; bind it to a known node, or leave spec.nodeName out
        a.yaml:14:1: Pod default/c: status.podIPs: the address 10.244.1.7 belongs to Pod default/b, the pod is left out; give one of the two another address
        a.yaml:38:1: Pod default/g: status.podIPs: the address 10.244.1.1 belongs to Node node-1, the pod is left out; give one of the two another address
        a.yaml:56:1: Pod default/j: status.podIPs: the address 172.30.244.2 belongs to Node node-2, the pod is left out; give one of the two another address"#]],
    );
    check(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}}",
        &[],
        expect![""],
        expect![
            "a.yaml:1:1: Pod default/a: spec.nodeName: there is no node to run the pod on, the pod is left out; add a node"
        ],
    );
}

#[test]
fn a_pod_that_asks_for_an_address_goes_where_it_is_handed_out() {
    let pod = |name: &str, ip: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: []}}\nstatus: {{{ip}}}\n"
        )
    };
    // The turn of the others does not change.
    let text =
        [pod("a", "podIP: 10.244.2.9"), pod("b", ""), pod("c", "podIP: 10.244.1.9"), pod("d", "")].concat();
    check(
        &text,
        &numbered_nodes(2, Families::Ipv4),
        expect![[r#"
            default/a node-2 [10.244.2.9] 
            default/b node-2 [] 
            default/c node-1 [10.244.1.9] 
            default/d node-2 [] "#]],
        expect![""],
    );
}

#[test]
fn container_ports_of_sidecars_count_and_bad_ones_do_not() {
    let text = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  template:
    spec:
      initContainers:
      - {name: setup, ports: [{containerPort: 1}]}
      - {name: proxy, restartPolicy: Always, ports: [{containerPort: 15001}]}
      containers:
      - name: web
        ports:
        - {containerPort: 53, protocol: UDP, name: dns}
        - {containerPort: 53, protocol: UDP, name: dns}
        - {containerPort: 70000}
        - {containerPort: 80, protocol: tcp}
        - {containerPort: 80, name: '80'}
";
    check(
        text,
        &numbered_nodes(1, Families::Ipv4),
        expect![[r#"
        default/web-0 node-1 [] UDP/53,TCP/15001
        default/web-1 node-1 [] UDP/53,TCP/15001"#]],
        expect![[r#"
        a.yaml:2:1: Pod default/web-0: spec.containers[0].ports[2].containerPort: the container port is ignored: 70000 is not a port; write a number from 1 to 65535
        a.yaml:2:1: Pod default/web-0: spec.containers[0].ports[3].protocol: the container port is ignored: `tcp` is not a protocol; write TCP, UDP or SCTP, in capitals
        a.yaml:2:1: Pod default/web-0: spec.containers[0].ports[4].name: the container port is ignored: `80` cannot be the name of a port; write 80 without quotes"#]],
    );
}

#[test]
fn addresses_are_handed_out_from_the_second_host_upward_around_those_asked_for() {
    let text = workload("Deployment", "web", "replicas: 3")
        + "---\n{apiVersion: v1, kind: Pod, metadata: {name: asks}, spec: {nodeName: node-1, containers: []}, status: {podIP: 10.244.1.3}}\n"
        + "---\n{apiVersion: v1, kind: Pod, metadata: {name: far}, spec: {nodeName: node-1, containers: []}, status: {podIP: 192.168.3.3}}\n";
    let nodes = numbered_nodes(1, Families::Dual);
    let mut pods = place(&set(&text), &nodes).pods;
    assert_eq!(lines(&hand_out(&mut pods, &nodes)), "");
    expect![[r#"
        default/asks node-1 [10.244.1.3] 
        default/far node-1 [192.168.3.3] 
        shop/web-0 node-1 [10.244.1.2, fd00:10:244:1::2] TCP/80
        shop/web-1 node-1 [10.244.1.4, fd00:10:244:1::3] TCP/80
        shop/web-2 node-1 [10.244.1.5, fd00:10:244:1::4] TCP/80"#]]
    .assert_eq(&show(&pods));
    let ranges: Vec<String> = widened(&nodes, &pods)[0].pod_cidrs.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.244.1.0/24", "fd00:10:244:1::/64", "192.168.3.3/32"]);
}

#[test]
fn nodes_keep_clear_of_what_pods_ask_for() {
    let pod = |name: &str, ip: &str| {
        format!("---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, status: {{podIP: '{ip}'}}}}\n")
    };
    let ranges = |text: &str| -> Vec<String> {
        let nodes = nodes_for(&set(text), 2);
        nodes.iter().flat_map(|n| n.pod_cidrs.iter()).map(ToString::to_string).collect()
    };
    assert_eq!(ranges(&workload("Deployment", "web", "replicas: 1")), ["10.244.1.0/24", "10.244.2.0/24"]);
    assert_eq!(ranges(&pod("a", "10.244.1.5")), ["10.244.1.0/24", "10.244.2.0/24"]);
    assert_eq!(ranges(&pod("a", "10.244.1.1")), ["10.0.1.0/24", "10.0.2.0/24"]);
    assert_eq!(ranges(&pod("a", "fd00::9")), ["fd00:10:244:1::/64", "fd00:10:244:2::/64"]);
    assert_eq!(ranges(&(pod("a", "fd00::9") + &pod("b", "10.1.1.1"))).len(), 4);
}

#[test]
fn a_full_range_leaves_the_pod_without_an_address() {
    let mut nodes = numbered_nodes(1, Families::Ipv4);
    nodes[0].pod_cidrs = vec!["10.244.1.0/30".parse().unwrap()];
    let mut pods = place(&set(&workload("Deployment", "web", "replicas: 2")), &nodes).pods;
    expect!["Pod shop/web-1: status.podIPs: node `node-1` has no free address left in 10.244.1.0/30, the pod stays without one; use more nodes or fewer pods"].assert_eq(&lines(&hand_out(&mut pods, &nodes)));
    expect![[r#"
        shop/web-0 node-1 [10.244.1.2] TCP/80
        shop/web-1 node-1 [] TCP/80"#]]
    .assert_eq(&show(&pods));
}

#[test]
fn ranges_read_the_same_in_both_families() {
    let text: Vec<String> = pod_ranges(254, Families::Dual).iter().map(ToString::to_string).collect();
    assert_eq!(text, ["10.244.254.0/24", "fd00:10:244:254::/64"]);
}

#[test]
fn node_objects() {
    let text = "
apiVersion: v1
kind: Node
metadata: {name: a, labels: {zone: x}}
spec: {podCIDR: 10.1.0.0/24, podCIDRs: [10.1.0.0/24, 'fd00:1::/64']}
status: {addresses: [{type: Hostname, address: a}, {type: InternalIP, address: 192.0.2.1}, {type: InternalIP, address: '2001:db8::1'}, {type: ExternalIP, address: 203.0.113.7}, {type: ExternalIP, address: 192.0.2.1}, {type: ExternalIP, address: 198.51.100.7}]}
---
apiVersion: v1
kind: Node
metadata: {name: b}
spec: {podCIDR: 10.1.0.128/25}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: c}
---
apiVersion: v1
kind: Node
metadata: {name: d}
spec: {podCIDRs: [10.4.0.0/33, 10.5.0.0/24, 10.6.0.0/24]}
status: {addresses: [{type: InternalIP, address: nowhere}, {type: InternalIP, address: 0.0.0.0}, {type: InternalIP, address: 192.0.2.4}, {type: ExternalIP, address: 127.0.0.1}, {type: ExternalIP, address: 203.0.113.7}, {type: InternalIP, address: 192.0.2.5}]}
";
    let (nodes, problems) = nodes(&set(text));
    let show: Vec<String> = nodes
        .iter()
        .map(|n| format!("{} {:?} {:?} {:?}", n.name, n.addresses, n.pod_cidrs, n.external))
        .collect();
    expect![[r#"
        a [192.0.2.1, 2001:db8::1] [10.1.0.0/24, fd00:1::/64] [198.51.100.7, 203.0.113.7]
        b [] [] []
        c [] [] []
        d [192.0.2.4] [10.5.0.0/24] [192.0.2.5, 203.0.113.7]"#]]
    .assert_eq(&show.join("\n"));
    expect![[r#"
        a.yaml:12:21: Node b: status.addresses: the address 192.0.2.1 belongs to Node a, this node goes without it; give one of the two another address
        a.yaml:11:7: Node b: spec.podCIDRs: the pod range 10.1.0.128/25 overlaps 10.1.0.0/24 of Node a and is ignored; give every node a range of its own
        a.yaml:14:1: Node c: status.addresses: the node has no InternalIP, other nodes cannot reach its pods; give it a status.addresses entry of type InternalIP
        a.yaml:14:1: Node c: spec.podCIDRs: the node has no pod range, its pods get no address from it; give it spec.podCIDRs
        a.yaml:22:50: Node d: status.addresses[0].address: `nowhere` is not an IP address and is ignored; write a unicast address, for example 10.244.1.5, or leave it out
        a.yaml:22:88: Node d: status.addresses[1].address: 0.0.0.0 can be nobody's address and is ignored; write a unicast address, for example 10.244.1.5, or leave it out
        a.yaml:22:248: Node d: status.addresses[5].address: 192.0.2.5 is a second address of its family: the node is reached by the first, and policies about nodes mean both; keep at most one IPv4 and one IPv6 address
        a.yaml:21:19: Node d: spec.podCIDRs[0]: prefix length 33 does not fit 10.4.0.0: at most 32, the range is ignored; write ADDRESS/LENGTH, for example 10.244.1.0/24
        a.yaml:21:45: Node d: spec.podCIDRs[2]: 10.6.0.0 is a second address of its family and is ignored; keep at most one IPv4 and one IPv6 address
        a.yaml:22:166: Node d: status.addresses[3].address: 127.0.0.1 can be nobody's address and is ignored; write a unicast address, for example 10.244.1.5, or leave it out"#]].assert_eq(&lines(&problems));
}

#[test]
fn translating_what_an_api_server_says_keeps_the_first_of_two_pods_of_one_address() {
    let objects = set(
        "{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {a: b, kubernetes.io/metadata.name: liar}}}",
    );
    let nodes = numbered_nodes(1, Families::Ipv4);
    let pod = |name: &str, node: &str| {
        let mut pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": if name == "lone" { "unseen" } else { "default" }},
            "spec": {"nodeName": node, "containers": []},
            "status": {"podIP": "10.244.1.2"},
        }))
        .unwrap();
        pod.metadata.uid = Some(name.to_owned());
        objects::translate::pod::pod(&pod).0
    };
    let pods = [pod("z", "node-1"), pod("a", "node-1"), pod("lost", "nowhere"), pod("lone", "node-1")];
    let (network, problems) = translate(&objects, &nodes, &pods);
    expect![[r#"
        Pod default/lost: spec.nodeName: the pod is bound to node `nowhere`, which does not exist (known: node-1), the pod is left out; bind it to a known node, or leave spec.nodeName out
        Pod default/z: status.podIPs: the address 10.244.1.2 belongs to Pod default/a, the pod goes without it; give one of the two another address
        Pod unseen/lone: status.podIPs: the address 10.244.1.2 belongs to Pod default/a, the pod goes without it; give one of the two another address"#]].assert_eq(&lines(&problems));
    expect![[r#"
        default/a node-1 [10.244.1.2] 
        default/z node-1 [] 
        unseen/lone node-1 [] "#]]
    .assert_eq(&show(&network.pods.into_values().collect::<Vec<_>>()));
    expect![[r#"{"default": {"a": "b", "kubernetes.io/metadata.name": "default"}, "unseen": {"kubernetes.io/metadata.name": "unseen"}}"#]].assert_eq(&format!("{:?}", network.namespaces));
}
