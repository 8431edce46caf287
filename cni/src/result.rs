//! Results as CNI defines them, read (`prevResult`) and written in the version that the configuration asks for
//! (CNI 1.1 §"Success", 0.3.1 and 0.4.0 with `ips[].version`, `mtu` from 1.1.0).

use std::net::IpAddr;

use api::cni::Failure;
use network::{Cidr, Mac};
use serde_json::{Map, Value, json};

use crate::fields::Fields;
use crate::version::Version;

/// A result: the part of it that this plugin makes or checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attached {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<Route>,
}

/// A network interface; `sandbox` is empty for one of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: Option<u32>,
    pub(crate) sandbox: String,
}

/// An address on one of the interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) address: IpAddr,
    pub(crate) length: u8,
    pub(crate) gateway: Option<IpAddr>,
    /// Which interface, counted from 0.
    pub(crate) interface: Option<usize>,
}

/// A route of the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: Cidr,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) mtu: Option<u32>,
}

impl Attached {
    /// Reads a result; what this plugin has no use for is passed over.
    pub(crate) fn parse(fields: &Fields<'_>) -> Result<Self, Failure> {
        let interfaces = fields.objects("interfaces", "a list of objects")?;
        let addresses = fields.objects("ips", "a list of objects")?;
        let routes = fields.objects("routes", "a list of objects")?;
        Ok(Self {
            interfaces: interfaces.iter().map(Interface::parse).collect::<Result<_, _>>()?,
            addresses: addresses.iter().map(Address::parse).collect::<Result<_, _>>()?,
            routes: routes.iter().map(Route::parse).collect::<Result<_, _>>()?,
        })
    }

    /// The result document: what the plugins before this one gave, then ours.
    pub(crate) fn render(&self, version: Version, previous: Option<&Value>, dns: Option<&Value>) -> Value {
        let mut document = previous.and_then(Value::as_object).cloned().unwrap_or_default();
        let before = document.get("interfaces").and_then(Value::as_array).map_or(0, Vec::len);
        document.insert("cniVersion".into(), version.text().into());
        append(&mut document, "interfaces", self.interfaces.iter().map(|one| one.render(version)));
        append(&mut document, "ips", self.addresses.iter().map(|one| one.render(version, before)));
        append(&mut document, "routes", self.routes.iter().map(|one| one.render(version)));
        let dns = dns.cloned().or_else(|| document.remove("dns")).unwrap_or_else(|| json!({}));
        document.insert("dns".into(), dns);
        Value::Object(document)
    }
}

fn append(document: &mut Map<String, Value>, name: &str, new: impl Iterator<Item = Value>) {
    let list = document.entry(name).or_insert_with(|| Value::Array(Vec::new()));
    match list {
        Value::Array(list) => list.extend(new),
        // Go writes an empty list as null.
        other => *other = new.collect(),
    }
}

impl Interface {
    fn parse(fields: &Fields<'_>) -> Result<Self, Failure> {
        let what = "the interface's name";
        let mac = match fields.text("mac", "an Ethernet address")?.filter(|text| !text.is_empty()) {
            Some(text) => {
                Some(text.parse().map_err(|_| fields.wrong("mac", &text.into(), "an Ethernet address"))?)
            }
            None => None,
        };
        Ok(Self {
            name: fields.text("name", what)?.ok_or_else(|| fields.missing("name", what))?.to_owned(),
            mac,
            mtu: small(fields.number("mtu", "a number")?),
            sandbox: fields.text("sandbox", "the path of the network namespace")?.unwrap_or("").to_owned(),
        })
    }

    fn render(&self, version: Version) -> Value {
        let mut object = Map::new();
        object.insert("name".into(), self.name.as_str().into());
        if let Some(mac) = self.mac {
            object.insert("mac".into(), mac.to_string().into());
        }
        if let Some(mtu) = self.mtu.filter(|_| version >= Version::V1_1_0) {
            object.insert("mtu".into(), mtu.into());
        }
        if !self.sandbox.is_empty() {
            object.insert("sandbox".into(), self.sandbox.as_str().into());
        }
        Value::Object(object)
    }
}

impl Address {
    fn parse(fields: &Fields<'_>) -> Result<Self, Failure> {
        let what = "an address with its prefix length as \"10.244.1.5/32\"";
        let text = fields.text("address", what)?.ok_or_else(|| fields.missing("address", what))?;
        let wrong = || fields.wrong("address", &text.into(), what);
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let length = length.parse().map_err(|_| wrong())?;
        // The prefix must fit the family.
        Cidr::new(address, length).map_err(|_| wrong())?;
        let interface = fields.number("interface", "an index into `interfaces`")?;
        Ok(Self {
            address,
            length,
            gateway: gateway(fields, "gateway")?,
            interface: interface.and_then(|index| usize::try_from(index).ok()),
        })
    }

    fn render(&self, version: Version, interfaces_before: usize) -> Value {
        let mut object = Map::new();
        if version < Version::V1_0_0 {
            object.insert("version".into(), if self.address.is_ipv4() { "4" } else { "6" }.into());
        }
        object.insert("address".into(), format!("{}/{}", self.address, self.length).into());
        if let Some(gateway) = self.gateway {
            object.insert("gateway".into(), gateway.to_string().into());
        }
        if let Some(index) = self.interface {
            object.insert("interface".into(), (index + interfaces_before).into());
        }
        Value::Object(object)
    }
}

impl Route {
    fn parse(fields: &Fields<'_>) -> Result<Self, Failure> {
        let what = "a CIDR as \"0.0.0.0/0\"";
        let text = fields.text("dst", what)?.ok_or_else(|| fields.missing("dst", what))?;
        let destination = text.parse().map_err(|_| fields.wrong("dst", &text.into(), what))?;
        Ok(Self {
            destination,
            gateway: gateway(fields, "gw")?,
            mtu: small(fields.number("mtu", "a number")?),
        })
    }

    fn render(&self, version: Version) -> Value {
        let mut object = Map::new();
        object.insert("dst".into(), self.destination.to_string().into());
        if let Some(gateway) = self.gateway {
            object.insert("gw".into(), gateway.to_string().into());
        }
        if let Some(mtu) = self.mtu.filter(|_| version >= Version::V1_1_0) {
            object.insert("mtu".into(), mtu.into());
        }
        Value::Object(object)
    }
}

fn gateway(fields: &Fields<'_>, name: &str) -> Result<Option<IpAddr>, Failure> {
    let what = "an address";
    match fields.text(name, what)?.filter(|text| !text.is_empty()) {
        Some(text) => text.parse().map(Some).map_err(|_| fields.wrong(name, &text.into(), what)),
        None => Ok(None),
    }
}

fn small(number: Option<u64>) -> Option<u32> {
    number.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached() -> Attached {
        let interface = |name: &str, mtu, sandbox: &str| Interface {
            name: name.into(),
            mac: Some(Mac([0x0a, 0x58, 0x0a, 0xf4, 1, 5])),
            mtu,
            sandbox: sandbox.into(),
        };
        let address = |text: &str, length, gateway: &str| Address {
            address: text.parse().unwrap(),
            length,
            gateway: Some(gateway.parse().unwrap()),
            interface: Some(1),
        };
        Attached {
            interfaces: vec![
                interface("fe0123456789abc", None, ""),
                interface("eth0", Some(1450), "/run/netns/a"),
            ],
            addresses: vec![address("10.244.1.5", 32, "10.244.1.1"), address("fd00::5", 128, "fd00::1")],
            routes: vec![Route {
                destination: "0.0.0.0/0".parse().unwrap(),
                gateway: Some("10.244.1.1".parse().unwrap()),
                mtu: Some(1450),
            }],
        }
    }

    #[test]
    fn every_version_gets_its_own_fields_and_reads_them_back() {
        for version in Version::ALL {
            let document = attached().render(version, None, None);
            assert_eq!(document["cniVersion"], version.text());
            let old = version < Version::V1_0_0;
            assert_eq!(document["ips"][0].get("version").is_some(), old, "{version:?}");
            assert_eq!(document["ips"][1]["address"], "fd00::5/128");
            assert_eq!(document["interfaces"][1].get("mtu").is_some(), version == Version::V1_1_0);
            let mut expected = attached();
            if version != Version::V1_1_0 {
                expected.interfaces[1].mtu = None;
                expected.routes[0].mtu = None;
            }
            let object = document.as_object().unwrap();
            assert_eq!(Attached::parse(&Fields::root(object)).unwrap(), expected);
        }
    }

    #[test]
    fn the_result_of_earlier_plugins_stays_in_front() {
        let previous = json!({"cniVersion": "1.0.0", "interfaces": [{"name": "lo"}], "routes": null, "dns": {"domain": "x"}});
        let document = attached().render(Version::V1_0_0, Some(&previous), None);
        assert_eq!(document["interfaces"].as_array().unwrap().len(), 3);
        assert_eq!(document["ips"][0]["interface"], 2);
        assert_eq!(document["dns"]["domain"], "x");
        assert_eq!(document["routes"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        // CNI 1.0.0 and 1.1.0, appendix "Examples": what `bridge` gives to the next plugin.
        let text = r#"{"ips":[{"address":"10.1.0.5/16","gateway":"10.1.0.1","interface":2}],
            "routes":[{"dst":"0.0.0.0/0"}],
            "interfaces":[{"name":"cni0","mac":"00:11:22:33:44:55"},{"name":"veth3243","mac":"55:44:33:22:11:11"},
            {"name":"eth0","mac":"99:88:77:66:55:44","sandbox":"/var/run/netns/blue"}],
            "dns":{"nameservers":["10.1.0.1"]}}"#;
        let document: Value = serde_json::from_str(text).unwrap();
        let read = Attached::parse(&Fields::root(document.as_object().unwrap())).unwrap();
        assert_eq!(read.addresses[0].length, 16);
        assert_eq!(read.interfaces[2].sandbox, "/var/run/netns/blue");
        assert_eq!(read.routes[0].gateway, None);
    }

    #[test]
    fn wrong_types_name_the_field() {
        for (text, field) in [
            (r#"{"ips":[{"address":5}]}"#, "ips[0].address"),
            (r#"{"ips":[{}]}"#, "ips[0].address"),
            (r#"{"ips":[{"address":"10.0.0.1/33"}]}"#, "ips[0].address"),
            (r#"{"interfaces":{}}"#, "interfaces"),
            (r#"{"interfaces":[{"name":"a"},7]}"#, "interfaces[1]"),
            (r#"{"routes":[{"dst":"nowhere"}]}"#, "routes[0].dst"),
        ] {
            let document: Value = serde_json::from_str(text).unwrap();
            let failure = Attached::parse(&Fields::root(document.as_object().unwrap())).unwrap_err();
            assert!(failure.msg.contains(&format!("`{field}`")), "{}", failure.msg);
            assert_eq!(failure.code, api::cni::code::INVALID_CONFIG);
        }
    }
}
