//! IPAM plugins that a test plays, in shell.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;

/// A script that is open for writing in a process just forked cannot be started.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Played {
    _turn: MutexGuard<'static, ()>,
    folder: tempfile::TempDir,
    delegate: Delegate,
}

/// A plugin that runs `script`; what it got stays in `env` and `config` beside it.
fn played(config_version: &str, script: &str) -> Played {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("played");
    let text = format!(
        "#!/bin/sh\ncd {}\nif [ $CNI_COMMAND = VERSION ]; then\n  echo '{{\"cniVersion\":\"1.0.0\",\"supportedVersions\":\
         [\"0.1.0\",\"0.4.0\",\"1.0.0\"]}}'\n  exit 0\nfi\nenv | grep ^CNI_ > env\ncat > config\n{script}\n",
        folder.path().display()
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let delegate = Delegate {
        plugin: "played".into(),
        path: format!("/no/such/folder:{}", folder.path().display()),
        netns: "/run/netns/x".into(),
        args: "K8S_POD_NAME=a".into(),
        config: json!({"cniVersion": config_version, "name": "n", "type": "ferrule-cni", "ipam": {"type": "played"}}),
    };
    Played { _turn: turn, folder, delegate }
}

fn id() -> AttachmentId {
    AttachmentId { container_id: "c1".into(), interface: "net1".into() }
}

#[test]
fn it_is_called_in_the_newest_version_that_both_speak_with_our_environment() {
    let it = played(
        "1.1.0",
        r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.1.0.5/24","gateway":"10.1.0.1"},{"address":"fd00::5/64"}],"dns":{"domain":"x"}}'"#,
    );
    let given = add(&it.delegate, &id()).unwrap();
    assert_eq!(given.addresses, ["10.1.0.5".parse::<IpAddr>().unwrap(), "fd00::5".parse().unwrap()]);
    assert_eq!(given.dns.unwrap()["domain"], "x");
    let env = std::fs::read_to_string(it.folder.path().join("env")).unwrap();
    for line in [
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=c1",
        "CNI_IFNAME=net1",
        "CNI_NETNS=/run/netns/x",
        "CNI_ARGS=K8S_POD_NAME=a",
        "CNI_PATH=/no/such/folder:",
    ] {
        assert!(env.contains(line), "{line}: {env}");
    }
    let config = || -> Value {
        serde_json::from_slice(&std::fs::read(it.folder.path().join("config")).unwrap()).unwrap()
    };
    assert_eq!((&config()["cniVersion"], &config()["name"]), (&"1.0.0".into(), &"n".into()));
    check(&it.delegate, &id(), Some(&json!({"cniVersion": "1.1.0", "ips": []}))).unwrap();
    assert_eq!(config()["prevResult"], json!({"cniVersion": "1.0.0", "ips": []}));
    drop(it);
    let old = played("0.3.1", "exit 1");
    assert_eq!(add(&old.delegate, &id()).unwrap_err().code, code::INCOMPATIBLE_VERSION);
}

#[test]
fn it_is_not_asked_what_it_is_too_old_for() {
    let it = played("1.1.0", "exit 1");
    status(&it.delegate).unwrap();
    collect(&it.delegate, &json!([])).unwrap();
    assert!(!it.folder.path().join("env").exists());
    let nowhere = Delegate { path: String::new(), ..it.delegate.clone() };
    let failure = status(&nowhere).unwrap_err();
    assert!(failure.msg.contains("played") && failure.msg.contains("CNI_PATH"), "{}", failure.msg);
}

#[test]
fn what_it_says_of_a_failure_is_passed_on() {
    let told = |script| del(&played("1.0.0", script).delegate, &id()).unwrap_err();
    let full = told(r#"echo '{"code":11,"msg":"come back later","details":"d"}'; exit 1"#);
    assert_eq!((full.code, full.details.as_str()), (code::TRY_AGAIN, "d"));
    assert_eq!(full.msg, "IPAM plugin `played`: DEL failed: come back later");
    let own = told(r#"echo '{"code":104,"msg":"its own code"}'; exit 1"#);
    assert_eq!(own.code, code::IPAM_PLUGIN, "its 104 is not ours");
    let crash = told("echo oops >&2; exit 3");
    assert_eq!(crash.code, code::IPAM_PLUGIN);
    assert!(crash.msg.contains("exit status: 3") && crash.details.contains("oops"), "{crash:?}");
}

#[test]
fn what_is_no_result_is_refused_and_given_back() {
    for (answer, named) in [
        ("nonsense", "expected"),
        ("[]", "not an object"),
        ("{}", "no address"),
        (r#"{"ips":[{"address":"10.1.0.5"}]}"#, "ips[0].address"),
        (r#"{"ips":[{"address":"10.1.0.5/24"},{"address":"10.1.0.6/24"}]}"#, "second address"),
        (r#"{"ips":[{"address":"127.0.0.1/8"}]}"#, "no address of a host"),
        (r#"{"ips":[{"address":"ff02::1/64"}]}"#, "no address of a host"),
    ] {
        let it = played("1.0.0", &format!("echo $CNI_COMMAND >> commands; echo '{answer}'"));
        let failure = add(&it.delegate, &id()).unwrap_err();
        assert_eq!(failure.code, code::IPAM_PLUGIN);
        assert!(failure.msg.contains(named), "{named}: {}", failure.msg);
        assert_eq!(std::fs::read_to_string(it.folder.path().join("commands")).unwrap(), "ADD\nDEL\n");
    }
}
