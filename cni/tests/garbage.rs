//! Garbage in configuration and environment: whatever comes, the answer is a CNI error on standard output with a code that is
//! documented, or a success; never a panic, never silence. Bounded, and the same at every run.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use api::cni::code;
use serde_json::{Value, json};

const ROUNDS: u64 = 6_000;

/// Every code that `ferrule-cni` may answer with when there is no agent.
const CODES: [u32; 10] = [
    code::INCOMPATIBLE_VERSION,
    code::UNSUPPORTED_FIELD,
    code::UNKNOWN_CONTAINER,
    code::INVALID_ENVIRONMENT,
    code::IO,
    code::DECODE,
    code::INVALID_CONFIG,
    code::TRY_AGAIN,
    code::NOT_AVAILABLE,
    code::AGENT_UNREACHABLE,
];

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

fn whole() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "ferrule", "type": "ferrule-cni", "mtu": 1400, "disableCheck": false,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.1.0/24"}]]},
        "runtimeConfig": {"ips": ["10.244.1.5/24", "fd00::5"], "mac": "0a:58:0a:f4:01:05"},
        "args": {"cni": {"ips": ["10.244.1.5"]}},
        "dns": {"nameservers": ["10.96.0.10"], "search": ["a.b"], "domain": "c"},
        "cni.dev/valid-attachments": [{"containerID": "c", "ifname": "eth0"}],
        "prevResult": {
            "cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "mac": "0a:58:0a:f4:01:05", "sandbox": "/x"}],
            "ips": [{"address": "10.244.1.5/32", "gateway": "10.244.1.1", "interface": 0}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.244.1.1"}],
        },
    })
}

fn junk(random: &mut Random) -> Value {
    match random.below(9) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(1.5e300),
        5 => json!([]),
        6 => json!({}),
        7 => json!(["\u{0}", "\u{202e}", "ä/../:"]),
        _ => Value::String(
            random.pick(&["", "x", "1.2.3", "../..", "10.0.0.1/99", "\n", "💥"]).repeat(random.below(300)),
        ),
    }
}

/// Puts junk somewhere into a document.
fn spoil(value: &mut Value, random: &mut Random) {
    let inner = match value {
        Value::Object(object) if !object.is_empty() => {
            let at = random.below(object.len());
            object.values_mut().nth(at)
        }
        Value::Array(list) if !list.is_empty() => {
            let at = random.below(list.len());
            list.get_mut(at)
        }
        _ => None,
    };
    match inner {
        Some(inner) if random.below(3) > 0 => spoil(inner, random),
        _ => *value = junk(random),
    }
}

fn configuration(random: &mut Random, folder: &str) -> Vec<u8> {
    let mut document = whole();
    for _ in 0..random.below(4) {
        spoil(&mut document, random);
    }
    if let Some(object) = document.as_object_mut() {
        // Nothing outside the test's folder may be touched.
        object.insert("stateDir".into(), folder.into());
        object.insert("agentSocket".into(), format!("{folder}/no.sock").into());
    }
    let mut bytes = document.to_string().into_bytes();
    if random.below(5) == 0 {
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            // Never a letter, so that the two paths above stay what they are or the text is no JSON any more.
            bytes[at] = *random.pick(b"{}[]\",:\x00\xff\xc3");
        }
    }
    bytes
}

fn environment(random: &mut Random, folder: &str) -> BTreeMap<String, OsString> {
    let command = *random.pick(&["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "", "add", "ADD "]);
    let mut all: BTreeMap<String, OsString> = BTreeMap::from([
        ("CNI_COMMAND".into(), command.into()),
        ("CNI_CONTAINERID".into(), "c1".into()),
        ("CNI_IFNAME".into(), "eth0".into()),
        ("CNI_NETNS".into(), format!("{folder}/no-such-namespace").into()),
        ("CNI_PATH".into(), folder.into()),
        ("CNI_ARGS".into(), "IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c".into()),
    ]);
    for _ in 0..random.below(3) {
        let names: Vec<_> = all.keys().filter(|name| *name != "CNI_PATH").cloned().collect();
        let name = random.pick(&names).clone();
        let long = "x".repeat(random.below(5_000));
        let bytes: &[u8] = match random.below(8) {
            0 => b"",
            1 => b"\xff\xfe",
            2 => b"a/b",
            3 => b"..",
            4 => b"=;=;;IP=1;MAC=",
            5 => b"-x y\t",
            6 => b"/proc/self/ns/net",
            _ => long.as_bytes(),
        };
        all.insert(name, OsString::from_vec(bytes.to_vec()));
    }
    all
}

#[test]
fn whatever_comes_is_answered_as_the_specification_says() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let mut seen = BTreeMap::<u64, usize>::new();
    for seed in 0..ROUNDS {
        let mut random = Random(seed);
        let variables = environment(&mut random, folder);
        let input = configuration(&mut random, folder);
        let outcome = cni::run(&variables, &input);
        let context =
            || format!("seed {seed}: {variables:?} {} → {outcome:?}", String::from_utf8_lossy(&input));
        if outcome.success {
            let version = variables["CNI_COMMAND"] == "VERSION";
            let quiet = variables["CNI_COMMAND"] == "DEL" || variables["CNI_COMMAND"] == "GC";
            assert!(version || quiet, "{}", context());
            assert_eq!(version, !outcome.output.is_empty(), "{}", context());
            *seen.entry(0).or_default() += 1;
            continue;
        }
        let said: Value = serde_json::from_str(&outcome.output).unwrap_or_else(|_| panic!("{}", context()));
        let number = said["code"].as_u64().unwrap();
        assert!(CODES.iter().any(|code| u64::from(*code) == number), "{}", context());
        assert!(said["msg"].as_str().is_some_and(|text| text.len() > 10), "{}", context());
        assert!(said["cniVersion"].is_string(), "{}", context());
        *seen.entry(number).or_default() += 1;
    }
    // A fuzzer that only meets the first check is none.
    for code in [0, 1, 3, 4, 6, 7, 50] {
        assert!(seen.contains_key(&code), "code {code} was never met: {seen:?}");
    }
}
