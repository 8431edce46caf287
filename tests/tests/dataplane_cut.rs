//! A policy that comes later cuts the connections that it denies and no others: real traffic of every kind while policies
//! come and go, every message that passed wrongly counted from the moment on when the change was reported in force.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use lab::{Family, Place};
use tests::lab_up::{LabUp, write};
use tests::packet::Trials;
use tests::traffic::Conversation;

/// A client, a server on its node and one on the other, and somebody who stays allowed.
const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: t, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: keeper, namespace: t, labels: {app: keeper}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: t, labels: {app: server, at: near}}
spec: {nodeName: node-1, containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: t, labels: {app: server, at: far}}
spec: {nodeName: node-2, containers: [{name: c, image: i}]}
"#;

/// The servers, and the addresses of their Services.
const SERVERS: [(&str, [&str; 2]); 2] =
    [("near", ["10.96.0.91", "fd00:10:96::91"]), ("far", ["10.96.0.92", "fd00:10:96::92"])];

fn services() -> String {
    let of = |(name, [ipv4, ipv6]): (&str, [&str; 2])| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: t}}\nspec:\n  \
             ipFamilyPolicy: RequireDualStack\n  clusterIPs: [{ipv4}, '{ipv6}']\n  selector: {{at: {name}}}\n  \
             ports: [{{name: a, protocol: UDP, port: 7001}}, {{name: b, protocol: UDP, port: 7002}}, \
             {{name: c, protocol: TCP, port: 7003}}]\n"
        )
    };
    SERVERS.map(of).join("---\n")
}

/// Policed where the server is: the keeper may, the client may not.
const INGRESS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: late, namespace: t}
spec:
  podSelector: {matchLabels: {app: server}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: keeper}}}]}]
"#;

/// Policed where the client is; the keeper has a policy too, which allows it all that it says.
const EGRESS: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: late, namespace: t}
spec: {podSelector: {matchLabels: {app: client}}, policyTypes: [Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: keep, namespace: t}
spec:
  podSelector: {matchLabels: {app: keeper}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: server}}}]}]
"#;

/// How long wrong packets are waited for.
const WATCH: Duration = Duration::from_millis(700);

/// When an edit must be in force.
const LIMIT: Duration = Duration::from_secs(30);

/// Who talks after both were heard, until the change is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Both,
    ServerOnly,
    ClientOnly,
    Silent,
}

impl Kind {
    fn talk(self, conversation: &Conversation) {
        conversation.client.talk(matches!(self, Self::Both | Self::ClientOnly));
        conversation.server.talk(matches!(self, Self::Both | Self::ServerOnly));
    }
}

struct Stage {
    losers: Vec<(Kind, Conversation)>,
    keepers: Vec<Conversation>,
    up: LabUp,
}

impl Stage {
    fn new(test: &str) -> Option<Self> {
        let up =
            LabUp::new(test, Family::Dual, Some(&[("pods.yaml", PODS), ("services.yaml", &services())]))?;
        let pod = |name: &str| up.lab.pod(&format!("t/{name}")).unwrap();
        let (client, keeper) = (pod("client"), pod("keeper"));
        let (mut losers, mut keepers, mut port) = (Vec::new(), Vec::new(), 5000);
        type Make = fn(&Place, &Place, bool, u16) -> Conversation;
        for (name, addresses) in SERVERS {
            let server = &pod(name);
            // By a Service, whoever would go unnoticed: the entry of such a connection stands under the Service's address.
            for asked in addresses.map(|text| text.parse().unwrap()) {
                let one_way = Conversation::udp_by(&client, server, asked, 7001);
                let silent = Conversation::tcp_by(&client, server, asked, 7003);
                losers.extend([(Kind::ServerOnly, one_way), (Kind::Silent, silent)]);
                keepers.push(Conversation::udp_by(&keeper, server, asked, 7002));
            }
            for ipv4 in [true, false] {
                for make in [Conversation::udp as Make, Conversation::tcp] {
                    for kind in [Kind::Both, Kind::ServerOnly, Kind::ClientOnly, Kind::Silent] {
                        port += 1;
                        losers.push((kind, make(&client, server, ipv4, port)));
                    }
                    port += 1;
                    keepers.push(make(&keeper, server, ipv4, port));
                }
            }
        }
        for conversation in losers.iter().map(|(_, c)| c).chain(&keepers) {
            conversation.begin();
        }
        Some(Self { up, losers, keepers })
    }

    /// A policy comes, and goes again.
    fn policed(&self, name: &str, policy: &str, trials: &mut Trials) {
        for (kind, conversation) in &self.losers {
            kind.talk(conversation);
        }
        std::thread::sleep(Duration::from_millis(100));
        write(&self.up.manifests, &[("late.yaml", policy)]);
        eprintln!("measured: {name}: a deny is in force {:?} after the edit", self.up.in_force(LIMIT));

        let marks: Vec<_> = self.losers.iter().map(|(_, c)| (c.client.sent(), c.server.sent())).collect();
        // One after the other breaks the silence: whoever has been quiet since speaks first, the server before the client.
        std::thread::sleep(WATCH);
        self.losers.iter().for_each(|(_, c)| c.server.talk(true));
        std::thread::sleep(WATCH);
        self.losers.iter().for_each(|(_, c)| c.client.talk(true));
        std::thread::sleep(WATCH);
        for ((kind, c), (client, server)) in self.losers.iter().zip(marks) {
            for (who, says, mark) in [("client", &c.client, client), ("server", &c.server, server)] {
                let (sent, passed) = (says.sent() - mark, says.heard_from(mark));
                trials.check(sent > 10, || format!("{name}: {}: the {who} said {sent} things only", c.name));
                trials.check(passed == 0, || {
                    format!("LEAK: {name}: {} ({kind:?}): {passed} of {sent} of the {who} passed", c.name)
                });
            }
        }

        std::fs::remove_file(self.up.manifests.join("late.yaml")).unwrap();
        let edited = Instant::now();
        for (_, c) in &self.losers {
            c.heard_within(&c.client, Duration::from_secs(60));
            c.heard_within(&c.server, Duration::from_secs(60));
        }
        eprintln!("measured: {name}: an allow has followed everywhere {:?} after the edit", edited.elapsed());
        self.up.in_force(LIMIT);
    }

    fn kept(&self, trials: &mut Trials) {
        for c in &self.keepers {
            c.client.talk(false);
            c.server.talk(false);
        }
        std::thread::sleep(Duration::from_millis(500));
        for c in &self.keepers {
            for (who, says) in [("client", &c.client), ("server", &c.server)] {
                let (sent, missing) = (says.sent(), says.missing_before(says.sent()));
                trials.check(sent > 100, || format!("{}: the {who} said {sent} things only", c.name));
                trials.check(missing == 0, || format!("LOST: {}: {missing} of {sent} of the {who}", c.name));
            }
        }
    }
}

#[test]
fn unpoliced_policed_unpoliced_cuts_what_is_denied_and_loses_nothing_else() {
    let Some(stage) = Stage::new("cut") else { return };
    let mut trials = Trials::default();
    for round in 1..=2 {
        stage.policed(&format!("ingress, round {round}"), INGRESS, &mut trials);
        stage.policed(&format!("egress, round {round}"), EGRESS, &mut trials);
    }
    stage.kept(&mut trials);
    trials.verdict();
}
