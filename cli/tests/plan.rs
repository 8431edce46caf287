//! `ferrule plan` on manifests: what it says, its JSON, its exit codes, and what it refuses.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::{Command, Output};

use serde_json::Value;

const BASE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {team: shop}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: c, image: i, ports: [{containerPort: 5432}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{port: 15432, targetPort: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: probe, namespace: tools, labels: {app: probe}}
spec: {containers: [{name: c, image: i}]}
";

const LOCK: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 5432}]
  - from: [{namespaceSelector: {matchLabels: {team: tools}}}]
    ports: [{port: 5432}]
";

struct Case {
    folder: tempfile::TempDir,
}

impl Case {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("now")).unwrap();
        let case = Self { folder };
        case.write("now/base.yaml", BASE);
        files.iter().for_each(|(name, text)| case.write(name, text));
        case
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn plan(&self, words: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_ferrule"))
            .args(["plan", "--manifests", "now"])
            .args(words)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    fn json(&self, words: &[&str]) -> (i32, Value) {
        let (code, out, error) = self.plan(&[words, &["-o", "json"]].concat());
        (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}")))
    }
}

#[test]
fn a_new_policy_cuts_what_it_does_not_allow_and_says_where_it_stands() {
    let case = Case::new(&[("lock.yaml", LOCK)]);
    let (code, out, error) = case.plan(&["-f", "lock.yaml"]);
    assert_eq!((code, error.as_str()), (2, ""), "{out}");
    assert!(out.contains("NEWLY DENIED  established connections of these are cut"), "{out}");
    assert!(out.contains("NetworkPolicy shop/db ingress default-deny (lock.yaml:"), "{out}");
    assert!(!out.contains("NEWLY ALLOWED"), "{out}");

    let (code, plan) = case.json(&["-f", "lock.yaml"]);
    assert_eq!(code, 2);
    assert_eq!((&plan["apiVersion"], &plan["kind"]), (&"ferrule.io/v1alpha1".into(), &"Plan".into()));
    assert_eq!(plan["newlyAllowed"], Value::Array(vec![]));
    let web: Vec<&Value> = plan["newlyDenied"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| lists(&it["from"], "shop/web-0"))
        .collect();
    assert_eq!(web.len(), 1, "{plan:#}");
    assert!(lists(&web[0]["from"], "shop/web-1") && lists(&web[0]["to"], "shop/db"), "{plan:#}");
    assert_eq!(web[0]["ports"]["text"], "TCP/0-5431, TCP/5433-65535, UDP, SCTP, ICMP and other protocols");
    assert_eq!(web[0]["after"][0]["rule"], "ingress default-deny");
    // The pod's own node keeps its way in: only the other one loses it.
    let nodes: Vec<&Value> =
        plan["newlyDenied"].as_array().unwrap().iter().filter(|it| it["relation"] != "any").collect();
    assert!(!nodes.is_empty() && nodes.iter().all(|it| it["relation"] == "otherNodes"), "{plan:#}");
}

fn lists(members: &Value, name: &str) -> bool {
    members["listed"].as_array().unwrap().iter().any(|it| it == name)
}

#[test]
fn a_namespace_label_opens_what_a_selector_waits_for() {
    let case = Case::new(&[("now/lock.yaml", LOCK)]);
    case.write(
        "label.yaml",
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: tools, labels: {team: tools}}\n",
    );
    let (code, plan) = case.json(&["-f", "label.yaml"]);
    assert_eq!(code, 2);
    let allowed = plan["newlyAllowed"].as_array().unwrap();
    assert_eq!(allowed.len(), 1, "{plan:#}");
    assert!(lists(&allowed[0]["from"], "tools/probe") && lists(&allowed[0]["to"], "shop/db"));
    assert_eq!(allowed[0]["ports"]["text"], "TCP/5432");
    assert_eq!(allowed[0]["after"][0]["rule"], "ingress[1]");
    assert_eq!(allowed[0]["after"][0]["source"], "now/lock.yaml:9:5");
    assert_eq!(plan["newlyDenied"], Value::Array(vec![]));
    assert_eq!(plan["skipped"], serde_json::json!({}));
    // Nothing to do twice.
    case.write("now/label.yaml", &std::fs::read_to_string(case.folder.path().join("label.yaml")).unwrap());
    assert_eq!(case.plan(&["-f", "label.yaml"]).0, 0);
}

#[test]
fn more_replicas_move_nobody() {
    let case = Case::new(&[("now/lock.yaml", LOCK)]);
    case.write("more.yaml", &BASE.replace("replicas: 2", "replicas: 5"));
    let (code, plan) = case.json(&["-f", "more.yaml"]);
    assert_eq!(code, 2);
    assert_eq!(plan["appeared"], serde_json::json!(["shop/web-2", "shop/web-3", "shop/web-4"]));
    assert_eq!([&plan["newlyAllowed"], &plan["newlyDenied"]], [&Value::Array(vec![]); 2]);
    // What passes to and from the new ones: to the database the port that the policy leaves open, and its replies need no word.
    let of = |side: &str, name: &str| -> Vec<Value> {
        let all = plan["newPods"].as_array().unwrap().iter();
        all.filter(|it| lists(&it[side], name)).cloned().collect()
    };
    let to_db = of("to", "shop/db");
    assert_eq!(to_db.len(), 1, "{plan:#}");
    assert_eq!((&to_db[0]["ports"]["text"], &to_db[0]["from"]["count"]), (&"TCP/5432".into(), &3.into()));
    assert_eq!(to_db[0]["after"][0]["rule"], "ingress[0]");
    let (_, out, _) = case.plan(&["-f", "more.yaml"]);
    assert!(out.contains("this passes to and from them, and nothing else:"), "{out}");
}

#[test]
fn what_has_no_part_in_the_network_is_counted() {
    let case = Case::new(&[(
        "cron.yaml",
        "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: nightly, namespace: shop}\n",
    )]);
    let (code, out, error) = case.plan(&["-f", "cron.yaml"]);
    assert_eq!((code, error.as_str()), (0, ""), "{out}");
    assert!(out.contains("Not looked at, as no part of the network: 1 CronJob.batch"), "{out}");
    assert_eq!(case.json(&["-f", "cron.yaml"]).1["skipped"], serde_json::json!({"CronJob.batch": 1}));
}

#[test]
fn what_is_deleted_opens_what_it_closed() {
    let case = Case::new(&[("now/lock.yaml", LOCK)]);
    let (code, plan) = case.json(&["-f", "now/lock.yaml", "--delete"]);
    assert_eq!(code, 2);
    assert!(
        plan["newlyDenied"].as_array().unwrap().is_empty()
            && !plan["newlyAllowed"].as_array().unwrap().is_empty()
    );
    let (code, _, error) = Case::new(&[("lock.yaml", LOCK)]).plan(&["-f", "lock.yaml", "--delete"]);
    assert_eq!(code, 1);
    assert!(error.contains("there is no NetworkPolicy shop/db to delete"), "{error}");
}

const EXPECT: &str = "apiVersion: ferrule.io/v1alpha1\nkind: Expectations\n";

#[test]
fn expectations_are_kept_or_broken() {
    let case = Case::new(&[("lock.yaml", LOCK)]);
    let ask = |tuples: &str| {
        case.write("expect.yaml", &format!("{EXPECT}{tuples}"));
        case.plan(&["-f", "lock.yaml", "--expect", "expect.yaml"])
    };
    let kept = "allowed: [{from: shop/web-*, to: shop/db, port: TCP/5432}, {from: shop/web-0, to: 'service:shop/db', port: TCP/15432}]
denied: [{from: 192.0.2.1, to: shop/db, port: TCP/5432}, {from: tools/probe, to: 'service:shop/db', port: TCP/15432}]";
    let (code, out, error) = ask(kept);
    assert_eq!((code, out.matches(": kept").count()), (2, 4), "{out}{error}");
    // The first two hold; the third does not, and did before.
    let (code, out, _) = ask("allowed: [{from: tools/*, to: shop/db, port: TCP/5432}]");
    assert_eq!(code, 3);
    assert!(
        out.contains("allowed: broken\n") && out.contains("denied: tools/probe → shop/db TCP/5432"),
        "{out}"
    );
    let (code, out, _) = ask("denied: [{from: shop/web-*, to: shop/db, port: TCP/5432}]");
    assert_eq!(code, 3);
    assert!(out.contains("denied: broken (and was before)"), "{out}");
}

#[test]
fn expectations_that_mean_nothing_are_refused() {
    let case = Case::new(&[("lock.yaml", LOCK)]);
    for (text, said) in [
        (
            format!("{EXPECT}allowed: [{{from: shop/wbe-0, to: shop/db, port: TCP/1}}]"),
            "did you mean shop/web-0?",
        ),
        (
            format!("{EXPECT}allowed: [{{from: shop/db, to: 'service:shop/none', port: TCP/1}}]"),
            "no Service shop/none",
        ),
        (
            format!("{EXPECT}allowed: [{{from: shop/db, to: 'service:shop/db', port: TCP/1}}]"),
            "no port TCP/1",
        ),
        (format!("{EXPECT}allow: []"), "line 3"),
        (EXPECT.to_owned(), "it expects nothing"),
        ("apiVersion: v2\nkind: Expectations\n".to_owned(), "apiVersion ferrule.io/v1alpha1"),
        (format!("{EXPECT}allowed: [{{from: shop/db, to: db, port: TCP/1}}]"), "`db` names no end"),
        (
            format!("{EXPECT}allowed: [{{from: shop/db, to: 10.0.0.1, port: tcp}}]"),
            "`tcp` is not a served port",
        ),
    ] {
        case.write("expect.yaml", &text);
        let (code, out, error) = case.plan(&["-f", "lock.yaml", "--expect", "expect.yaml"]);
        assert_eq!((code, out.as_str()), (1, ""), "{text}: {error}");
        assert!(error.contains(said), "{text}: {error}");
    }
}

#[test]
fn what_cannot_be_read_is_not_planned() {
    let case = Case::new(&[("bad.yaml", "kind: NetworkPolicy\n  metadata: {\n")]);
    let (code, out, error) = case.plan(&["-f", "bad.yaml"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.contains("bad.yaml:2"), "{error}");
    let (code, _, error) = case.plan(&["-f", "nowhere.yaml"]);
    assert_eq!(code, 1);
    assert!(error.contains("nowhere.yaml"), "{error}");
    // A peer that is not understood matches nothing; the plan says so and is not clean.
    case.write(
        "odd.yaml",
        &LOCK.replace("{podSelector: {matchLabels: {app: web}}}", "{ipBlock: {cidr: 10.0.0.0/99}}"),
    );
    let (code, out, error) = case.plan(&["-f", "odd.yaml"]);
    assert_eq!(code, 1);
    assert!(error.contains("odd.yaml:7") && out.contains("NEWLY DENIED"), "{error}{out}");
}

const EGRESS: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: quiet, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:
  - to: [{podSelector: {matchLabels: {app: db}}}]
    ports: [{port: 5432}]
";

const DNS: &str = "apiVersion: v1
kind: Pod
metadata: {name: coredns, namespace: kube-system, labels: {k8s-app: kube-dns}}
spec: {containers: [{name: c, image: i}]}
";

#[test]
fn pods_that_lose_what_they_need_are_told() {
    let case = Case::new(&[("quiet.yaml", EGRESS), ("now/dns.yaml", DNS)]);
    let (code, plan) = case.json(&["-f", "quiet.yaml"]);
    assert_eq!(code, 2);
    let kinds: Vec<&str> =
        plan["warnings"].as_array().unwrap().iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["losesDns", "losesApiServer"], "{plan:#}");
    let (_, out, _) = case.plan(&["-f", "quiet.yaml"]);
    let said = "shop/web-* (2) cannot ask the cluster's DNS any more (TCP/53, UDP/53)";
    assert!(out.contains(said), "{out}");
    assert!(out.contains("FLOWS BEFORE") && out.contains("node-1"), "{out}");
    // A rule of the Admin tier keeps even the own node's probes out; this one because it is not understood.
    case.write(
        "admin.yaml",
        "apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: shut}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {matchLabels: {team: shop}}}
  ingress: [{name: none, action: Deny, from: [{nodes: {}}, {namespaces: {}}]}]
",
    );
    let (_, out, error) = case.plan(&["-f", "admin.yaml"]);
    assert!(out.contains("cannot be probed by their own node any more"), "{out}{error}");
}

#[test]
fn rules_without_effect_and_open_doors_are_told_with_their_line() {
    let odd = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: odd, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 5432}]
  - from: [{podSelector: {matchLabels: {app: web, tier: x}}}]
    ports: [{port: 5432}]
  - ports: [{port: nothing}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: nobody, namespace: shop}
spec: {podSelector: {matchLabels: {app: typo}}}
";
    let case = Case::new(&[("odd.yaml", odd)]);
    let (_, plan) = case.json(&["-f", "odd.yaml"]);
    let told: Vec<(&str, &str)> = plan["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["kind"].as_str().unwrap(), it["source"].as_str().unwrap()))
        .collect();
    let expected = [
        ("selectsNobody", "odd.yaml:16:"),
        ("nobodyMeant", "odd.yaml:9:"),
        ("shadowed", "odd.yaml:9:"),
        ("undeclaredPort", "odd.yaml:11:"),
        ("wideOpen", "odd.yaml:11:"),
    ];
    assert_eq!(told.len(), expected.len(), "{plan:#}");
    for ((kind, source), (wanted, place)) in told.iter().zip(expected) {
        assert!(*kind == wanted && source.starts_with(place), "{kind} {source}: {plan:#}");
    }
}

#[test]
fn a_service_that_changes_alone_is_told() {
    let service = "apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {selector: {app: db}, ports: [{port: 15432, targetPort: 5432}]}
";
    let case = Case::new(&[("now/lock.yaml", LOCK), ("same.yaml", service)]);
    assert_eq!(case.plan(&["-f", "same.yaml"]).0, 0);
    // Its clients are led to pods that let everybody in.
    case.write("web.yaml", &service.replace("app: db", "app: web"));
    let (code, plan) = case.json(&["-f", "web.yaml"]);
    assert_eq!(code, 2, "{plan:#}");
    assert_eq!([&plan["newlyAllowed"], &plan["newlyDenied"]], [&Value::Array(vec![]); 2]);
    let changed = &plan["services"][0];
    assert_eq!(plan["services"].as_array().unwrap().len(), 1, "{plan:#}");
    assert_eq!(changed["service"], "shop/db");
    assert_eq!(changed["frontends"], serde_json::json!({"gained": [], "lost": []}));
    let port = &changed["ports"][0];
    assert_eq!((&port["port"], &port["endpoints"][0]["everyNode"]), (&"TCP/15432".into(), &true.into()));
    let named = |side: &str| {
        let names = port["endpoints"][0][side].as_array().unwrap();
        names
            .iter()
            .map(|name| name.as_str().unwrap().split(' ').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (named("gained"), named("lost")),
        (vec!["shop/web-0".into(), "shop/web-1".into()], vec!["shop/db".to_owned()])
    );
    let probe: Vec<&Value> =
        port["clients"].as_array().unwrap().iter().filter(|it| lists(it, "tools/probe")).collect();
    assert_eq!(probe.len(), 1, "{port:#}");
    assert_eq!((&probe[0]["before"], &probe[0]["after"]), (&"blocked".into(), &"passes".into()));
    let (_, out, _) = case.plan(&["-f", "web.yaml"]);
    assert!(out.contains("SERVICES\n  shop/db\n") && !out.contains("Nothing changes"), "{out}");
    assert!(out.contains("TCP/15432 on every node, for clients in the cluster: loses shop/db ("), "{out}");

    let (code, out, _) = case.plan(&["-f", "same.yaml", "--delete"]);
    assert_eq!(code, 2);
    assert!(out.contains("answers no more at 10.") && out.contains("after, nobody answers"), "{out}");
    // A pod that becomes an endpoint.
    case.write(
        "second.yaml",
        "apiVersion: v1
kind: Pod
metadata: {name: db-second, namespace: shop, labels: {app: db}}
spec: {containers: [{name: c, image: i, ports: [{containerPort: 5432}]}]}
",
    );
    let (_, out, _) = case.plan(&["-f", "second.yaml"]);
    assert!(out.contains("on every node, for clients in the cluster: gains shop/db-second ("), "{out}");
}

const CALM: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: probe, namespace: tools}
spec: {podSelector: {matchLabels: {app: probe}}, policyTypes: [Egress], egress: []}
";

#[test]
fn a_directory_is_one_change_as_it_goes_in_and_as_it_goes_out() {
    let case = Case::new(&[]);
    std::fs::create_dir_all(case.folder.path().join("change/deep")).unwrap();
    let files =
        [("change/lock.yaml", LOCK), ("change/deep/calm.yml", CALM), ("change/notes.txt", "no: [yaml")];
    files.iter().for_each(|(name, text)| case.write(name, text));
    let (code, whole) = case.json(&["-f", "change"]);
    assert_eq!(code, 2);
    // What both cut, each with its place in its own file.
    let denied = whole["newlyDenied"].to_string();
    assert!(denied.contains("change/lock.yaml:") && denied.contains("change/deep/calm.yml:"), "{whole:#}");
    assert_eq!(case.json(&["-f", "change/lock.yaml", "-f", "change/deep"]), (2, whole));

    // What is there goes with its directory; of what is not there nothing is done.
    std::fs::create_dir(case.folder.path().join("now/more")).unwrap();
    for (name, text) in [("now/more/lock.yaml", LOCK), ("now/more/calm.yaml", CALM)] {
        case.write(name, text);
    }
    let (code, gone) = case.json(&["-f", "now/more", "--delete"]);
    assert_eq!((code, &gone["newlyDenied"]), (2, &Value::Array(vec![])));
    let opened = gone["newlyAllowed"].to_string();
    assert!(opened.contains("now/more/lock.yaml:") && opened.contains("now/more/calm.yaml:"), "{gone:#}");
    case.write("change/third.yaml", &CALM.replace("name: probe,", "name: third,"));
    let (code, out, error) = case.plan(&["-f", "change", "--delete"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.contains("there is no NetworkPolicy tools/third to delete"), "{error}");

    // One file that cannot be read: the whole directory is not planned.
    case.write("change/bad.yaml", "kind: [");
    let (code, out, error) = case.plan(&["-f", "change"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(error.contains("change/bad.yaml:1"), "{error}");
}

/// `script` (util-linux) gives a command a terminal.
#[test]
fn colours_are_for_terminals() {
    let case = Case::new(&[("lock.yaml", LOCK)]);
    let on_a_terminal = |no_colour: bool| {
        let command = format!("{} plan --manifests now -f lock.yaml", env!("CARGO_BIN_EXE_ferrule"));
        let mut script = Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).current_dir(case.folder.path()).env_remove("NO_COLOR");
        if no_colour {
            script.env("NO_COLOR", "1");
        }
        let output = script.stdin(std::process::Stdio::null()).output().expect("script of util-linux");
        assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let coloured = on_a_terminal(false);
    assert!(coloured.contains("NEWLY DENIED") && coloured.contains("\x1b[1;31m"), "{coloured:?}");
    let plain = on_a_terminal(true);
    assert!(plain.contains("NEWLY DENIED") && !plain.contains('\x1b'), "{plain:?}");
    let (_, out, _) = case.plan(&["-f", "lock.yaml"]);
    assert!(!out.contains('\x1b'), "{out:?}");
}
