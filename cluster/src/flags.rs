//! The command lines of a control plane's components: which flags matter, and what goes with them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::control_plane::{Component, ControlPlane};

/// Where etcd listens, on loopback of the namespace.
pub(crate) const ETCD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2379);

/// The range of ClusterIPs of each family, and the address of the Service `kubernetes` in the first.
const SERVICES: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/108"];
pub(crate) const KUBERNETES_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// The address of the Service `kube-dns` in it.
pub(crate) const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Where `--allocate-node-cidrs` takes the pod ranges of nodes from.
const PODS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/48"];

/// Who issues the tokens of service accounts.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

impl ControlPlane {
    pub(crate) fn flags(&self, component: Component) -> Vec<String> {
        match component {
            Component::Etcd => self.etcd(),
            Component::ApiServer => self.api_server(),
            Component::ControllerManager => self.controller_manager(),
            Component::Scheduler => self.scheduler(),
        }
    }

    fn etcd(&self) -> Vec<String> {
        let (client, peer) = (format!("http://{ETCD}"), "http://127.0.0.1:2380");
        vec![
            format!("--data-dir={}", self.etcd_data().display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            // A cluster that goes with its directory need not survive the machine.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    fn api_server(&self) -> Vec<String> {
        let file = |name: &str| self.pki().file(name).display().to_string();
        let address = self.address();
        vec![
            format!("--etcd-servers=http://{ETCD}"),
            format!("--advertise-address={}", address.ip()),
            format!("--secure-port={}", address.port()),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--cert-dir={}", self.certificate_directory().display()),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--service-cluster-ip-range={}", self.families(SERVICES)),
            format!("--service-account-issuer={ISSUER}"),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            format!("--kubelet-client-certificate={}", file("apiserver-kubelet.crt")),
            format!("--kubelet-client-key={}", file("apiserver-kubelet.key")),
            format!("--kubelet-certificate-authority={}", file("ca.crt")),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            format!("--proxy-client-cert-file={}", file("front-proxy.crt")),
            format!("--proxy-client-key-file={}", file("front-proxy.key")),
            "--enable-aggregator-routing=true".to_owned(),
        ]
    }

    fn controller_manager(&self) -> Vec<String> {
        let file = |name: &str| self.pki().file(name).display().to_string();
        let kubeconfig = file("kube-controller-manager.kubeconfig");
        let masks: &[&str] = if self.is_dual_stack() {
            &["--node-cidr-mask-size-ipv4=24", "--node-cidr-mask-size-ipv6=64"]
        } else {
            &["--node-cidr-mask-size=24"]
        };
        let mut flags = vec![
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--leader-elect=false".to_owned(),
            "--allocate-node-cidrs=true".to_owned(),
            format!("--cluster-cidr={}", self.families(PODS)),
            format!("--service-cluster-ip-range={}", self.families(SERVICES)),
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", file("sa.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--cluster-signing-cert-file={}", file("ca.crt")),
            format!("--cluster-signing-key-file={}", file("ca.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
            self.controllers().to_owned(),
            format!("--cert-dir={}", self.certificate_directory().display()),
        ];
        flags.extend(masks.iter().map(|mask| (*mask).to_owned()));
        flags
    }

    /// Of what there is for each family, what this cluster has.
    fn families(&self, of: [&str; 2]) -> String {
        of[..if self.is_dual_stack() { 2 } else { 1 }].join(",")
    }

    fn controllers(&self) -> &'static str {
        if self.nodes().is_some() {
            return "--controllers=*,bootstrapsigner,tokencleaner";
        }
        // No kubelet says that its node lives: nodes would be tainted and their pods removed.
        "--controllers=*,bootstrapsigner,tokencleaner,-node-lifecycle-controller"
    }

    fn scheduler(&self) -> Vec<String> {
        let kubeconfig = self.pki().file("kube-scheduler.kubeconfig").display().to_string();
        vec![
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            "--leader-elect=false".to_owned(),
            format!("--cert-dir={}", self.certificate_directory().display()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cluster as its record tells of it; nothing runs.
    fn flags(folder: &std::path::Path, dual_stack: bool) -> String {
        let nodes = serde_json::json!({
            "count": 2, "command": "/cluster", "images": [], "for_tests": false, "dual_stack": dual_stack
        });
        let record = serde_json::json!({
            "versions": crate::program::Versions::default(), "binaries": "/", "controller_manager": true,
            "api_server_flags": [], "nodes": nodes, "image_archives": [], "images": "/"
        });
        std::fs::write(folder.join("cluster.json"), record.to_string()).unwrap();
        let cluster = ControlPlane::open(folder).unwrap();
        [Component::ApiServer, Component::ControllerManager].map(|it| cluster.flags(it).join(" ")).join(" ")
    }

    #[test]
    fn ranges_are_of_one_family_or_of_both() {
        let folder = tempfile::tempdir().unwrap();
        let both = flags(folder.path(), true);
        assert_eq!(both.matches("--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/108").count(), 2);
        assert!(both.contains("--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"), "{both}");
        // With two families Kubernetes refuses the one size for both.
        assert!(both.contains("--node-cidr-mask-size-ipv6=64") && !both.contains("mask-size="), "{both}");
        let one = flags(folder.path(), false);
        assert!(one.contains("--node-cidr-mask-size=24") && !one.contains("fd00"), "{one}");
    }
}
