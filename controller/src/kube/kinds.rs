//! The kinds that are watched: the one list of them. Permissions, paths and messages follow from it.

/// A kind that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Its API group; empty for the core group.
    pub group: &'static str,
    /// The version of the group that is read.
    pub version: &'static str,
    /// Its name in paths, and in the watermark.
    pub plural: &'static str,
    /// It is defined by a custom resource, which may be absent, come later and go again.
    pub optional: bool,
}

/// Every kind that is watched.
pub const WATCHED: [Kind; 7] = [
    builtin("Node", "", "v1", "nodes"),
    builtin("Namespace", "", "v1", "namespaces"),
    builtin("Pod", "", "v1", "pods"),
    builtin("Service", "", "v1", "services"),
    builtin("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices"),
    builtin("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
    Kind {
        optional: true,
        ..builtin("ClusterNetworkPolicy", "policy.networking.k8s.io", "v1alpha2", "clusternetworkpolicies")
    },
];

const fn builtin(
    name: &'static str,
    group: &'static str,
    version: &'static str,
    plural: &'static str,
) -> Kind {
    Kind { name, group, version, plural, optional: false }
}

impl Kind {
    /// `v1`, `networking.k8s.io/v1`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// The path of the list of all objects.
    pub fn path(&self) -> String {
        match self.group {
            "" => format!("/api/{}/{}", self.version, self.plural),
            group => format!("/apis/{group}/{}/{}", self.version, self.plural),
        }
    }

    /// As `kubectl auth can-i` wants it: `pods`, `networkpolicies.networking.k8s.io`.
    pub fn resource(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names() {
        let policy = WATCHED.iter().find(|kind| kind.name == "NetworkPolicy").unwrap();
        assert_eq!(policy.path(), "/apis/networking.k8s.io/v1/networkpolicies");
        assert_eq!(policy.resource(), "networkpolicies.networking.k8s.io");
        assert_eq!(WATCHED[2].path(), "/api/v1/pods");
        assert_eq!(
            (WATCHED[2].api_version(), policy.api_version()),
            ("v1".into(), "networking.k8s.io/v1".into())
        );
    }
}
