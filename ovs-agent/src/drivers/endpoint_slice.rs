//! The addresses of controllers in a list of EndpointSlices (`discovery.k8s.io/v1`), of which this reads the few fields that
//! it needs: the agent links no Kubernetes client. Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

/// Which Service's slices are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::str::FromStr for ServiceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // RFC 1123 labels: nothing that a path would have to escape.
        let label = |part: &str| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        };
        match text.split_once('/') {
            Some((namespace, name)) if label(namespace) && label(name) => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err("write NAMESPACE/SERVICE".into()),
        }
    }
}

impl std::fmt::Display for ServiceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl ServiceName {
    /// Path and query of the one read.
    pub fn path(&self) -> String {
        format!(
            "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{}",
            self.namespace, self.name
        )
    }
}

/// The port's name where a Service has several.
pub const PORT: &str = "agents";

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<Slice>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slice {
    address_type: String,
    // The API writes null where there are none.
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
struct Endpoint {
    addresses: Vec<String>,
    conditions: Option<Conditions>,
}

#[derive(Deserialize)]
struct Conditions {
    ready: Option<bool>,
}

#[derive(Deserialize)]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<u16>,
}

/// `HOST:PORT` of every endpoint that is ready; of all of them while none is: a controller that has not read its sources yet
/// takes streams already, and everybody may be waiting for everybody after a power cut.
pub fn controllers(json: &[u8]) -> Result<BTreeSet<String>, String> {
    let list: List =
        serde_json::from_slice(json).map_err(|error| format!("no list of EndpointSlices: {error}"))?;
    let (mut ready, mut all) = (BTreeSet::new(), BTreeSet::new());
    for slice in list.items.iter().filter(|slice| slice.address_type != "FQDN") {
        let Some(port) = port(slice.ports.as_deref().unwrap_or_default())? else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            let is_ready =
                endpoint.conditions.as_ref().is_none_or(|conditions| conditions.ready != Some(false));
            for address in &endpoint.addresses {
                let ip: IpAddr =
                    address.parse().map_err(|_| format!("the endpoint `{address}` is no IP address"))?;
                let address = SocketAddr::new(ip, port).to_string();
                if is_ready {
                    ready.insert(address.clone());
                }
                all.insert(address);
            }
        }
    }
    Ok(if ready.is_empty() { all } else { ready })
}

/// The one TCP port, or of several the one that is named [`PORT`].
fn port(ports: &[Port]) -> Result<Option<u16>, String> {
    let tcp: Vec<&Port> =
        ports.iter().filter(|port| port.protocol.as_deref().is_none_or(|name| name == "TCP")).collect();
    let named = tcp.iter().find(|port| port.name.as_deref() == Some(PORT));
    match (named, &tcp[..]) {
        (Some(port), _) | (None, [port]) => Ok(port.port),
        (None, []) => Ok(None),
        (None, _) => Err(format!("the Service has several ports; name the controllers' one `{PORT}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices(endpoints: &str, ports: &str) -> Vec<u8> {
        format!(r#"{{"kind":"EndpointSliceList","items":[{{"addressType":"IPv4","endpoints":{endpoints},"ports":{ports}}}]}}"#)
            .into_bytes()
    }

    const PORTS: &str = r#"[{"name":"agents","protocol":"TCP","port":7470},{"name":"metrics","port":9000}]"#;

    fn found(endpoints: &str, ports: &str) -> Vec<String> {
        controllers(&slices(endpoints, ports)).unwrap().into_iter().collect()
    }

    #[test]
    fn ready_endpoints_are_controllers_and_all_are_while_none_is_ready() {
        let ready = r#"{"addresses":["192.0.2.1"],"conditions":{"ready":true}}"#;
        let not = r#"{"addresses":["192.0.2.2"],"conditions":{"ready":false,"serving":true}}"#;
        assert_eq!(found(&format!("[{ready},{not}]"), PORTS), ["192.0.2.1:7470"]);
        assert_eq!(found(&format!("[{not}]"), PORTS), ["192.0.2.2:7470"]);
        assert_eq!(found(r#"[{"addresses":["2001:db8::1"]}]"#, r#"[{"port":1}]"#), ["[2001:db8::1]:1"]);
        assert!(found("null", PORTS).is_empty() && found(&format!("[{ready}]"), "null").is_empty());
        assert_eq!(controllers(br#"{"items":[]}"#), Ok(BTreeSet::new()));
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        let two = r#"[{"name":"a","port":1},{"name":"b","port":2}]"#;
        let one = r#"[{"addresses":["192.0.2.1"]}]"#;
        assert!(controllers(&slices(one, two)).unwrap_err().contains("`agents`"));
        assert!(controllers(b"<html>").unwrap_err().contains("no list"));
        assert!(controllers(&slices(r#"[{"addresses":["x"]}]"#, PORTS)).unwrap_err().contains("`x`"));
    }

    #[test]
    fn a_name_that_could_leave_its_path_is_none() {
        let name: ServiceName = "kube-system/ferrule".parse().unwrap();
        assert!(
            name.path()
                .ends_with("kube-system/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dferrule")
        );
        for bad in ["ferrule", "a/../b", "a/b/c", "/b", "a/", "A/b", "a/b?x"] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }
}
