//! The `CNI_*` variables (CNI 1.1 §"Parameters"), checked together: one error names everything that is wrong.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use api::cni::{AttachmentId, Failure, code};

use crate::arguments::Arguments;

/// The variables by name, as the process got them.
pub(crate) type Variables = BTreeMap<String, OsString>;

/// What is to be done, with the variables that it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Version,
    Add(Container),
    Del(AttachmentId),
    Check(Container),
    Status,
    Gc,
}

/// A container to attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: AttachmentId,
    pub(crate) netns: PathBuf,
    pub(crate) arguments: Arguments,
}

/// Reads the variables.
pub(crate) fn read(variables: &Variables) -> Result<Call, Failure> {
    let mut reader = Reader { variables, wrong: Vec::new() };
    let call = match reader.needed("CNI_COMMAND").as_str() {
        "VERSION" => Call::Version,
        "ADD" => Call::Add(reader.container()),
        "CHECK" => Call::Check(reader.container()),
        "DEL" => Call::Del(reader.id()),
        "STATUS" => Call::Status,
        "GC" => Call::Gc,
        "" => {
            // What every command for a container needs is told at once.
            reader.container();
            return Err(reader.failure());
        }
        other => {
            reader.wrong.push(format!(
                "CNI_COMMAND is {other:?}, it must be one of ADD, DEL, CHECK, GC, STATUS, VERSION"
            ));
            Call::Version
        }
    };
    if reader.wrong.is_empty() { Ok(call) } else { Err(reader.failure()) }
}

struct Reader<'a> {
    variables: &'a Variables,
    wrong: Vec<String>,
}

impl Reader<'_> {
    fn failure(&self) -> Failure {
        Failure {
            code: code::INVALID_ENVIRONMENT,
            msg: format!(
                "environment of ferrule-cni: {}; a container runtime sets these variables, by hand use cnitool",
                self.wrong.join("; ")
            ),
            details: String::new(),
        }
    }

    fn optional(&mut self, name: &str) -> Option<String> {
        let value = self.variables.get(name).filter(|value| !value.is_empty())?;
        match value.to_str() {
            Some(text) => Some(text.to_owned()),
            None => {
                self.wrong.push(format!("{name} is not UTF-8"));
                None
            }
        }
    }

    fn needed(&mut self, name: &str) -> String {
        let before = self.wrong.len();
        let value = self.optional(name);
        if value.is_none() && self.wrong.len() == before {
            self.wrong.push(format!("{name} is missing"));
        }
        value.unwrap_or_default()
    }

    fn container(&mut self) -> Container {
        let id = self.id();
        let netns = PathBuf::from(self.needed("CNI_NETNS"));
        let text = self.optional("CNI_ARGS").unwrap_or_default();
        let arguments = Arguments::parse(&text).unwrap_or_else(|why| {
            self.wrong.push(format!("CNI_ARGS {why}"));
            Arguments::default()
        });
        Container { id, netns, arguments }
    }

    fn id(&mut self) -> AttachmentId {
        let container_id = self.needed("CNI_CONTAINERID");
        if !container_id.is_empty() && !is_identifier(&container_id) {
            self.wrong.push(format!(
                "CNI_CONTAINERID {container_id:?} must start with a letter or digit and hold only those, `_`, `.` and `-`"
            ));
        }
        let interface = self.needed("CNI_IFNAME");
        if let Some(why) = interface_fault(&interface) {
            self.wrong.push(format!("CNI_IFNAME {interface:?} {why}"));
        }
        AttachmentId { container_id, interface }
    }
}

/// CNI 1.1: container ids and network names.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// What Linux and CNI 1.1 forbid in the name of an interface (`dev_valid_name` of the kernel).
fn interface_fault(name: &str) -> Option<&'static str> {
    if name.len() > 15 {
        Some("is longer than 15 characters")
    } else if matches!(name, "." | "..") {
        Some("is a folder, not a name")
    } else if name.contains(|c: char| matches!(c, '/' | ':') || c.is_whitespace() || c.is_control()) {
        Some("may not contain `/`, `:` or white space")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), OsString::from(*value))).collect()
    }

    #[test]
    fn all_that_is_missing_or_wrong_is_named_at_once() {
        let failure = read(&variables(&[
            ("CNI_COMMAND", "ADD"),
            ("CNI_IFNAME", "this-name-is-too-long"),
            ("CNI_ARGS", "rubbish"),
        ]))
        .unwrap_err();
        assert_eq!(failure.code, code::INVALID_ENVIRONMENT);
        for name in ["CNI_CONTAINERID is missing", "CNI_NETNS is missing", "CNI_IFNAME", "15", "CNI_ARGS"] {
            assert!(failure.msg.contains(name), "{name}: {}", failure.msg);
        }
        let nothing = read(&variables(&[])).unwrap_err();
        for name in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            assert!(nothing.msg.contains(name), "{}", nothing.msg);
        }
        assert!(read(&variables(&[("CNI_COMMAND", "add")])).unwrap_err().msg.contains("\"add\""));
    }

    #[test]
    fn names_that_linux_or_the_specification_refuses() {
        for bad in [".", "..", "a/b", "a:b", "a b", "a\tb", "1234567890123456"] {
            assert!(interface_fault(bad).is_some(), "{bad:?}");
        }
        for good in ["eth0", "net-1.5", "123456789012345"] {
            assert_eq!(interface_fault(good), None);
        }
        for bad in ["", "-a", "a/b", "ä", "a b"] {
            assert!(!is_identifier(bad), "{bad:?}");
        }
        assert!(is_identifier("0a_B.c-9"));
    }

    #[test]
    fn del_needs_no_namespace_and_version_needs_nothing() {
        let del = variables(&[("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "eth0")]);
        assert!(matches!(read(&del), Ok(Call::Del(_))));
        assert_eq!(read(&variables(&[("CNI_COMMAND", "VERSION")])), Ok(Call::Version));
        assert_eq!(read(&variables(&[("CNI_COMMAND", "STATUS")])), Ok(Call::Status));
    }
}
