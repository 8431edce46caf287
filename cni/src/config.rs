//! The network configuration that the runtime writes to standard input (CNI 1.1 §"Execution configuration"), parsed and
//! checked. It must not know what is done with it.

use std::net::IpAddr;
use std::path::PathBuf;

use api::cni::{AttachmentId, Delegate, Failure, code};
use network::Mac;
use serde_json::{Map, Value};

use crate::arguments::address;
use crate::environment::is_identifier;
use crate::fields::{Fields, invalid};
use crate::result::Attached;
use crate::version::Version;

/// Where the agent listens.
const AGENT_SOCKET: &str = "/run/ferrule/cni.sock";
/// Where tombstones are left.
const STATE_DIRECTORY: &str = "/var/lib/ferrule";
/// The smallest MTU of IPv4 (RFC 791) and the greatest of Ethernet devices on Linux.
const MTU_RANGE: std::ops::RangeInclusive<u64> = 68..=65_535;

/// A checked configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) version: Version,
    /// The name of the network.
    pub(crate) name: String,
    pub(crate) agent_socket: PathBuf,
    pub(crate) state_directory: PathBuf,
    /// An upper limit for the interface's MTU.
    pub(crate) mtu: Option<u32>,
    /// The IPAM plugin, when the `ipam` object names one; its environment is not the configuration's to know.
    pub(crate) ipam: Option<Delegate>,
    /// Passed on into the result.
    pub(crate) dns: Option<Value>,
    /// Addresses asked for by the runtime (capability `ips`).
    pub(crate) addresses: Vec<IpAddr>,
    /// Ethernet address asked for by the runtime (capability `mac`).
    pub(crate) mac: Option<Mac>,
    /// The result of the plugins before this one, or of this one's ADD, as written.
    pub(crate) previous: Option<Value>,
    /// GC: what is in use; `None` when the runtime did not say.
    pub(crate) valid: Option<Vec<AttachmentId>>,
}

/// The JSON object on standard input.
pub(crate) fn decode(input: &[u8]) -> Result<Map<String, Value>, Failure> {
    let failure = |what: String| Failure {
        code: code::DECODE,
        msg: format!("the network configuration on standard input {what}: write one JSON object (CNI 1.1)"),
        details: String::from_utf8_lossy(&input[..input.len().min(200)]).into_owned(),
    };
    match serde_json::from_slice(input) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(failure("is not an object".into())),
        Err(_) if input.trim_ascii().is_empty() => Err(failure("is empty".into())),
        Err(error) => Err(failure(format!("is not JSON ({error})"))),
    }
}

/// The version that the configuration asks for. CNI 0.2 and before had no such field, which is none of ours.
pub(crate) fn version(object: &Map<String, Value>) -> Result<Version, Failure> {
    let text = Fields::root(object).text("cniVersion", "a version as \"1.1.0\"")?.unwrap_or("0.1.0");
    Version::parse(text).ok_or_else(|| Version::incompatible(text))
}

impl Config {
    pub(crate) fn parse(object: &Map<String, Value>) -> Result<Self, Failure> {
        let version = version(object)?;
        let fields = Fields::root(object);
        let what = "the network's name: letters, digits, `_`, `.` and `-`, starting with a letter or digit";
        let name = fields.text("name", what)?.ok_or_else(|| fields.missing("name", what))?;
        if !is_identifier(name) {
            return Err(fields.wrong("name", &name.into(), what));
        }
        // The runtime chose us by it; a value that is no name is a slip somewhere else in the file.
        fields.text("type", "the plugin's name, \"ferrule-cni\"")?;
        let mtu = fields.number("mtu", "a number from 68 to 65535")?;
        if let Some(mtu) = mtu.filter(|mtu| !MTU_RANGE.contains(mtu)) {
            return Err(fields.wrong("mtu", &mtu.into(), "a number from 68 to 65535"));
        }
        let (addresses, mac) = wishes(&fields)?;
        Ok(Self {
            version,
            name: name.to_owned(),
            agent_socket: path(&fields, "agentSocket", AGENT_SOCKET)?,
            state_directory: path(&fields, "stateDir", STATE_DIRECTORY)?,
            // The range was checked.
            mtu: mtu.and_then(|mtu| u32::try_from(mtu).ok()),
            ipam: delegated(&fields, object)?,
            dns: dns(&fields)?,
            addresses,
            mac,
            previous: fields
                .object("prevResult", "the result of an earlier plugin or ADD")
                .map(|previous| previous.and(fields.get("prevResult").cloned()))?,
            valid: valid(&fields)?,
        })
    }
}

impl Config {
    /// What CHECK compares with. Read only then: a DEL must not fail over what some other plugin wrote there.
    pub(crate) fn attached(&self) -> Result<Attached, Failure> {
        match self.previous.as_ref().and_then(Value::as_object) {
            Some(object) => Attached::parse(&Fields::of("prevResult", object)),
            None => Err(invalid(
                "field `prevResult` is missing, CHECK compares with it: it must be the result of ADD".into(),
            )),
        }
    }
}

fn path(fields: &Fields<'_>, name: &str, default: &str) -> Result<PathBuf, Failure> {
    let what = "an absolute path";
    let text = fields.text(name, what)?.unwrap_or(default);
    if text.starts_with('/') { Ok(text.into()) } else { Err(fields.wrong(name, &text.into(), what)) }
}

/// The plugin that the `ipam` object names; ours is built in and may be called `ferrule`.
fn delegated(fields: &Fields<'_>, object: &Map<String, Value>) -> Result<Option<Delegate>, Failure> {
    let Some(ipam) = fields.object("ipam", "an object with a `type`")? else { return Ok(None) };
    let what = "the name of an IPAM plugin, or \"ferrule\" for the built-in one";
    let name = ipam.text("type", what)?.unwrap_or("ferrule");
    if name.contains('/') || matches!(name, "." | "..") {
        return Err(ipam.wrong("type", &name.into(), what));
    }
    if matches!(name, "" | "ferrule") {
        return Ok(None);
    }
    let mut config = object.clone();
    // Long, and of no use to the plugin but where it is given anew.
    for list in ["prevResult", VALID[0], VALID[1]] {
        config.remove(list);
    }
    Ok(Some(Delegate {
        plugin: name.to_owned(),
        path: String::new(),
        netns: String::new(),
        args: String::new(),
        config: Value::Object(config),
    }))
}

fn dns(fields: &Fields<'_>) -> Result<Option<Value>, Failure> {
    let Some(dns) = fields.object("dns", "an object with `nameservers`, `domain`, `search`, `options`")?
    else {
        return Ok(None);
    };
    for name in ["nameservers", "search", "options"] {
        dns.parsed(name, "a list of strings", |text| Ok::<_, std::convert::Infallible>(text.len()))?;
    }
    dns.text("domain", "a string")?;
    Ok(fields.get("dns").cloned())
}

/// Addresses and Ethernet address asked for: capabilities (`runtimeConfig`) or `args.cni` (CNI conventions).
fn wishes(fields: &Fields<'_>) -> Result<(Vec<IpAddr>, Option<Mac>), Failure> {
    let mut sources = Vec::new();
    sources.extend(fields.object("runtimeConfig", "an object")?);
    if let Some(args) = fields.object("args", "an object")? {
        sources.extend(args.object("cni", "an object")?);
    }
    let (mut addresses, mut mac) = (Vec::new(), None);
    for source in sources {
        for asked in source.parsed("ips", "a list of addresses as \"10.244.1.5\"", address)? {
            if !addresses.contains(&asked) {
                addresses.push(asked);
            }
        }
        let what = "an Ethernet address as \"0a:58:0a:f4:01:05\"";
        if let Some(text) = source.text("mac", what)?.filter(|text| !text.is_empty()) {
            mac = Some(text.parse().map_err(|_| source.wrong("mac", &text.into(), what))?);
        }
    }
    Ok((addresses, mac))
}

/// The list of what is in use, and the name that it had in drafts.
const VALID: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

fn valid(fields: &Fields<'_>) -> Result<Option<Vec<AttachmentId>>, Failure> {
    let Some(name) = VALID.into_iter().find(|name| fields.has(name)) else { return Ok(None) };
    let what = "a list of objects with `containerID` and `ifname`";
    let entries = fields.objects(name, what)?.into_iter();
    let parsed = entries.map(|entry| {
        let get = |name| entry.text(name, "a string")?.ok_or_else(|| entry.missing(name, "a string"));
        Ok(AttachmentId { container_id: get("containerID")?.into(), interface: get("ifname")?.into() })
    });
    parsed.collect::<Result<_, Failure>>().map(Some)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
