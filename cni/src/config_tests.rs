//! Configurations as runtimes write them, and as people get them wrong.

use super::*;

fn parse(text: &str) -> Result<Config, Failure> {
    Config::parse(&decode(text.as_bytes())?)
}

#[test]
fn the_shortest_configuration_has_all_defaults() {
    let config = parse(r#"{"cniVersion":"1.1.0","name":"ferrule","type":"ferrule-cni"}"#).unwrap();
    assert_eq!(config.version, Version::V1_1_0);
    assert_eq!(config.agent_socket, PathBuf::from(AGENT_SOCKET));
    assert_eq!(config.state_directory, PathBuf::from(STATE_DIRECTORY));
    assert_eq!((config.mtu, config.ipam, config.valid), (None, None, None));
    assert!(config.previous.is_none());
}

#[test]
fn everything_that_can_be_said() {
    let config = parse(
        r#"{"cniVersion":"1.0.0","name":"net-1","type":"ferrule-cni","agentSocket":"/tmp/a","stateDir":"/tmp/s",
        "mtu":1400,"ipam":{"type":"host-local","subnet":"10.0.0.0/24"},"capabilities":{"ips":true,"mac":true},
        "runtimeConfig":{"ips":["10.0.0.7/24","fd00::7"],"mac":"0a:58:0a:00:00:07"},
        "args":{"cni":{"ips":["10.0.0.7"]},"labels":[{"key":"a","value":"b"}]},
        "dns":{"nameservers":["10.0.0.2"]},"prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.7/32"}]}}"#,
    )
    .unwrap();
    assert_eq!(config.attached().unwrap().addresses.len(), 1);
    assert_eq!(config.addresses, ["10.0.0.7".parse::<IpAddr>().unwrap(), "fd00::7".parse().unwrap()]);
    assert_eq!(config.mac.unwrap().to_string(), "0a:58:0a:00:00:07");
    assert_eq!(config.ipam.unwrap().config["ipam"]["subnet"], "10.0.0.0/24");
    assert_eq!(config.dns.unwrap()["nameservers"][0], "10.0.0.2");
    let builtin = r#"{"cniVersion":"1.0.0","name":"n","type":"ferrule-cni","ipam":{"type":"ferrule"}}"#;
    assert_eq!(parse(builtin).unwrap().ipam, None);
}

#[test]
fn a_wrong_type_names_the_field_and_the_cure() {
    for (field, value, named) in [
        ("name", "7", "name"),
        ("name", "\"-x\"", "name"),
        ("cniVersion", "1.1", "cniVersion"),
        ("type", "7", "type"),
        ("type", "[\"ferrule-cni\"]", "type"),
        ("mtu", "\"big\"", "mtu"),
        ("mtu", "-1", "mtu"),
        ("mtu", "70000", "mtu"),
        ("agentSocket", "\"relative\"", "agentSocket"),
        ("agentSocket", "[]", "agentSocket"),
        ("ipam", "\"host-local\"", "ipam"),
        ("ipam", "{\"type\":\"../sh\"}", "ipam.type"),
        ("runtimeConfig", "{\"ips\":\"10.0.0.1\"}", "runtimeConfig.ips"),
        ("runtimeConfig", "{\"ips\":[\"10.0.0\"]}", "runtimeConfig.ips[0]"),
        ("runtimeConfig", "{\"mac\":\"1\"}", "runtimeConfig.mac"),
        ("args", "{\"cni\":{\"ips\":[1]}}", "args.cni.ips[0]"),
        ("dns", "{\"nameservers\":\"10.0.0.2\"}", "dns.nameservers"),
        ("prevResult", "[]", "prevResult"),
        ("cni.dev/valid-attachments", "{}", "cni.dev/valid-attachments"),
        ("cni.dev/valid-attachments", "[{\"containerID\":\"a\"}]", "cni.dev/valid-attachments[0].ifname"),
    ] {
        let mut object = decode(br#"{"cniVersion":"1.1.0","name":"n","type":"ferrule-cni"}"#).unwrap();
        object.insert(field.into(), serde_json::from_str(value).unwrap());
        let failure = Config::parse(&object).unwrap_err();
        assert_eq!(failure.code, code::INVALID_CONFIG, "{field} {value}: {}", failure.msg);
        assert!(failure.msg.contains(&format!("`{named}`")), "{field} {value}: {}", failure.msg);
    }
    let text = r#"{"cniVersion":"1.1.0","name":"n","prevResult":{"ips":[{"address":1}]}}"#;
    let failure = parse(text).unwrap().attached().unwrap_err();
    assert!(failure.msg.contains("`prevResult.ips[0].address`"), "{}", failure.msg);
    assert_eq!(parse(r#"{"cniVersion":"1.1.0"}"#).unwrap_err().code, code::INVALID_CONFIG);
}

#[test]
fn versions_that_are_not_spoken_and_text_that_is_no_json() {
    for text in
        [r#"{"cniVersion":"0.2.0","name":"n"}"#, r#"{"name":"n"}"#, r#"{"cniVersion":"2.0.0","name":"n"}"#]
    {
        let failure = parse(text).unwrap_err();
        assert_eq!(failure.code, code::INCOMPATIBLE_VERSION);
        assert!(failure.msg.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{}", failure.msg);
    }
    for text in ["", "  \n", "{", "[]", "\"x\"", "{\"a\":1}}"] {
        assert_eq!(decode(text.as_bytes()).unwrap_err().code, code::DECODE, "{text:?}");
    }
}

#[test]
fn what_gc_is_told() {
    let with = |extra: &str| parse(&format!(r#"{{"cniVersion":"1.1.0","name":"n"{extra}}}"#)).unwrap().valid;
    assert_eq!(with(""), None);
    // Go writes an empty list as null.
    assert_eq!(with(r#","cni.dev/valid-attachments":null"#), Some(vec![]));
    let one = vec![AttachmentId { container_id: "a".into(), interface: "eth0".into() }];
    for name in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let text = format!(r#","{name}":[{{"containerID":"a","ifname":"eth0"}}]"#);
        assert_eq!(with(&text), Some(one.clone()));
    }
}
