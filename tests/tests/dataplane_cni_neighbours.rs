//! `ferrule-cni` among its neighbours, with their real binaries: delegated IPAM (host-local, static), plugins chained behind
//! it (portmap, also for pods, bandwidth, tuning), cnitool, containerd 1.6's own library, and calls as Multus makes them. One lab for all.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use api::cni::code;
use lab::{Component, Family, NodeIndex, netns};
use serde_json::{Value, json};
use tests::lab_up::LabUp;
use tests::namespace::Namespace;
use tests::runtime::{Outcome, Runtime, Traces};
use tests::{go, skip};

const NODE: NodeIndex = NodeIndex(1);
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: t}\n";
/// `pod-1` to `pod-4` are the test's to plug.
const POD: &str = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: NAME, namespace: t, uid: uid-of-NAME}\n\
                   spec: {nodeName: node-1, containers: [{name: c, image: i}]}\n";
/// Where the distribution's plugins are.
const PLUGINS: &str = "/usr/lib/cni";

#[test]
fn what_others_do_with_it() {
    let manifests = [("t.yaml", NAMESPACE)];
    let Some(up) = LabUp::new("dataplane_cni_neighbours", Family::Ipv4, Some(&manifests)) else { return };
    let runtime = Runtime::new(&up.lab, NODE);
    let other_node = |traces: &Traces| traces.flows.iter().any(|flow| flow.contains("10.244.2.0/24"));
    runtime.until("the node knows the other one", || other_node(&runtime.traces()));
    let before = runtime.traces();
    let left = |what: &str| {
        let left = runtime.traces().difference(&before);
        assert!(left.is_empty(), "{what}: this is left: {left:#?}");
    };
    a_pod_is_waited_for_by_its_uid(&runtime, &up.manifests);
    left("pods");
    what_is_not_listed_is_collected(&runtime);
    left("GC");
    several_interfaces(&runtime);
    left("several interfaces");
    if Path::new(PLUGINS).join("host-local").exists() {
        host_local(&up, &before);
        static_addresses(&runtime);
        left("delegated IPAM");
    } else {
        skip::skip("dataplane", "delegated IPAM", "containernetworking-plugins is not installed");
    }
    match go::install("github.com/containernetworking/cni/cnitool@v1.3.0") {
        Ok(cnitool) => {
            cnitool_drives_a_chain(&runtime, &cnitool, up.folder());
            left("cnitool");
            pods_ask_at_a_host_port(&up, &runtime, &cnitool);
            left("hostPort");
        }
        Err(why) => skip::skip("dataplane", "cnitool", &why),
    }
    match go::own("go-cni") {
        Ok(program) => {
            containerd_drives_it(&runtime, &program, up.folder());
            left("containerd's library");
        }
        Err(why) => skip::skip("dataplane", "containerd's library", &why),
    }
}

fn ok(what: &str, outcome: Outcome) -> Value {
    assert!(outcome.success, "{what}: {outcome:?}");
    outcome.said
}

fn address(result: &Value) -> String {
    result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned()
}

/// Unknown: error 11 after five seconds, nothing kept. Another UID under the same name is another pod. Known, and the
/// controller gone: it goes on.
fn a_pod_is_waited_for_by_its_uid(runtime: &Runtime<'_>, manifests: &Path) {
    let container = runtime.container("pod");
    let netns = container.path();
    let args = |uid: &str| {
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=t;K8S_POD_NAME=cart;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID={uid}"
        )
    };
    let add = |uid: &str| runtime.call("ADD", "pod", &netns, &[("CNI_ARGS", &args(uid))]);
    let began = std::time::Instant::now();
    let unknown = add("uid-of-cart");
    assert_eq!(unknown.said["code"], code::TRY_AGAIN, "{unknown:?}");
    assert!(unknown.said["msg"].as_str().unwrap().contains("uid-of-cart"), "{unknown:?}");
    assert!(began.elapsed().as_secs() >= 5, "it did not wait for the controller");
    std::fs::write(manifests.join("pod.yaml"), POD.replace("NAME", "cart")).unwrap();
    let added = ok("ADD of a pod that is known", add("uid-of-cart"));
    assert!(container.run("ping -c 1 -W 2 10.244.1.1").status.success());
    ok("DEL", runtime.call("DEL", "pod", &netns, &[]));
    let successor = add("uid-of-its-successor");
    assert_eq!(successor.said["code"], code::TRY_AGAIN, "a predecessor's policies: {successor:?}");

    runtime.stop(Component::Controller);
    runtime.lab.restart(NODE, Component::Agent, nix::sys::signal::Signal::SIGKILL).unwrap();
    runtime.until("STATUS says ready without a controller", || {
        runtime.call("STATUS", "", Path::new(""), &[]).success
    });
    let again = ok("ADD without a controller", add("uid-of-cart"));
    assert_ne!(address(&again), address(&added), "a freed address rests");
    let unknown = add("uid-of-its-successor");
    assert_eq!(unknown.said["code"], code::TRY_AGAIN, "{unknown:?}");
    ok("DEL", runtime.call("DEL", "pod", &netns, &[]));
    runtime.start(Component::Controller);
    std::fs::remove_file(manifests.join("pod.yaml")).unwrap();
}

/// The list rules, per network, and a veth of which nobody knows goes too.
fn what_is_not_listed_is_collected(runtime: &Runtime<'_>) {
    let containers = [runtime.container("gc-1"), runtime.container("gc-2")];
    let ids = ["gc-1", "gc-2"];
    for (id, container) in ids.iter().zip(&containers) {
        ok("ADD", runtime.call("ADD", id, &container.path(), &[]));
    }
    runtime.text("ip", &["link", "add", "fe0123456789abc", "type", "veth", "peer", "name", "its-peer"]);
    runtime.text("ip", &["link", "set", "fe0123456789abc", "alias", "ferrule ferrule"]);
    assert_eq!(runtime.traces().veths.len(), 3);
    let gc = |name: &str, valid: Value| {
        let mut configuration = runtime.configuration();
        configuration["name"] = name.into();
        configuration["cni.dev/valid-attachments"] = valid;
        ok("GC", runtime.call_with("GC", "", Path::new(""), &[], &configuration));
    };
    gc("another-network", json!([]));
    assert_eq!(runtime.traces().records.len(), 2, "another network's attachments were taken");
    gc("ferrule", json!([{"containerID": "gc-2", "ifname": "eth0"}]));
    let left = runtime.traces();
    assert!(!runtime.text("ip", &["-o", "link"]).contains("its-peer"), "a veth that nobody knows was left");
    assert_eq!((left.records.len(), left.veths.len(), left.addresses.as_str()), (1, 1, "1"), "{left:?}");
    assert!(containers[1].run("ping -c 1 -W 2 10.244.1.1").status.success(), "who is listed was cut off");
    assert!(!containers[0].run("ip link show eth0").status.success());
    gc("ferrule", json!([]));
}

/// As Multus calls its delegates: one container id, an interface name each, names of the pod in CNI_ARGS, addresses and
/// Ethernet addresses in runtimeConfig. The first one's routes stay.
fn several_interfaces(runtime: &Runtime<'_>) {
    let container = runtime.container("multi");
    let netns = container.path();
    let first = ok("ADD eth0", runtime.call("ADD", "multi", &netns, &[]));
    let mut second = runtime.configuration();
    second["name"] = "second".into();
    second["runtimeConfig"] = json!({"ips": ["10.244.1.77/24"], "mac": "02:11:22:33:44:55"});
    let call = |command: &str, interface: &str, configuration: &Value| {
        let args = [("CNI_IFNAME", interface), ("CNI_ARGS", "IgnoreUnknown=true")];
        runtime.call_with(command, "multi", &netns, &args, configuration)
    };
    let added = ok("ADD net1", call("ADD", "net1", &second));
    assert_eq!(address(&added), "10.244.1.77");
    assert_eq!(added["interfaces"][1]["mac"], "02:11:22:33:44:55");
    let mut third = runtime.configuration();
    third["args"] = json!({"cni": {"ips": ["10.244.1.78"]}});
    assert_eq!(address(&ok("ADD net2", call("ADD", "net2", &third))), "10.244.1.78");
    let routes = container.text("ip route");
    assert!(routes.lines().next().unwrap().starts_with("default via 10.244.1.1 dev eth0"), "{routes}");
    assert!(container.run("ping -c 1 -W 2 10.244.1.1").status.success());
    assert!(container.run("ping -c 1 -W 2 -I net1 10.244.1.1").status.success(), "{routes}");
    second["prevResult"] = added;
    ok("CHECK net1", call("CHECK", "net1", &second));
    let mut of_first = runtime.configuration();
    of_first["prevResult"] = first;
    ok("CHECK eth0", call("CHECK", "eth0", &of_first));
    let taken = call("ADD", "net3", &third);
    assert_eq!(taken.said["code"], code::ADDRESS_REFUSED, "{taken:?}");
    for (interface, configuration) in [("net1", &second), ("net2", &third), ("eth0", &of_first)] {
        ok("DEL", call("DEL", interface, configuration));
    }
}

/// The plugin gives, keeps, compares and takes back; what it says of a failure is what the runtime hears.
fn host_local(up: &LabUp, before: &Traces) {
    let mut runtime = Runtime::new(&up.lab, NODE);
    let plugin = |subnet: &str, start: &str, end: &str| {
        json!({"ipam": {
            "type": "host-local", "dataDir": runtime.delegated_folder(),
            "ranges": [[{"subnet": subnet, "rangeStart": start, "rangeEnd": end}]],
        }})
    };
    let (good, outside) = (
        plugin("10.244.1.0/24", "10.244.1.200", "10.244.1.200"),
        plugin("10.99.0.0/24", "10.99.0.5", "10.99.0.5"),
    );
    runtime.extra = good;
    let (one, two) = (runtime.container("hl-1"), runtime.container("hl-2"));
    let added = ok("ADD", runtime.call("ADD", "hl-1", &one.path(), &[]));
    assert_eq!(address(&added), "10.244.1.200");
    assert!(one.run("ping -c 1 -W 2 10.244.1.1").status.success());
    let mut checked = runtime.configuration();
    checked["prevResult"] = added;
    ok("CHECK", runtime.call_with("CHECK", "hl-1", &one.path(), &[], &checked));
    let kept = runtime.delegated_folder().join("ferrule/10.244.1.200");
    let moved = up.folder().join("moved");
    std::fs::rename(&kept, &moved).unwrap();
    let differs = runtime.call_with("CHECK", "hl-1", &one.path(), &[], &checked);
    assert_eq!(differs.said["code"], code::CHECK_FAILED, "{differs:?}");
    assert!(differs.said["msg"].as_str().unwrap().contains("host-local"), "{differs:?}");
    std::fs::rename(&moved, &kept).unwrap();

    let full = runtime.call("ADD", "hl-2", &two.path(), &[]);
    let said = full.said["msg"].as_str().unwrap();
    assert!(
        said.contains("IPAM plugin `host-local`") && said.contains("no IP addresses available"),
        "{said}"
    );
    assert_eq!(full.said["code"], code::IPAM_PLUGIN, "{full:?}");
    // Without the agent the plugin still takes its address back.
    runtime.stop(Component::Agent);
    ok("DEL without the agent", runtime.call("DEL", "hl-1", &one.path(), &[]));
    assert!(!kept.exists());
    runtime.start(Component::Agent);
    runtime.until("the agent has made up for it", || runtime.traces() == *before);

    runtime.extra = outside;
    let refused = runtime.call("ADD", "hl-2", &two.path(), &[]);
    assert_eq!(refused.said["code"], code::ADDRESS_REFUSED, "{refused:?}");
    let said = refused.said.to_string();
    assert!(
        said.contains("10.99.0.5") && said.contains("10.244.1.0/24") && said.contains("host-local"),
        "{said}"
    );
    assert!(!runtime.delegated_folder().join("ferrule/10.99.0.5").exists(), "it was not given back");
    runtime.extra = json!({"ipam": {"type": "no-such-plugin"}});
    let missing = runtime.call("ADD", "hl-2", &two.path(), &[]);
    assert_eq!(missing.said["code"], code::INVALID_CONFIG, "{missing:?}");
    let status = runtime.call("STATUS", "", Path::new(""), &[]);
    assert_eq!(status.said["code"], code::NOT_AVAILABLE, "{status:?}");
}

/// Addresses of the configuration, or of CNI_ARGS as its documentation says.
fn static_addresses(runtime: &Runtime<'_>) {
    let container = runtime.container("static");
    let netns = container.path();
    let mut configuration = runtime.configuration();
    configuration["ipam"] =
        json!({"type": "static", "addresses": [{"address": "10.244.1.66/24", "gateway": "10.244.1.1"}]});
    let added = ok("ADD", runtime.call_with("ADD", "static", &netns, &[], &configuration));
    assert_eq!(address(&added), "10.244.1.66");
    assert!(container.run("ping -c 1 -W 2 10.244.1.1").status.success());
    ok("DEL", runtime.call_with("DEL", "static", &netns, &[], &configuration));
    configuration["ipam"] = json!({"type": "static"});
    let args = [("CNI_ARGS", "IgnoreUnknown=1;IP=10.244.1.67/24")];
    let added = ok("ADD by CNI_ARGS", runtime.call_with("ADD", "static", &netns, &args, &configuration));
    assert_eq!(address(&added), "10.244.1.67");
    ok("DEL", runtime.call_with("DEL", "static", &netns, &args, &configuration));
}

/// CNI 1.1's reference runtime: a list with us first, the distribution's plugins and one like istio-cni behind.
fn cnitool_drives_a_chain(runtime: &Runtime<'_>, cnitool: &Path, folder: &Path) {
    let confs = folder.join("net.d");
    std::fs::create_dir_all(&confs).unwrap();
    let container = runtime.container("cnitool");
    let tool = |command: &str, network: &str| {
        run_cnitool(runtime, cnitool, folder, &container, "IgnoreUnknown=1;K8S_POD_UID=1", [command, network])
    };
    let did = |command: &str, network: &str| {
        let (success, said) = tool(command, network);
        assert!(success, "cnitool {command} {network}: {said}");
        said
    };
    let mut ours = runtime.configuration();
    let list = |version: &str, name: &str, plugins: Vec<Value>| {
        let list = json!({"cniVersion": version, "name": name, "plugins": plugins});
        std::fs::write(confs.join(format!("{name}.conflist")), list.to_string()).unwrap();
    };
    ours.as_object_mut().unwrap().remove("cniVersion");
    ours.as_object_mut().unwrap().remove("name");
    // Alone, in the newest version: every command there is.
    list("1.1.0", "alone", vec![ours.clone()]);
    did("status", "alone");
    did("add", "alone");
    did("check", "alone");
    did("gc", "alone");
    assert!(
        !container.run("ip link show eth0").status.success(),
        "cnitool's GC lists nothing: all of it goes"
    );
    did("del", "alone");

    if !Path::new(PLUGINS).join("portmap").exists() {
        return skip::skip("dataplane", "chained plugins", "containernetworking-plugins is not installed");
    }
    let last = recorder(folder);
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let tuning = json!({"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.accept_local": "1"}});
    let recorder = json!({"type": last.file_name().unwrap().to_str().unwrap()});
    list("1.0.0", "tuned", vec![ours.clone(), tuning.clone(), recorder.clone()]);
    did("add", "tuned");
    did("check", "tuned");
    did("del", "tuned");
    let rates = json!({"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 16_000_000, "egressBurst": 800_000});
    list("1.0.0", "shaped", vec![ours.clone(), rates, recorder.clone()]);
    did("add", "shaped");
    let shapers = || runtime.text("tc", &["-s", "qdisc", "show"]);
    assert!(container.run("ping -c 3 -i 0.2 -W 2 10.244.1.1").status.success());
    let (shaped, host_end) = (shapers(), runtime.traces().veths.first().unwrap().clone());
    let towards_the_pod = shaped.split("qdisc ").find(|it| it.starts_with("tbf") && it.contains(&host_end));
    let towards_the_pod = towards_the_pod.unwrap_or_else(|| panic!("nothing shapes {host_end}: {shaped}"));
    assert!(towards_the_pod.contains("rate 8Mbit") && !towards_the_pod.contains("Sent 0 bytes"), "{shaped}");
    assert!(shaped.contains("rate 16Mbit"), "{shaped}");
    did("check", "shaped");
    did("del", "shaped");
    assert!(!shapers().contains("tbf"), "{}", shapers());
    let chain = vec![ours, portmap, tuning, recorder];
    list("1.0.0", "chain", chain);
    did("add", "chain");
    let seen: Value = serde_json::from_slice(&std::fs::read(folder.join("ADD.config")).unwrap()).unwrap();
    let environment = std::fs::read_to_string(folder.join("ADD.env")).unwrap();
    let previous = &seen["prevResult"];
    let inside = &previous["interfaces"][1];
    assert_eq!((&inside["name"], &inside["sandbox"]), (&"eth0".into(), &json!(container.path())));
    let ip = address(previous);
    assert!(
        environment.contains("CNI_ARGS=IgnoreUnknown=1;K8S_POD_UID=1")
            && environment.contains("CNI_IFNAME=eth0")
    );
    assert_eq!(
        previous["ips"].as_array().unwrap().len(),
        1,
        "prevResult is handed on as it was: {previous:#}"
    );
    assert_eq!(previous["cniVersion"], "1.0.0");
    assert_eq!(container.text("sysctl -n net.ipv4.conf.eth0.accept_local").trim(), "1");
    let rules = runtime.text("iptables", &["-t", "nat", "-S"]);
    assert!(rules.contains("8080") && rules.contains(&format!("{ip}:80")), "{rules}");
    let served = container.command("busybox").args(["nc", "-l", "-p", "80", "-e", "echo", "hello"]).spawn();
    let mut served = served.unwrap();
    let node_address = runtime.lab.layout().node_addresses(NODE, Family::Ipv4)[0].to_string();
    let underlay = netns::path(&runtime.lab.layout().underlay_namespace());
    let mut answer = String::new();
    runtime.until("the host's port leads to the container", || {
        let mut client = Command::new("busybox");
        client.args(["nc", "-w", "2", &node_address, "8080"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let output = netns::spawn(Some(&underlay), &mut client).unwrap().wait_with_output().unwrap();
        answer = String::from_utf8_lossy(&output.stdout).into_owned();
        answer.contains("hello")
    });
    let _ = served.kill();
    let _ = served.wait();
    // No CHECK here: portmap 1.1.1 looks for rules of IPv6 too, for a container that has none.
    did("del", "chain");
    did("del", "chain");
    assert!(!runtime.text("iptables", &["-t", "nat", "-S"]).contains(&ip));
}

/// What a command of cnitool says of a container, on networks of the folder. Its port 80 is the host's 8080 where portmap is asked.
fn run_cnitool(
    runtime: &Runtime<'_>,
    cnitool: &Path,
    folder: &Path,
    container: &Namespace,
    args: &str,
    [command, network]: [&str; 2],
) -> (bool, String) {
    let path = format!("{}:{PLUGINS}:{}", runtime.lab.record().binaries.display(), folder.display());
    let mut process = Command::new(cnitool);
    process
        .args([command, network])
        .arg(container.path())
        .env("NETCONFPATH", folder.join("net.d"))
        .env("CNI_PATH", &path)
        .env("CNI_ARGS", args)
        .env("CAP_ARGS", r#"{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}"#)
        .env("CNI_CACHE_DIR", folder.join("cache"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let node = netns::path(&runtime.lab.layout().node_namespace(runtime.node));
    let output = netns::spawn(Some(&node), &mut process).unwrap().wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// Pods of either node reach a pod at its hostPort, and a policy keeps them out there as anywhere: they are neither the node, which
/// gets in always, nor a pod that a selector means.
fn pods_ask_at_a_host_port(up: &LabUp, runtime: &Runtime<'_>, cnitool: &Path) {
    if !Path::new(PLUGINS).join("portmap").exists() {
        // That was said of the chains.
        return;
    }
    let folder = up.folder();
    let mut ours = runtime.configuration();
    ours.as_object_mut().unwrap().remove("cniVersion");
    ours.as_object_mut().unwrap().remove("name");
    let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
    let list = json!({"cniVersion": "1.0.0", "name": "ported", "plugins": [ours, portmap]});
    std::fs::write(folder.join("net.d/ported.conflist"), list.to_string()).unwrap();
    let (pod, policy) = (up.manifests.join("server.yaml"), up.manifests.join("policy.yaml"));
    std::fs::write(&pod, POD.replace("NAME", "server")).unwrap();
    let server = runtime.container("server");
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=t;K8S_POD_NAME=server;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=uid-of-server";
    let did = |command: &str| {
        let (success, said) = run_cnitool(runtime, cnitool, folder, &server, args, [command, "ported"]);
        assert!(success, "cnitool {command} ported: {said}");
    };
    did("add");
    let there = Runtime::new(&up.lab, NodeIndex(2));
    let (near, far) = (runtime.container("near"), there.container("far"));
    ok("ADD", runtime.call("ADD", "near", &near.path(), &[]));
    ok("ADD", there.call("ADD", "far", &far.path(), &[]));
    let serve = ["nc", "-ll", "-p", "80", "-e", "echo", "hello"];
    let mut served = server.command("busybox").args(serve).stdin(Stdio::null()).spawn().unwrap();
    let node_address = runtime.lab.layout().node_addresses(NODE, Family::Ipv4)[0].to_string();
    let node = netns::path(&runtime.lab.layout().node_namespace(NODE));
    let hears = |place: &Path| {
        let mut client = Command::new("busybox");
        client.args(["nc", "-w", "2", &node_address, "8080"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let output = netns::spawn(Some(place), &mut client).unwrap().wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).contains("hello")
    };
    runtime.until("a pod beside it reaches the hostPort", || hears(&near.path()));
    runtime.until("a pod of the other node does", || hears(&far.path()));
    let only = |rule: &str| {
        let text = format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: only, namespace: t}}\n\
             spec: {{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{rule}]}}]}}\n"
        );
        std::fs::write(&policy, text).unwrap();
    };
    only("{namespaceSelector: {}}");
    runtime.until("a selector keeps out who asks there", || !hears(&near.path()) && !hears(&far.path()));
    assert!(hears(&node), "the node itself was kept from its pod");
    assert!(!hears(&near.path()) && !hears(&far.path()), "who asks at the hostPort passes for the node");
    only("{ipBlock: {cidr: 10.244.1.0/24}}");
    runtime.until("a block of the node's pods lets them in", || hears(&near.path()) && hears(&far.path()));
    let _ = served.kill();
    let _ = served.wait();
    did("del");
    ok("DEL", runtime.call("DEL", "near", &near.path(), &[]));
    ok("DEL", there.call("DEL", "far", &far.path(), &[]));
    std::fs::remove_file(policy).unwrap();
    std::fs::remove_file(pod).unwrap();
}

/// A plugin in istio-cni's place, last in the chain: keeps what it gets, and hands the result on.
fn recorder(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("recorder");
    let script = format!(
        "#!/bin/sh\ncd {}\nif [ $CNI_COMMAND = VERSION ]; then echo '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"]}}'; exit; fi\n\
         env > $CNI_COMMAND.env\ncat > $CNI_COMMAND.config\n[ $CNI_COMMAND = ADD ] && \
         sed 's/.*\"prevResult\":\\(.*\\),\"type\":\"recorder\".*/\\1/' ADD.config\nexit 0\n",
        folder.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// containerd 1.6 knows CNI up to 1.0.0.
fn containerd_drives_it(runtime: &Runtime<'_>, program: &Path, folder: &Path) {
    let binaries = &runtime.lab.record().binaries;
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let confs = folder.join(format!("go-cni-{version}"));
        std::fs::create_dir_all(&confs).unwrap();
        let mut ours = runtime.configuration();
        ours.as_object_mut().unwrap().remove("cniVersion");
        ours.as_object_mut().unwrap().remove("name");
        let list = json!({"cniVersion": version, "name": "ferrule", "plugins": [ours]});
        std::fs::write(confs.join("10-ferrule.conflist"), list.to_string()).unwrap();
        let container = runtime.container("go-cni");
        let call = |command: &str| {
            let mut process = Command::new(program);
            process
                .arg(&confs)
                .arg(format!("{}:{PLUGINS}", binaries.display()))
                .args([command, "go-cni"])
                .arg(container.path())
                // Without a name there is no pod to wait for.
                .args(["", "", ""])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let node = netns::path(&runtime.lab.layout().node_namespace(runtime.node));
            let output = netns::spawn(Some(&node), &mut process).unwrap().wait_with_output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{version}: {command}: {error}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let result: Value = serde_json::from_str(&call("setup")).unwrap();
        let ip = result["eth0"]["IPConfigs"][0]["IP"].as_str().unwrap().to_owned();
        assert!(container.text("ip -4 addr show eth0").contains(&format!("inet {ip}/32")), "{result:#}");
        assert!(container.run("ping -c 1 -W 2 10.244.1.1").status.success());
        // No CHECK: its own loopback's configuration is of CNI 0.3.1, and containerd never asks.
        call("remove");
        call("remove");
    }
}
