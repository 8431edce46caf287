//! Delegated IPAM plugins, called as CNI 1.1 §"Delegated plugins" prescribes: found in `CNI_PATH`, given our environment and
//! configuration in the newest version that both speak. It must not know what becomes of the addresses.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use api::cni::{AttachmentId, Delegate, Failure, code};
use serde_json::{Map, Value, json};

use crate::fields::{Fields, invalid};
use crate::result::Attached;
use crate::version::Version;

/// How long a plugin may take for one command.
const PATIENCE: Duration = Duration::from_secs(20);
/// An answer is a few lines.
const ANSWER_LIMIT: u64 = 1 << 20;

/// What an IPAM plugin gave.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) dns: Option<Value>,
}

/// Has addresses allocated.
pub(crate) fn add(delegate: &Delegate, id: &AttachmentId) -> Result<Given, Failure> {
    let answer = call(delegate, Some(id), "ADD", None)?;
    given(delegate, &answer).inspect_err(|_| {
        // What cannot be used is not kept; why it cannot be is what has to be told.
        let _ = del(delegate, id);
    })
}

fn given(delegate: &Delegate, answer: &str) -> Result<Given, Failure> {
    let bad = |why: &str| Failure {
        code: code::IPAM_PLUGIN,
        msg: format!(
            "IPAM plugin `{}` answered ADD with something that is no result: {why}",
            delegate.plugin
        ),
        details: answer.chars().take(400).collect(),
    };
    let document: Value = serde_json::from_str(answer).map_err(|error| bad(&error.to_string()))?;
    let object = document.as_object().ok_or_else(|| bad("it is not an object"))?;
    let result = Attached::parse(&Fields::root(object)).map_err(|failure| bad(&failure.msg))?;
    let addresses: Vec<_> = result.addresses.iter().map(|one| one.address).collect();
    if addresses.is_empty() {
        return Err(bad("it has no address in `ips`"));
    }
    for (at, address) in addresses.iter().enumerate() {
        if addresses[..at].iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
            return Err(bad(&format!(
                "{address} is the second address of its family, one is what a pod has"
            )));
        }
        if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
            return Err(bad(&format!("{address} is no address of a host")));
        }
    }
    let dns = object.get("dns").filter(|dns| dns.as_object().is_some_and(|dns| !dns.is_empty())).cloned();
    Ok(Given { addresses, dns })
}

/// Gives addresses back.
pub(crate) fn del(delegate: &Delegate, id: &AttachmentId) -> Result<(), Failure> {
    call(delegate, Some(id), "DEL", None).map(drop)
}

/// Has the plugin compare; `previous` is what ADD answered.
pub(crate) fn check(delegate: &Delegate, id: &AttachmentId, previous: Option<&Value>) -> Result<(), Failure> {
    call(delegate, Some(id), "CHECK", previous).map(drop)
}

/// Asks the plugin whether it can give addresses; one that is older than STATUS only has to be there.
pub(crate) fn status(delegate: &Delegate) -> Result<(), Failure> {
    if version(delegate)? < Version::V1_1_0 {
        return Ok(());
    }
    call(delegate, None, "STATUS", None).map(drop)
}

/// Lets the plugin collect garbage, if it is not older than GC. `valid` is the list of what is in use, as we got it.
pub(crate) fn collect(delegate: &Delegate, valid: &Value) -> Result<(), Failure> {
    if version(delegate)? < Version::V1_1_0 {
        return Ok(());
    }
    let mut delegate = delegate.clone();
    if let Some(config) = delegate.config.as_object_mut() {
        config.insert("cni.dev/valid-attachments".into(), valid.clone());
    }
    call(&delegate, None, "GC", None).map(drop)
}

/// The newest version that the plugin speaks and that is not newer than the configuration's.
fn version(delegate: &Delegate) -> Result<Version, Failure> {
    let ours = delegate.config.get("cniVersion").and_then(Value::as_str).and_then(Version::parse);
    let ours = ours.unwrap_or(Version::LATEST);
    let answer = run(delegate, None, "VERSION", &json!({ "cniVersion": ours.text() }))?;
    let document: Value = serde_json::from_str(&answer).unwrap_or_default();
    let listed = document.get("supportedVersions").and_then(Value::as_array);
    let theirs = listed.into_iter().flatten().filter_map(|text| Version::parse(text.as_str()?));
    theirs.filter(|version| *version <= ours).max().ok_or_else(|| Failure {
        code: code::INCOMPATIBLE_VERSION,
        msg: format!(
            "IPAM plugin `{}` speaks no CNI version from 0.3.1 to {}: use another release of it, or change cniVersion",
            delegate.plugin,
            ours.text()
        ),
        details: answer.chars().take(400).collect(),
    })
}

fn call(
    delegate: &Delegate,
    id: Option<&AttachmentId>,
    command: &str,
    previous: Option<&Value>,
) -> Result<String, Failure> {
    let version = version(delegate)?;
    if command == "CHECK" && version < Version::V0_4_0 {
        return Ok(String::new());
    }
    let mut config = delegate.config.as_object().cloned().unwrap_or_else(Map::new);
    config.insert("cniVersion".into(), version.text().into());
    if let Some(previous) = previous {
        let mut previous = previous.clone();
        if let Some(previous) = previous.as_object_mut() {
            // Both versions in a document have to be the same.
            previous.insert("cniVersion".into(), version.text().into());
        }
        config.insert("prevResult".into(), previous);
    }
    run(delegate, id, command, &Value::Object(config))
}

fn run(
    delegate: &Delegate,
    id: Option<&AttachmentId>,
    command: &str,
    config: &Value,
) -> Result<String, Failure> {
    let name = &delegate.plugin;
    let failed = |code: u32, what: String| Failure {
        code,
        msg: format!("IPAM plugin `{name}`: {command} {what}"),
        details: String::new(),
    };
    let io = |what: &str, error: std::io::Error| failed(code::IO, format!("cannot {what}: {error}"));
    let mut process = Command::new(find(delegate)?);
    process.env("CNI_COMMAND", command).env("CNI_PATH", &delegate.path);
    let none = String::new();
    let (container, interface) = id.map_or((&none, &none), |id| (&id.container_id, &id.interface));
    for (variable, value) in [
        ("CNI_CONTAINERID", container),
        ("CNI_IFNAME", interface),
        ("CNI_NETNS", &delegate.netns),
        ("CNI_ARGS", &delegate.args),
    ] {
        process.env(variable, value);
    }
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = process.spawn().map_err(|error| io("be started", error))?;
    let (sender, answers) = mpsc::channel();
    let text = config.to_string();
    if let Some(mut input) = child.stdin.take() {
        // A plugin that does not read tells by its answer.
        std::thread::spawn(move || drop(input.write_all(text.as_bytes())));
    }
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    std::thread::spawn(move || drop(sender.send((read(output), read(errors)))));
    let Ok((output, errors)) = answers.recv_timeout(PATIENCE) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(failed(code::TRY_AGAIN, format!("did not end within {} s", PATIENCE.as_secs())));
    };
    let status = child.wait().map_err(|error| io("be waited for", error))?;
    if status.success() {
        return Ok(output);
    }
    // Codes below 100 mean the same for every plugin, those above are its own.
    let said: Value = serde_json::from_str(&output).unwrap_or_default();
    let text = |field: &str| said.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let said_code = said.get("code").and_then(Value::as_u64).and_then(|code| u32::try_from(code).ok());
    let mut failure = failed(code::IPAM_PLUGIN, format!("failed: {}", text("msg")));
    failure.details = text("details");
    match said_code {
        Some(code) if (1..100).contains(&code) => failure.code = code,
        Some(_) if said.get("msg").is_some() => {}
        _ => {
            failure.msg = format!("IPAM plugin `{name}`: {command} ended with {status} and no CNI error");
            failure.details = format!("{output}{errors}").chars().take(400).collect();
        }
    }
    Err(failure)
}

fn read(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read before an error is better than nothing.
        let _ = from.take(ANSWER_LIMIT).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn find(delegate: &Delegate) -> Result<PathBuf, Failure> {
    let folders = OsString::from(&delegate.path);
    let folders = std::env::split_paths(&folders).filter(|path| path.is_absolute());
    let mut files = folders.map(|folder| folder.join(&delegate.plugin));
    files.find(|path| path.is_file()).ok_or_else(|| {
        invalid(format!(
            "field `ipam.type` names the plugin `{}`, which is in none of the folders of CNI_PATH ({})",
            delegate.plugin,
            if delegate.path.is_empty() { "it is empty" } else { &delegate.path }
        ))
    })
}

#[cfg(test)]
#[path = "plugin_tests.rs"]
mod tests;
