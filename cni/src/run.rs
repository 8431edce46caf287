//! One call of the binary from its inputs to its output: which command, which version, how an error is written.

use api::cni::{Command, Failure, code};
use serde_json::{Value, json};

use crate::agent::{Agent, PATIENCE};
use crate::config::{Config, decode, version};
use crate::environment::{Call, Variables, read};
use crate::version::Version;
use crate::{add, check, delete, plugin};

/// What the process prints and how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Standard output: a result, an error, or nothing.
    pub output: String,
    /// Whether the exit code is 0.
    pub success: bool,
}

/// Does what the `CNI_*` variables and the configuration say.
pub fn run(variables: &Variables, input: &[u8]) -> Outcome {
    match call(variables, input) {
        Ok(Some(document)) => Outcome { output: format!("{document:#}\n"), success: true },
        Ok(None) => Outcome { output: String::new(), success: true },
        Err(failure) => {
            // CNI 1.1 §"Error": the version is the one that was provided, where it can be used.
            let version = decode(input).and_then(|object| version(&object)).unwrap_or(Version::LATEST);
            let mut document =
                json!({"cniVersion": version.text(), "code": failure.code, "msg": failure.msg});
            if !failure.details.is_empty() {
                document["details"] = failure.details.into();
            }
            Outcome { output: format!("{document:#}\n"), success: false }
        }
    }
}

fn call(variables: &Variables, input: &[u8]) -> Result<Option<Value>, Failure> {
    let call = read(variables)?;
    if call == Call::Version {
        return Ok(Some(versions(input)));
    }
    let mut config = Config::parse(&decode(input)?)?;
    if let Some(delegate) = &mut config.ipam {
        let variable = |name: &str| variables.get(name).map(|value| value.to_string_lossy().into_owned());
        delegate.path = variable("CNI_PATH").unwrap_or_default();
        delegate.netns = variable("CNI_NETNS").unwrap_or_default();
        delegate.args = variable("CNI_ARGS").unwrap_or_default();
    }
    let agent = Agent { socket: &config.agent_socket, patience: PATIENCE };
    match call {
        Call::Version => Ok(Some(versions(input))),
        Call::Add(container) => add::add(&config, &container, agent).map(Some),
        Call::Del(id) => delete::delete(&config, &id, agent).map(|()| None),
        Call::Check(container) => {
            since(&config, "CHECK", Version::V0_4_0)?;
            check::check(&config, &container, agent).map(|()| None)
        }
        Call::Status => {
            since(&config, "STATUS", Version::V1_1_0)?;
            status(&config, agent).map(|()| None)
        }
        Call::Gc => {
            since(&config, "GC", Version::V1_1_0)?;
            collect(&config, agent).map(|()| None)
        }
    }
}

/// CNI 1.1 §"VERSION": answered in the version that was asked in.
fn versions(input: &[u8]) -> Value {
    let asked = decode(input).ok().and_then(|object| object.get("cniVersion")?.as_str().map(str::to_owned));
    let asked = asked.unwrap_or_else(|| Version::LATEST.text().to_owned());
    json!({"cniVersion": asked, "supportedVersions": Version::ALL.map(Version::text)})
}

fn since(config: &Config, command: &str, first: Version) -> Result<(), Failure> {
    if config.version >= first {
        return Ok(());
    }
    Err(Failure {
        code: code::INCOMPATIBLE_VERSION,
        msg: format!(
            "{command} exists since CNI {}, network {} asks for {}: raise its cniVersion",
            first.text(),
            config.name,
            config.version.text()
        ),
        details: String::new(),
    })
}

/// CNI 1.1 §"STATUS". Without the agent no container can be added; what runs goes on, the switch forwards by itself.
fn status(config: &Config, agent: Agent<'_>) -> Result<(), Failure> {
    let unavailable = |msg: String| Failure { code: code::NOT_AVAILABLE, msg, details: String::new() };
    match agent.ask(Command::Status) {
        Ok(_) => {}
        Err(error) if error.is_away() => return Err(unavailable(error.to_string())),
        Err(error) => return Err(error.into()),
    }
    let Some(delegate) = &config.ipam else { return Ok(()) };
    plugin::status(delegate).map_err(|failure| match failure.code {
        code::NOT_AVAILABLE | code::NOT_AVAILABLE_LIMITED => failure,
        _ => Failure { details: failure.details, ..unavailable(failure.msg) },
    })
}

/// CNI 1.1 §"GC".
fn collect(config: &Config, agent: Agent<'_>) -> Result<(), Failure> {
    // cnitool sends no list. To take that for an empty one would cut off every container of the node; what needs no list,
    // the agent collects by itself.
    let Some(valid) = config.valid.clone() else { return Ok(()) };
    let listed =
        valid.iter().map(|id| json!({"containerID": id.container_id, "ifname": id.interface})).collect();
    agent.ask(Command::Gc { network: config.name.clone(), valid })?;
    match &config.ipam {
        Some(delegate) => plugin::collect(delegate, &Value::Array(listed)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(pairs: &[(&str, &str)], input: &str) -> (Value, bool) {
        let variables = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        let outcome = run(&variables, input.as_bytes());
        (serde_json::from_str(&outcome.output).unwrap_or(Value::Null), outcome.success)
    }

    #[test]
    fn version_needs_nothing_and_answers_in_the_version_asked() {
        let (document, success) = outcome(&[("CNI_COMMAND", "VERSION")], r#"{"cniVersion":"0.4.0"}"#);
        assert!(success);
        assert_eq!(
            document,
            json!({"cniVersion":"0.4.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]})
        );
        assert!(outcome(&[("CNI_COMMAND", "VERSION")], "").1);
    }

    #[test]
    fn errors_are_json_on_standard_output_with_a_failing_exit() {
        let (document, success) = outcome(&[], r#"{"cniVersion":"1.0.0","name":"n"}"#);
        assert!(!success);
        assert_eq!(document["cniVersion"], "1.0.0");
        assert_eq!(document["code"], 4);
        let (document, _) = outcome(&[("CNI_COMMAND", "STATUS")], "nonsense");
        assert_eq!((&document["cniVersion"], &document["code"]), (&"1.1.0".into(), &6.into()));
        let (document, _) = outcome(&[("CNI_COMMAND", "STATUS")], r#"{"cniVersion":"0.1.0","name":"n"}"#);
        assert_eq!(document["code"], 1);
    }

    #[test]
    fn commands_younger_than_the_configuration_are_refused() {
        let container = [
            ("CNI_CONTAINERID", "c"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", "/run/netns/no"),
            ("CNI_COMMAND", "CHECK"),
        ];
        let (document, _) = outcome(&container, r#"{"cniVersion":"0.3.1","name":"n"}"#);
        assert_eq!(document["code"], 1);
        let (document, _) = outcome(&[("CNI_COMMAND", "GC")], r#"{"cniVersion":"1.0.0","name":"n"}"#);
        assert_eq!(document["code"], 1);
    }

    #[test]
    fn status_and_gc_without_an_agent_and_gc_without_a_list() {
        let config = r#"{"cniVersion":"1.1.0","name":"n","agentSocket":"/run/ferrule-no-such/cni.sock"}"#;
        let (document, _) = outcome(&[("CNI_COMMAND", "STATUS")], config);
        assert_eq!(document["code"], code::NOT_AVAILABLE);
        assert!(outcome(&[("CNI_COMMAND", "GC")], config).1, "nothing is listed, and nothing is touched");
        let listed = config.replace("}", r#","cni.dev/valid-attachments":[]}"#);
        let (document, _) = outcome(&[("CNI_COMMAND", "GC")], &listed);
        assert_eq!(document["code"], code::AGENT_UNREACHABLE);
    }
}
