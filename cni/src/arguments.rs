//! `CNI_ARGS`: `KEY=VALUE` pairs apart by `;`, of which the runtime's Kubernetes ones name the pod.

use std::net::IpAddr;

use api::cni::PodIdentity;
use network::Mac;

/// What is used of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) pod: Option<PodIdentity>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) mac: Option<Mac>,
}

impl Arguments {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut arguments = Self::default();
        let (mut namespace, mut name, mut uid) = (String::new(), String::new(), String::new());
        let (mut ignore, mut unknown) = (false, Vec::new());
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(format!("holds {pair:?}, write KEY=VALUE pairs with `;` between them"));
            };
            match key {
                "K8S_POD_NAMESPACE" => namespace = value.into(),
                "K8S_POD_NAME" => name = value.into(),
                "K8S_POD_UID" => uid = value.into(),
                "K8S_POD_INFRA_CONTAINER_ID" => {}
                "IP" => arguments.address = Some(address(value).map_err(|why| format!("IP {why}"))?),
                "MAC" => {
                    arguments.mac = Some(value.parse().map_err(|why| format!("MAC {why}"))?);
                }
                "IgnoreUnknown" => {
                    ignore = match value {
                        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                        "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
                        _ => return Err(format!("IgnoreUnknown is {value:?}, it must be 1 or 0")),
                    }
                }
                _ => unknown.push(key),
            }
        }
        if !ignore && !unknown.is_empty() {
            return Err(format!(
                "has unknown keys {}: leave them away or add IgnoreUnknown=1",
                unknown.join(", ")
            ));
        }
        arguments.pod = match (namespace.is_empty(), name.is_empty()) {
            (true, true) => None,
            (false, false) => Some(PodIdentity { namespace, name, uid }),
            (true, false) => return Err(format!("names pod {name} but no K8S_POD_NAMESPACE")),
            (false, true) => return Err(format!("names namespace {namespace} but no K8S_POD_NAME")),
        };
        Ok(arguments)
    }
}

/// An address, with or without a prefix length behind it (both are in use).
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    let (address, length) = text.split_once('/').unwrap_or((text, "0"));
    match (address.parse(), length.parse::<u8>()) {
        (Ok(address), Ok(_)) => Ok(address),
        _ => Err(format!("{text:?} is not an address: write 10.244.1.5 or fd00::5")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_containerd_sends() {
        let text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=cart-0;K8S_POD_INFRA_CONTAINER_ID=abc;\
                    K8S_POD_UID=6c4b;SOMETHING=else";
        let pod = Arguments::parse(text).unwrap().pod.unwrap();
        assert_eq!((pod.namespace.as_str(), pod.name.as_str(), pod.uid.as_str()), ("shop", "cart-0", "6c4b"));
    }

    #[test]
    fn addresses_may_be_asked_for() {
        let arguments = Arguments::parse("IP=10.244.1.9/24;MAC=0a:58:0a:f4:01:09").unwrap();
        assert_eq!(arguments.address, Some("10.244.1.9".parse().unwrap()));
        assert_eq!(arguments.mac.unwrap().to_string(), "0a:58:0a:f4:01:09");
        assert_eq!(Arguments::parse(""), Ok(Arguments::default()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("A", "KEY=VALUE"),
            ("FOO=1", "FOO"),
            ("IP=10.0.0", "IP"),
            ("MAC=1", "MAC"),
            ("IgnoreUnknown=maybe", "IgnoreUnknown"),
            ("K8S_POD_NAME=a", "K8S_POD_NAMESPACE"),
            ("K8S_POD_NAMESPACE=a", "K8S_POD_NAME"),
        ] {
            let why = Arguments::parse(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
