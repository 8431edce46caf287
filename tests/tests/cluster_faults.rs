//! An API server that restarts, forgets, expires watches, is slow, fails, is cut off, refuses a verb, or comes back from a backup
//! of etcd: the data path does not notice, and what the API says then is in force.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cluster::{Component, Request};
use nix::sys::signal::Signal;
use serde_json::json;
use tests::cluster::cut::Mode;
use tests::cluster::{Settings, Stage, only};
use tests::steady::{StopOnDrop, echo_within, until};

const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies";
const SOON: Duration = Duration::from_secs(30);
/// An API server that starts takes both cores of a small machine: a piece of a connection waits, but is not refused.
const BUSY: Duration = Duration::from_secs(5);

/// Pods a (node-1) and b (node-2) that serve, and c (node-2).
fn furnished(stage: &mut Stage) {
    stage.namespace("shop", &json!({}));
    for (name, node) in [("a", "node-1"), ("b", "node-2"), ("c", "node-2")] {
        stage.pod("shop", name, &json!({"app": name}), node, &[80]);
    }
    stage.kubelets();
    stage.agrees("pods without a policy");
}

#[test]
fn restarts_compaction_and_expired_watches_are_caught_up_with() {
    let Some(mut stage) = Stage::new("restarts_compaction_and_expired_watches") else { return };
    furnished(&mut stage);
    let (a, b) = (stage.lab.pod("shop/a").unwrap(), stage.lab.pod("shop/b").unwrap());
    let to = b.address(true).unwrap();
    let (stop, echoes) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let talk = scope.spawn(|| a.run(|| echo_within(BUSY, &stop, &echoes, to, b"shop/b")));
        let _stop = StopOnDrop(&stop);
        until("the connection stands", SOON, || echoes.load(Ordering::Relaxed) > 10);

        stage.control.restart(Component::ApiServer, Signal::SIGKILL).unwrap();
        stage.create(POLICIES, &only("b", "b", "a"));
        stage.agrees("a policy came after the API server was killed");
        stage.control.restart(Component::Etcd, Signal::SIGKILL).unwrap();
        until("the API server has etcd again", SOON, || stage.control.is_ready().is_ok());
        stage.patch(&format!("{POLICIES}/b"), &json!({"metadata": {"labels": {"touched": "yes"}}}));
        stage.create(POLICIES, &only("a", "a", "c"));
        stage.agrees("a policy came after etcd was killed");

        // Behind its back: changes, and then no history of them. A pod that goes leaves nothing but its absence.
        let relisted = stage.log(1).matches("listed").count();
        stage.cut.set(Mode::Closed);
        stage.delete(&format!("{POLICIES}/a"));
        stage.create(POLICIES, &only("c", "c", "b"));
        stage.delete("/api/v1/namespaces/shop/pods/c");
        stage.kubelets();
        stage.pod("shop", "d", &json!({"app": "c"}), "node-1", &[80]);
        // An API server that has just started remembers nothing by itself, and etcd forgets the rest.
        stage.control.stop(Component::ApiServer, Signal::SIGKILL).unwrap();
        let revision = stage.control.revision().unwrap();
        stage.control.compact(revision).unwrap();
        stage.control.start(Component::ApiServer).unwrap();
        stage.cut.set(Mode::Pass);
        stage.kubelets();
        stage.agrees("what happened while nobody could watch is known, and its history is not");
        assert!(
            stage.log(1).matches("listed").count() > relisted,
            "nothing was listed anew:\n{}",
            stage.log(1)
        );

        stop.store(true, Ordering::Relaxed);
        talk.join().unwrap().unwrap();
    });
    assert!(echoes.load(Ordering::Relaxed) > 100);
}

#[test]
fn a_slow_and_failing_api_server_is_waited_for() {
    let Some(mut stage) = Stage::new("a_slow_and_failing_api_server") else { return };
    furnished(&mut stage);
    stage.cut.set(Mode::Slow(Duration::from_millis(300)));
    stage.create(POLICIES, &only("slow", "b", "a"));
    stage.agrees("a policy came through a slow API server");
    for (status, name) in [(429, "throttled"), (500, "failing")] {
        let before = stage.cut.answered();
        stage.cut.set(Mode::Answer(status));
        until("it asks in vain", SOON, || stage.cut.answered() > before);
        // The pods are where they were, and an ADD needs no API server for what the controller knows already.
        let nobody = stage.lab.measure_objects(&stage.objects()).unwrap();
        assert!(nobody.differences.is_empty(), "while it answers {status}: {:#?}", nobody.differences);
        stage.create(POLICIES, &only(name, "a", if status == 429 { "b" } else { "c" }));
        std::thread::sleep(Duration::from_secs(3));
        let asked = stage.cut.answered() - before;
        assert!(asked < 100, "it asked {asked} times in 3 s: that is no waiting");
        stage.cut.set(Mode::Pass);
        stage.agrees(&format!("a policy that came while the API server answered {status}"));
    }
}

#[test]
fn a_missing_verb_is_named_and_its_grant_is_enough() {
    let settings = Settings {
        withheld: vec![("networkpolicies", "list"), ("networkpolicies", "watch")],
        ..Settings::default()
    };
    let Some(mut stage) = Stage::with("a_missing_verb_is_named", &settings) else { return };
    let ready = |stage: &Stage| stage.controller(1).get("/readyz");
    let named = |text: &str| text.contains("networkpolicies.networking.k8s.io") && text.contains("`list`");
    until("readiness names the verb and the resource", SOON, || {
        ready(&stage).is_err_and(|error| named(&error.to_string()))
    });
    let problems = stage.controller(1).list::<api::insight::ProblemItem>("problems", &[]).unwrap();
    assert!(problems.items.iter().any(|problem| named(&problem.message)), "{problems:#?}");
    assert!(named(&stage.log(1)), "{}", stage.log(1));
    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ferrule-controller";
    let mut object = stage.ask(&Request::get(role));
    for rule in object["rules"].as_array_mut().unwrap() {
        if rule["resources"] == json!(["networkpolicies"]) {
            rule["verbs"] = json!(["get", "list", "watch"]);
        }
    }
    let body = object.to_string();
    stage.ask(&Request { method: "PUT", path: role, content_type: "application/json", body: &body });
    until("it is ready once it may", SOON, || ready(&stage).is_ok());
    furnished(&mut stage);
}

#[test]
fn an_etcd_from_a_backup_begins_another_epoch_and_is_followed() {
    let Some(mut stage) = Stage::new("an_etcd_from_a_backup") else { return };
    furnished(&mut stage);
    stage.create(POLICIES, &only("kept", "b", "a"));
    stage.agrees("before the backup");
    let epoch = |stage: &Stage| -> u64 {
        let object = stage.ask(&Request::get("/api/v1/namespaces/kube-system/configmaps/ferrule-epoch"));
        object["data"]["epoch"].as_str().unwrap().parse().unwrap()
    };
    let before = epoch(&stage);
    let backup = stage.control.back_up(&stage.folder().join("backup")).unwrap();
    until("the API server has etcd again", SOON, || stage.control.is_ready().is_ok());
    // What the backup does not have: a policy more, one less, a pod.
    stage.create(POLICIES, &only("lost", "a", "c"));
    stage.delete(&format!("{POLICIES}/kept"));
    stage.pod("shop", "lost", &json!({"app": "lost"}), "node-1", &[80]);
    stage.kubelets();
    for round in 0..20 {
        stage.patch(
            "/api/v1/namespaces/shop/pods/a",
            &json!({"metadata": {"labels": {"round": round.to_string()}}}),
        );
    }
    stage.agrees("after the backup");
    let warned = |stage: &Stage| stage.log(1).matches("history of the API server went back").count();
    assert_eq!(warned(&stage), 0, "{}", stage.log(1));

    stage.control.restore(&backup).unwrap();
    until("the cluster has another epoch", SOON, || {
        stage.control.is_ready().is_ok() && epoch(&stage) > before
    });
    assert!(warned(&stage) > 0, "it went back silently:\n{}", stage.log(1));
    // The kubelets find a pod running that the API does not have.
    stage.kubelets();
    stage.agrees("what the backup holds is in force");
    stage.create(POLICIES, &only("new", "c", "b"));
    stage.agrees("and what comes after it");
}
