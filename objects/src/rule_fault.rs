//! Why a part of a policy is not understood, and what to write instead.

use std::fmt;

use network::{Cidr, CidrError};

/// What a fault makes match nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RulePart {
    /// The whole rule.
    Rule,
    /// One peer of it.
    Peer,
    /// One port of it.
    Port,
}

impl fmt::Display for RulePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rule => "rule",
            Self::Peer => "peer",
            Self::Port => "port",
        })
    }
}

/// Why a part of a policy is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleFault {
    /// A type is wrong.
    #[error("{0}")]
    Type(String),
    /// A field that is not known here.
    #[error("the field `{name}` is unknown here (known: {known})")]
    Field {
        /// The field.
        name: String,
        /// What may stand here.
        known: String,
    },
    /// No CIDR.
    #[error("{}", in_short(.0))]
    Cidr(CidrError),
    /// A hole outside its block.
    #[error("the exception {except} is not a smaller part of {cidr}")]
    Except {
        /// The hole.
        except: Cidr,
        /// The block.
        cidr: Cidr,
    },
    /// A peer that names nobody.
    #[error("the peer has neither podSelector, namespaceSelector nor ipBlock")]
    EmptyPeer,
    /// A peer that mixes addresses and selectors.
    #[error("an ipBlock cannot stand beside a selector in one peer")]
    MixedPeer,
    /// An operator that does not exist.
    #[error("`{0}` is not an operator of a selector")]
    Operator(String),
    /// `In` or `NotIn` without values.
    #[error("the operator {0} needs at least one value")]
    NoValues(String),
    /// `Exists` or `DoesNotExist` with values.
    #[error("the operator {0} takes no values")]
    Values(String),
    /// The key of a label is malformed.
    #[error("`{0}` cannot be the key of a label")]
    Key(String),
    /// The value of a label is malformed.
    #[error("`{0}` cannot be the value of a label")]
    Value(String),
    /// No protocol.
    #[error("`{0}` is not a protocol")]
    Protocol(String),
    /// No port number.
    #[error("{0} is not a port")]
    PortNumber(i64),
    /// No port name.
    #[error("`{0}` cannot be the name of a port")]
    PortName(String),
    /// The range ends before it begins.
    #[error("the port range {first} to {last} is reversed")]
    Reversed {
        /// Its beginning.
        first: i64,
        /// Its end.
        last: i64,
    },
    /// `endPort` without a number to begin with.
    #[error("endPort stands beside no port number")]
    EndPortAlone,
    /// No policy type.
    #[error("`{0}` is not a policy type")]
    PolicyType(String),
    /// A field that has to be there.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// No priority.
    #[error("{0} is not a priority")]
    Priority(String),
    /// A text that is none of the few that are known.
    #[error("{found} is not known as {what}")]
    NotOneOf {
        /// What it should be.
        what: &'static str,
        /// What stands there.
        found: String,
        /// What may stand there.
        known: String,
    },
    /// Of several fields exactly one has to be set.
    #[error("{found} of {known} are set, not exactly one")]
    NotOne {
        /// How many are.
        found: usize,
        /// Which fields.
        known: String,
    },
    /// A list without content.
    #[error("the list of {0} is empty")]
    NoItems(&'static str),
    /// An item of a set that stands in it twice.
    #[error("{0} stands in the list twice")]
    Twice(String),
    /// A list that is too long.
    #[error("{found} {what} are too many")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
        /// How many there are.
        found: usize,
    },
    /// A named port beside peers that have no named ports.
    #[error("nodes, networks and domainNames have no named ports")]
    NamedPortWithoutPods,
    /// An IPv4 prefix in the clothes of IPv6.
    #[error("{0} is IPv4 written as IPv6")]
    MappedCidr(Cidr),
    /// A range whose end is not above its start.
    #[error("the port range {first} to {last} has not two ports")]
    EmptyRange {
        /// Its start.
        first: i64,
        /// Its end.
        last: i64,
    },
}

/// The error without the cure that it carries itself.
pub(crate) fn in_short(error: &CidrError) -> String {
    match error {
        CidrError::Malformed(text) => format!("`{text}` is not a CIDR"),
        CidrError::TooLong { .. } => error.to_string(),
    }
}

impl RuleFault {
    pub(crate) fn cure(&self) -> String {
        match self {
            Self::Type(_) => {
                "write the type that the API wants (a text that looks like a number needs quotes)".into()
            }
            Self::Field { .. } => "check the spelling and the indentation".into(),
            Self::Cidr(_) => "write ADDRESS/LENGTH, for example 10.0.0.0/8 or fd00::/48".into(),
            Self::Except { .. } => "make each `except` a longer prefix inside `cidr`".into(),
            Self::EmptyPeer => {
                "name a selector or a block; to allow everybody leave `from` or `to` out".into()
            }
            Self::MixedPeer => "make two peers of it".into(),
            Self::Operator(_) => "use In, NotIn, Exists or DoesNotExist".into(),
            Self::NoValues(_) => "list values, or use Exists or DoesNotExist".into(),
            Self::Values(_) => "leave the values out, or use In or NotIn".into(),
            Self::Key(_) => {
                "write [PREFIX/]NAME of letters, digits, `-`, `_` and `.`, at most 63 each name".into()
            }
            Self::Value(_) => {
                "write at most 63 letters, digits, `-`, `_` and `.`, a letter or digit at both ends".into()
            }
            Self::Protocol(_) => "write TCP, UDP or SCTP, in capitals".into(),
            Self::PortNumber(_) => "write a number from 1 to 65535".into(),
            Self::PortName(name) if name.parse::<u16>().is_ok() => format!("write {name} without quotes"),
            Self::PortName(_) => "write at most 15 small letters, digits and `-`, at least one letter".into(),
            Self::Reversed { .. } => {
                "put the smaller number into `port` and the larger into `endPort`".into()
            }
            Self::EndPortAlone => "put the first number of the range into `port`".into(),
            Self::PolicyType(_) => "write Ingress, Egress or both".into(),
            Self::Missing(field) => format!("write {field}"),
            Self::Priority(_) => "write a number from 0 to 1000".into(),
            Self::NotOneOf { known, .. } => format!("write one of {known}"),
            Self::NotOne { .. } => "set exactly one of them".into(),
            Self::Twice(_) => "keep one of them".into(),
            Self::NoItems(_) => "list at least one".into(),
            Self::TooMany { most, .. } => format!("list at most {most}, or make several of it"),
            Self::NamedPortWithoutPods => {
                "write the port's number, or name pods or namespaces as peers".into()
            }
            Self::MappedCidr(_) => "write it as IPv4".into(),
            Self::EmptyRange { .. } => {
                "write `number` for one port, else put the larger number into `end`".into()
            }
        }
    }
}
