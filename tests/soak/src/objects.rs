//! What runs in the cluster: servers and clients that stay, and pods that come and go in batches.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::place::Place;

/// Everything of the soak is in it.
pub const NAMESPACE: &str = "soak";
/// So many Deployments share the pods that come and go.
pub const BATCHES: u32 = 5;

const LIMIT: Duration = Duration::from_secs(240);

/// Servers on every node let `friend`s in and nobody else; so do the pods of the waves, behind one Service.
const SERVERS: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: soak}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends, namespace: soak}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [server, wave]}]}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: wave, namespace: soak}
spec: {selector: {app: wave}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: server, namespace: soak}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      tolerations: [{operator: Exists}]
      containers:
        - name: server
          image: registry.k8s.io/e2e-test-images/busybox:1.37.0-1
          command: [sh, -c, 'mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www']
";

/// Each asks every target once a second and says when, and whether it got an answer; and itself, which needs no network. Called by its path, wget
/// is not the one in busybox, which crashes.
const CLIENTS: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: KIND, namespace: soak}
spec:
  selector: {matchLabels: {app: KIND}}
  template:
    metadata: {labels: {app: KIND}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      tolerations: [{operator: Exists}]
      containers:
        - name: client
          image: registry.k8s.io/e2e-test-images/busybox:1.37.0-1
          command:
            - sh
            - -c
            - |
              ask() {
                while :; do
                  read begin _ < /proc/uptime
                  word=lost
                  /bin/wget -q -T LIMIT -t 1 -O /dev/null http://$1:8080/ 2> /dev/null && word=passed
                  read end _ < /proc/uptime
                  echo $begin $end $word $1
                  sleep 1
                done
              }
              mkdir -p /www && hostname > /www/index.html && httpd -p 8080 -h /www
              for target in ITSELF TARGETS; do ask $target & done
              wait
"#;

const WAVE: &str = r"
apiVersion: apps/v1
kind: Deployment
metadata: {name: wave-NUMBER, namespace: soak}
spec:
  replicas: 0
  selector: {matchLabels: {app: wave, batch: 'NUMBER'}}
  template:
    metadata: {labels: {app: wave, batch: 'NUMBER'}}
    spec:
      terminationGracePeriodSeconds: 1
      automountServiceAccountToken: false
      enableServiceLinks: false
      tolerations: [{operator: Exists}]
      topologySpreadConstraints:
        - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: wave}}}
      containers:
        - name: wave
          image: registry.k8s.io/e2e-test-images/busybox:1.37.0-1
          command: [sh, -c, 'mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 8080 -h /www']
";

/// Which clients there are: whose asks shall be answered, and whose shall not.
pub const FRIEND: &str = "friend";
pub const STRANGER: &str = "stranger";

/// A client as its own target.
pub const ITSELF: &str = "127.0.0.1";

/// Makes all that stays, in place of what an earlier soak left.
pub fn prepare(place: &Place) -> Result<()> {
    place.kubectl(&[
        "delete",
        "namespace",
        NAMESPACE,
        "--ignore-not-found",
        "--timeout=240s",
        "--request-timeout=0",
    ])?;
    place.apply("servers", SERVERS)?;
    for batch in 0..BATCHES {
        place.apply("wave", &WAVE.replace("NUMBER", &batch.to_string()))?;
    }
    rolled_out(place, "server")?;
    let servers = servers(place)?;
    let servers: Vec<_> = servers.iter().map(|(address, _)| address.clone()).collect();
    let service = inside(place, &["get", "service", "wave", "--output=jsonpath={.spec.clusterIP}"])?;
    for (kind, limit, targets) in
        [(FRIEND, "5", servers.join(" ")), (STRANGER, "2", format!("{} {service}", servers.join(" ")))]
    {
        let text = CLIENTS
            .replace("KIND", kind)
            .replace("LIMIT", limit)
            .replace("ITSELF", ITSELF)
            .replace("TARGETS", &targets);
        place.apply(kind, &text)?;
        rolled_out(place, kind)?;
    }
    Ok(())
}

/// kubectl in the soak's namespace.
fn inside(place: &Place, words: &[&str]) -> Result<String> {
    place.kubectl(&[&["--namespace", NAMESPACE], words].concat())
}

/// Addresses of the servers and their nodes.
pub fn servers(place: &Place) -> Result<Vec<(String, String)>> {
    pods(place, "app=server", "status.podIP")
}

/// One field of pods, and their nodes.
pub fn pods(place: &Place, selector: &str, field: &str) -> Result<Vec<(String, String)>> {
    let output =
        format!("--output=jsonpath={{range .items[*]}}{{.{field}}} {{.spec.nodeName}}{{\"\\n\"}}{{end}}");
    let said = inside(place, &["get", "pods", "--selector", selector, &output])?;
    let pairs = said.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(value, node)| (value.to_owned(), node.to_owned())).collect())
}

fn rolled_out(place: &Place, name: &str) -> Result<()> {
    let set = format!("daemonset/{name}");
    let limit = format!("--timeout={}s", LIMIT.as_secs());
    inside(place, &["rollout", "status", &set, &limit, "--request-timeout=0"]).map(drop)
}

/// How many pods a batch shall have.
pub fn scale(place: &Place, batch: u32, replicas: u32) -> Result<()> {
    let (name, replicas) = (format!("wave-{batch}"), format!("--replicas={replicas}"));
    inside(place, &["scale", "deployment", &name, &replicas]).map(drop)
}

/// Until exactly so many pods of the waves are there, and all are ready.
pub fn wait(place: &Place, wanted: u32, limit: Duration) -> Result<()> {
    const READY: &str =
        r#"{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
    let output = format!("--output=jsonpath={READY}");
    let wanted = usize::try_from(wanted).context("so many pods")?;
    let mut last = String::new();
    let waited = place.until("pods are there, or gone", limit, || {
        let Ok(said) = inside(place, &["get", "pods", "--selector", "app=wave", &output]) else {
            return false;
        };
        let (all, ready) =
            (said.lines().count(), said.lines().filter(|line| line.ends_with(" True")).count());
        last = format!("{ready} of {all} pods are ready, {wanted} shall be");
        all == wanted && ready == wanted
    });
    waited.context(last)
}
