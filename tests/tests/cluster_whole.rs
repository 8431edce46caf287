//! Ferrule on whole nodes: installed by the real helm, driven by real kubelets and containerd. Pods reach each other across nodes,
//! Services work by name and are handed to the real kube-proxy and back, policies bite, an agent is replaced under traffic, the chart is
//! upgraded and removed.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use lab::NodeIndex;
use lab::http::Endpoint;
use tests::whole::{CHART, NAMESPACE, Whole};

const PODS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {kubernetes.io/ingress-bandwidth: 8M}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{operator: Exists}]
      containers:
        - name: web
          image: registry.k8s.io/e2e-test-images/busybox:1.37.0-1
          command: [sh, -c, "mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www"]
          ports: [{containerPort: 8080, name: http, hostPort: 18080}]
          # From the node itself, which policies never keep out.
          readinessProbe: {httpGet: {port: http, path: /}, periodSeconds: 2}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
"#;

/// Neighbours behind us: the distribution's own plugins, driven by kubelet and containerd.
const CHAINED: &str = r#"cni.chained=[{"type": "portmap", "capabilities": {"portMappings": true}},
    {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}, {"type": "bandwidth", "capabilities": {"bandwidth": true}}]"#;

const DENY: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: shop}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
"#;

/// What a pod of `shop` gets from a URL.
fn get(whole: &Whole, pod: &str, url: &str) -> Result<String, String> {
    let words =
        ["--namespace", "shop", "exec", pod, "--", "wget", "-q", "-T", "2", "-t", "1", "-O", "-", url];
    whole.try_run("kubectl", &words).map(|text| text.trim().to_owned())
}

fn until(what: &str, holds: impl FnMut() -> bool) {
    let began = Instant::now();
    tests::steady::until(what, Duration::from_secs(60), holds);
    eprintln!("{:>8.2?}  {what}", began.elapsed());
}

/// Which containers run, and how often they were started: the same as long as nobody touched them.
fn containers(whole: &Whole, component: &str) -> String {
    let selector = format!("app.kubernetes.io/component={component}");
    let field = "{range .items[*]}{.metadata.uid} {.status.containerStatuses[*].restartCount}{\"\\n\"}{end}";
    whole.kubectl(&[
        "--namespace",
        NAMESPACE,
        "get",
        "pods",
        "--selector",
        &selector,
        &format!("--output=jsonpath={field}"),
    ])
}

#[test]
fn the_chart_makes_a_network_for_whole_nodes() {
    let Some(whole) = Whole::new("the_chart_makes_a_network_for_whole_nodes", 2) else { return };
    whole.helm(&["lint", CHART]);
    let plain = include_str!("../../deploy/manifests/ferrule.yaml");
    let words = [
        "template",
        "ferrule",
        CHART,
        "--namespace",
        NAMESPACE,
        "--include-crds",
        "--no-hooks",
        "--kube-version",
        "1.30.0",
    ];
    let made = whole.run("helm", &[&words[..], &["--set", "apiServer=https://API-SERVER:6443"]].concat());
    assert_eq!(
        made,
        plain,
        "stale: `helm {} --set apiServer=https://API-SERVER:6443 > deploy/manifests/ferrule.yaml`",
        words.join(" ")
    );
    const PLAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/manifests/ferrule.yaml");
    whole.kubectl(&["apply", "--dry-run=server", "--filename", PLAIN]);
    // What is wrong is said before anything is there.
    for (values, named) in [
        ("apiServer=10.96.0.1", "apiServer"),
        ("apiServer=https://192.0.2.1:6443,agent.datapth=netdev", "datapth"),
        ("apiServer=https://192.0.2.1:6443,controller.replicas=many", "replicas"),
        ("apiServer=https://192.0.2.1:6443,agent.logLevel=debgu", "logLevel"),
        ("apiServer=https://192.0.2.1:6443,services.nodePortAddresses={192.0.2.0/33}", "nodePortAddresses"),
        ("apiServer=https://192.0.2.1:6443,controller.port=7471", "controller.apiPort and controller.port"),
        ("apiServer=https://192.0.2.1:6443,metrics.podMonitors=true", "metrics.enabled"),
    ] {
        let bad = ["install", "ferrule", CHART, "--namespace", NAMESPACE, "--set", values];
        let error = whole.try_run("helm", &bad).unwrap_err();
        assert!(error.contains(named), "{error}");
    }

    let watched = [
        "--kube-version",
        "1.30.0",
        "--set",
        "metrics.enabled=true,metrics.dashboard=true,metrics.alerts=true,metrics.podMonitors=true",
    ];
    let objects = whole.helm(&[&["template", "ferrule", CHART][..], &watched].concat());
    assert!(objects.contains("kind: PrometheusRule") && objects.contains("ferrule.json: |"), "{objects}");

    let began = Instant::now();
    let install = ["install", "ferrule", CHART, "--namespace", NAMESPACE, "--wait", "--timeout", "120s"];
    whole.helm(&[&install[..], &["--set", "metrics.enabled=true", "--set-json", CHAINED]].concat());
    whole.kubectl(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]);
    eprintln!("{:>8.2?}  installed, nodes ready", began.elapsed());
    whole.apply("pods.yaml", PODS);
    whole.kubectl(&["--namespace", "shop", "rollout", "status", "daemonset/web", "--timeout=60s"]);
    let pod = |node: &str, field: &str| whole.pod("shop", "app=web", node, field);
    let (here, there) = (pod("node-1", "metadata.name"), pod("node-2", "metadata.name"));
    let far = pod("node-2", "status.podIP");
    let url = format!("http://{far}:8080/");
    assert_eq!(get(&whole, &here, &url), Ok(there.clone()));

    // portmap, tuning and bandwidth did their part.
    let address = whole.cluster.node(NodeIndex(2)).address;
    let port = Endpoint::Tcp(format!("{address}:18080"));
    let said = || whole.inside(|| port.get("/")).map(|text| String::from_utf8_lossy(&text).trim().to_owned());
    until("the host's port leads to its pod", || said().is_ok_and(|text| text == there));
    let listed = whole.on_node(2, "tc", &["qdisc", "show"]);
    assert!(listed.contains("rate 8Mbit"), "{listed}");
    let limit = ["--namespace", "shop", "exec", &there, "--", "cat", "/proc/sys/net/core/somaxconn"];
    assert_eq!(whole.kubectl(&limit).trim(), "500");

    // By name: CoreDNS, a ClusterIP, an endpoint on either node.
    whole.kubectl(&["--namespace", NAMESPACE, "rollout", "status", "deployment/coredns", "--timeout=60s"]);
    until("the Service answers by its name", || get(&whole, &here, "http://web/").is_ok());
    let answers: BTreeSet<_> =
        (0..30).filter_map(|_| get(&whole, &here, "http://web.shop.svc.cluster.local/").ok()).collect();
    assert_eq!(answers, [here.clone(), there.clone()].into(), "both endpoints answer");

    // What Prometheus would gather, on the nodes' addresses.
    for node in [NodeIndex(1), NodeIndex(2)] {
        let address = whole.cluster.node(node).address;
        for (port, metric) in
            [(7472, "ferrule_controller_agents_connected 2"), (7473, "ferrule_agent_in_sync 1")]
        {
            let asked = Endpoint::Tcp(format!("{address}:{port}"));
            let said = || {
                whole.inside(|| asked.get("/metrics")).map(|text| String::from_utf8_lossy(&text).into_owned())
            };
            until(metric, || said().is_ok_and(|text| text.contains(metric)));
            let error = whole.inside(|| asked.get("/v1alpha1/nodes")).unwrap_err().to_string();
            assert!(error.contains("404"), "{error}");
        }
    }

    // As a plugin of kubectl, with nothing but the kubeconfig.
    let nodes = whole.plugin(&["get", "nodes", "--output", "json"]);
    let nodes: serde_json::Value = serde_json::from_str(&nodes.unwrap()).unwrap();
    let names: Vec<_> =
        nodes["items"].as_array().unwrap().iter().map(|node| node["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["node-1", "node-2"]);
    let error = whole.plugin(&["get", "nodes", "--context", "nowhere"]).unwrap_err();
    assert!(error.contains("nowhere"), "{error}");
    let (from, to) = (format!("shop/{here}"), format!("shop/{there}"));
    let traced = whole.plugin(&["trace", &from, &to, "--port", "tcp/8080", "--no-probe"]);
    assert!(traced.as_ref().is_ok_and(|text| text.contains("node-2")), "{traced:?}");
    let checked = whole.plugin(&["check"]);
    assert!(checked.as_ref().is_ok_and(|text| text.contains("none are sent")), "{checked:?}");
    let error = whole.plugin(&["audit", "--repair"]).unwrap_err();
    assert!(error.contains("exec deployment/ferrule-controller"), "{error}");

    whole.apply("deny.yaml", DENY);
    until("the policy closes the pods", || get(&whole, &here, &url).is_err());
    whole.kubectl(&["--namespace", "shop", "delete", "networkpolicy", "closed"]);
    until("and opens them again", || get(&whole, &here, &url) == Ok(there.clone()));

    handed_over(&whole, &here, &answers);

    // A new agent, a new version of the chart: not a packet, and the switch is not touched.
    let switches = containers(&whole, "ovs");
    assert_eq!(switches.lines().count(), 2);
    let ping = whole.ping("shop", &here, &far, 3000);
    let agent = whole.pod(NAMESPACE, "app.kubernetes.io/component=agent", "node-2", "metadata.name");
    whole.kubectl(&["--namespace", NAMESPACE, "delete", "pod", &agent]);
    upgrade(&whole, "agent.logLevel=debug");
    whole.kubectl(&["--namespace", "shop", "exec", &here, "--", "killall", "-INT", "ping"]);
    let result = ping.result();
    assert!(lost(&result) <= 1, "agents were replaced, all but what was on its way in the end: {result}");
    assert_eq!(containers(&whole, "ovs"), switches, "an upgrade of the agent restarted a switch");

    // The next switch waits for the agent, takes over what the last one held, and the node's address.
    let waits = || {
        let log = whole.on_node(2, "ovsdb-tool", &["show-log", "/etc/openvswitch/conf.db"]);
        log.matches("other_config:flow-restore-wait=true").count()
    };
    let before = waits();
    let switch = whole.pod(NAMESPACE, "app.kubernetes.io/component=ovs", "node-2", "metadata.name");
    whole.kubectl(&["--namespace", NAMESPACE, "delete", "pod", &switch]);
    until("pods speak over the new switch", || get(&whole, &here, &url) == Ok(there.clone()));
    assert!(waits() > before, "start-ovs did not let the new switch wait for its flows");
    let mode = whole.on_node(2, "ovs-vsctl", &["get-fail-mode", "br-int"]);
    assert_eq!(mode.trim(), "secure");

    whole.run("helm", &["uninstall", "ferrule", "--namespace", NAMESPACE, "--wait", "--timeout", "180s"]);
    until("nothing of Ferrule runs", || {
        ["agent", "ovs", "controller", "cleanup"]
            .iter()
            .all(|component| containers(&whole, component).is_empty())
    });
    for node in [1, 2] {
        assert_eq!(left(&whole, node), "", "the uninstalled chart left things on node-{node}");
    }
    let kinds =
        "serviceaccount,role,rolebinding,daemonset,job,configmap,service,deployment,poddisruptionbudget";
    let ours = [
        "--namespace",
        NAMESPACE,
        "get",
        kinds,
        "--selector",
        "app.kubernetes.io/name=ferrule",
        "--output=name",
    ];
    assert_eq!(whole.kubectl(&ours), "", "and objects");
}

/// The real kube-proxy takes Services over and gives them back; one of both is always there, so nobody is without.
fn handed_over(whole: &Whole, here: &str, both: &BTreeSet<String>) {
    let address = whole.kubectl(&[
        "--namespace",
        "shop",
        "get",
        "service",
        "web",
        "--output=jsonpath={.spec.clusterIP}",
    ]);
    let service = Endpoint::Tcp(format!("{address}:80"));
    let from_node = |node| {
        let place = lab::netns::path(&whole.cluster.node(NodeIndex(node)).namespace);
        let said = lab::netns::run(&place, || service.get("/")).unwrap();
        String::from_utf8_lossy(&said.unwrap()).trim().to_owned()
    };
    let serves = || {
        let answers: BTreeSet<_> = (0..30).filter_map(|_| get(whole, here, "http://web/").ok()).collect();
        assert_eq!(&answers, both, "from a pod, by name");
        for node in [1, 2] {
            assert_eq!(&(0..30).map(|_| from_node(node)).collect::<BTreeSet<_>>(), both, "from node-{node}");
        }
    };
    // Who translates on a node: Ferrule's flows, kube-proxy's rules.
    let who = |node| {
        let flows = whole.on_node(node, "ovs-ofctl", &["-OOpenFlow13", "dump-flows", "br-int"]);
        let tables = whole.on_node(node, "nft", &["list", "tables"]);
        (flows.contains(&format!("nw_dst={address}")), tables.contains("kube-proxy"))
    };
    let is = |ferrule, kube_proxy| move |node: &u8| who(*node) == (ferrule, kube_proxy);
    let proxies = whole.kube_proxies();
    until("kube-proxy is on both nodes", || [1, 2].iter().all(is(true, true)));
    upgrade(whole, "services.mode=leave");
    until("Ferrule has left Services to it", || [1, 2].iter().all(is(false, true)));
    serves();
    upgrade(whole, "services.mode=balance");
    until("Ferrule has taken them back", || [1, 2].iter().all(is(true, true)));
    proxies.end();
    until("kube-proxy is gone", || [1, 2].iter().all(is(true, false)));
    serves();
}

/// Of `N packets transmitted, N packets received, …`, how many did not come back.
fn lost(result: &str) -> u32 {
    let numbers: Vec<u32> = result.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    numbers[0] - numbers[1]
}

/// Another value in the chart, on every node.
fn upgrade(whole: &Whole, value: &str) {
    whole.helm(&["upgrade", "ferrule", CHART, "--namespace", NAMESPACE, "--reuse-values", "--set", value]);
    let status = ["--namespace", NAMESPACE, "rollout", "status", "daemonset/ferrule-agent", "--timeout=90s"];
    whole.kubectl(&status);
}

/// What of Ferrule is on a node: files, tables, devices, programs.
fn left(whole: &Whole, node: u8) -> String {
    const LOOK: &str = "ls -d /etc/cni/net.d/*ferrule* /opt/cni/bin/ferrule-cni /var/lib/ferrule/* /run/ferrule/* \
        /etc/openvswitch/* /etc/openvswitch/.conf* /run/openvswitch/* 2>/dev/null; \
        nft list tables | grep ferrule; ip -o link show | grep -e br-int -e br-phy -e ovs-system -e genev_sys; pidof ferrule-agent ovs-vswitchd ovsdb-server; true";
    whole.on_node(node, "sh", &["-c", LOOK])
}
