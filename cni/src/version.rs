//! The versions of the CNI specification that are spoken.

use api::cni::{Failure, code};

/// A supported version, ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// Oldest first.
    pub(crate) const ALL: [Self; 4] = [Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// The one in which errors are written when the configuration names none that is known.
    pub(crate) const LATEST: Self = Self::V1_1_0;

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.text() == text)
    }

    pub(crate) fn incompatible(found: &str) -> Failure {
        let all = Self::ALL.map(Self::text).join(", ");
        Failure {
            code: code::INCOMPATIBLE_VERSION,
            msg: format!(
                "cniVersion {found:?} is not supported: write one of {all} into the network configuration"
            ),
            details: String::new(),
        }
    }
}
