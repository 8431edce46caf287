//! Calls of the real `ferrule-cni` binary, as a container runtime makes them (CNI 1.1): environment, configuration on
//! standard input, result or error on standard output.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use api::cni::{Failure, PodIdentity, code};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Context, Result};
use crate::layout::{Layout, NodeIndex};
use crate::netns;

/// The version of the specification that the lab speaks.
pub const CNI_VERSION: &str = "1.1.0";

/// Name of the network in the configuration.
pub const NETWORK: &str = "ferrule";

/// The interface in a pod.
pub const INTERFACE: &str = "eth0";

/// One attachment: a pod's `eth0`.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Where the node's things are.
    pub layout: &'a Layout,
    /// The binary's folder.
    pub binaries: &'a Path,
    /// The node.
    pub node: NodeIndex,
    /// `CNI_CONTAINERID`.
    pub container: &'a str,
    /// The pod's network namespace.
    pub netns: &'a Path,
    /// Whose it is.
    pub pod: &'a PodIdentity,
    /// Addresses asked for; empty: any.
    pub addresses: &'a [IpAddr],
}

/// The network configuration list of a node, as it would lie in /etc/cni/net.d.
pub fn conflist(layout: &Layout, node: NodeIndex) -> Value {
    json!({ "cniVersion": CNI_VERSION, "name": NETWORK, "plugins": [plugin(layout, node)] })
}

fn plugin(layout: &Layout, node: NodeIndex) -> Value {
    json!({
        "type": "ferrule-cni",
        "capabilities": { "ips": true },
        "agentSocket": layout.cni_socket(node),
        "stateDir": layout.agent_state_directory(node),
    })
}

/// What a runtime makes of the list for one call: version and name inside, capabilities replaced by their arguments (CNI 1.1
/// §"Deriving execution configuration from plugin configuration").
pub fn plugin_configuration(layout: &Layout, node: NodeIndex, addresses: &[IpAddr]) -> Value {
    let mut configuration = plugin(layout, node);
    if let Some(fields) = configuration.as_object_mut() {
        fields.remove("capabilities");
        fields.insert("cniVersion".into(), CNI_VERSION.into());
        fields.insert("name".into(), NETWORK.into());
        if !addresses.is_empty() {
            fields.insert("runtimeConfig".into(), json!({ "ips": addresses }));
        }
    }
    configuration
}

/// The environment of a call.
pub fn environment(call: &Call<'_>, command: &str) -> BTreeMap<&'static str, String> {
    let pod = call.pod;
    BTreeMap::from([
        ("CNI_COMMAND", command.to_owned()),
        ("CNI_CONTAINERID", call.container.to_owned()),
        ("CNI_NETNS", call.netns.display().to_string()),
        ("CNI_IFNAME", INTERFACE.to_owned()),
        ("CNI_PATH", call.binaries.display().to_string()),
        (
            "CNI_ARGS",
            format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
                pod.namespace, pod.name, call.container, pod.uid
            ),
        ),
    ])
}

/// What became of a call: the addresses of an ADD, or the error that the binary reported.
pub type Answer = std::result::Result<Vec<IpAddr>, Failure>;

/// ADD: connects the pod.
pub fn add(call: &Call<'_>) -> Result<Answer> {
    Ok(run(call, "ADD")?.and_then(|text| addresses(&text)))
}

/// DEL: takes it away.
pub fn del(call: &Call<'_>) -> Result<Answer> {
    Ok(run(call, "DEL")?.map(|_| Vec::new()))
}

fn run(call: &Call<'_>, verb: &str) -> Result<std::result::Result<String, Failure>> {
    let program = call.binaries.join("ferrule-cni");
    let mut command = Command::new(&program);
    command.envs(environment(call, verb)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = netns::spawn(Some(&netns::path(&call.layout.node_namespace(call.node))), &mut command)?;
    let configuration = plugin_configuration(call.layout, call.node, call.addresses).to_string();
    if let Some(mut stdin) = child.stdin.take() {
        // It may have failed before it read anything; its answer says why.
        let _ = stdin.write_all(configuration.as_bytes());
    }
    let output = child.wait_with_output().context(|| format!("wait for {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(Ok(text));
    }
    let failure = serde_json::from_str(&text).unwrap_or_else(|_| Failure {
        code: code::DECODE,
        msg: format!("{} ended with {} and said nothing that CNI knows", program.display(), output.status),
        details: format!("{text}{}", String::from_utf8_lossy(&output.stderr)).trim().to_owned(),
    });
    Ok(Err(failure))
}

/// The addresses of a result (CNI 1.1 §"ADD Success").
fn addresses(text: &str) -> Answer {
    #[derive(Deserialize)]
    struct Success {
        #[serde(default)]
        ips: Vec<Ip>,
    }
    #[derive(Deserialize)]
    struct Ip {
        address: String,
    }
    let bad = |why: String| Failure {
        code: code::DECODE,
        msg: format!("ferrule-cni's result is not a CNI result: {why}"),
        details: text.to_owned(),
    };
    let success: Success = serde_json::from_str(text).map_err(|error| bad(error.to_string()))?;
    if success.ips.is_empty() {
        return Err(bad("it has no address".to_owned()));
    }
    success
        .ips
        .iter()
        .map(|ip| {
            let address = ip.address.split('/').next().unwrap_or_default();
            address.parse().map_err(|_| bad(format!("`{}` is not an address", ip.address)))
        })
        .collect()
}

/// A container id as runtimes make them: 64 hexadecimal digits, the same for the same pod and UID.
pub fn container_id(lab: &str, pod: &PodIdentity) -> String {
    (0..4_u8)
        .map(|part| {
            let text = format!("{part} {lab} {}/{} {}", pod.namespace, pod.name, pod.uid);
            format!("{:016x}", crate::layout::fnv(text.as_bytes()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_gives_its_addresses_and_garbage_an_error() {
        let text = r#"{"cniVersion":"1.1.0","ips":[{"address":"10.244.1.2/32"},{"address":"fd00::2/128"}]}"#;
        let read = addresses(text).unwrap();
        assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.244.1.2", "fd00::2"]);
        for bad in ["", "[]", "{}", r#"{"ips":[{"address":"x"}]}"#] {
            assert_eq!(addresses(bad).unwrap_err().code, code::DECODE, "{bad}");
        }
    }

    #[test]
    fn a_container_id_is_a_runtimes() {
        let pod = PodIdentity { namespace: "shop".into(), name: "cart-0".into(), uid: "1".into() };
        let id = container_id("lab", &pod);
        assert_eq!((id.len(), id.bytes().all(|b| b.is_ascii_hexdigit())), (64, true));
        assert_ne!(id, container_id("lab", &PodIdentity { uid: "2".into(), ..pod }));
    }
}
