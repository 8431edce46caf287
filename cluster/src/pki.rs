//! The certificates and kubeconfigs of a cluster, in one directory. An authority is its key and constant parameters, so that
//! certificates can be issued for as long as the directory is there.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use crate::error::{Context, Error, Result};

/// The group that may do everything, without any role.
pub const MASTERS: &str = "system:masters";

/// Where they are.
#[derive(Clone, Debug)]
pub struct Pki {
    directory: PathBuf,
}

/// The two authorities of a cluster.
#[derive(Clone, Copy, Debug)]
pub enum Authority {
    /// Of servers and users.
    Cluster,
    /// Of the proxy in front of aggregated API servers.
    FrontProxy,
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cluster => "ca",
            Self::FrontProxy => "front-proxy-ca",
        })
    }
}

/// A name in a certificate, as Kubernetes reads it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Common name: the user.
    pub user: &'a str,
    /// Organization: a group, if it is in one.
    pub group: Option<&'a str>,
}

impl Pki {
    /// In a directory; nothing is made yet.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// A file of it.
    pub fn file(&self, name: impl fmt::Display) -> PathBuf {
        self.directory.join(name.to_string())
    }

    /// The certificate of the authority that clients trust.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.crt")
    }

    /// Makes the authorities, the API server's certificates, the keys of service accounts, and the first users.
    pub fn prepare(&self, address: IpAddr, service: IpAddr) -> Result<()> {
        std::fs::create_dir_all(&self.directory).context(|| format!("make {}", self.directory.display()))?;
        for authority in [Authority::Cluster, Authority::FrontProxy] {
            let key = generate(authority)?;
            let certificate = parameters(authority).self_signed(&key).map_err(failed(authority))?;
            self.write(format!("{authority}.crt"), &certificate.pem())?;
            self.write(format!("{authority}.key"), &key.serialize_pem())?;
        }
        let own = Subject { user: "kube-apiserver", group: None };
        let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", CLUSTER_NAME];
        let mut names = names.map(str::to_owned).to_vec();
        names.extend(["127.0.0.1".to_owned(), address.to_string(), service.to_string()]);
        self.issue("apiserver", Authority::Cluster, own, names)?;
        let kubelet = Subject { user: "kube-apiserver-kubelet-client", group: Some(MASTERS) };
        self.issue("apiserver-kubelet", Authority::Cluster, kubelet, Vec::new())?;
        let proxy = Subject { user: "front-proxy-client", group: None };
        self.issue("front-proxy", Authority::FrontProxy, proxy, Vec::new())?;
        let key = generate("service accounts")?;
        self.write("sa.key", &key.serialize_pem())?;
        self.write("sa.pub", &key.public_key_pem())
    }

    /// A kubeconfig for a user, and the certificate in it.
    pub fn kubeconfig(&self, name: &str, subject: Subject<'_>, server: &str) -> Result<PathBuf> {
        self.issue(name, Authority::Cluster, subject, Vec::new())?;
        let [certificate, key] = ["crt", "key"].map(|kind| self.file(format!("{name}.{kind}")));
        let path = self.file(format!("{name}.kubeconfig"));
        let text = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": {"server": server, "certificate-authority": self.ca()}}],
            "users": [{"name": subject.user, "user": {"client-certificate": certificate, "client-key": key}}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": subject.user}}],
            "current-context": "cluster",
        });
        // JSON is YAML.
        self.write(format!("{name}.kubeconfig"), &format!("{text:#}\n"))?;
        Ok(path)
    }

    /// The kubeconfig of a node's kubelet, and the certificate that it serves with (`NAME-server`).
    pub fn node(&self, name: &str, address: IpAddr, server: &str) -> Result<()> {
        let user = format!("system:node:{name}");
        self.kubeconfig(name, Subject { user: &user, group: Some("system:nodes") }, server)?;
        let names = vec![name.to_owned(), address.to_string()];
        let subject = Subject { user: &user, group: Some("system:nodes") };
        self.issue(&format!("{name}-server"), Authority::Cluster, subject, names)
    }

    fn issue(&self, name: &str, by: Authority, subject: Subject<'_>, names: Vec<String>) -> Result<()> {
        let is_server = !names.is_empty();
        let mut params = CertificateParams::new(names).map_err(failed(name))?;
        params.distinguished_name = distinguished_name(subject);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![if is_server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        params.use_authority_key_identifier_extension = true;
        let path = self.file(format!("{by}.key"));
        let authority = std::fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
        let authority = KeyPair::from_pem(&authority).map_err(failed(by))?;
        let key = generate(name)?;
        let certificate =
            params.signed_by(&key, &Issuer::new(parameters(by), authority)).map_err(failed(name))?;
        self.write(format!("{name}.crt"), &certificate.pem())?;
        self.write(format!("{name}.key"), &key.serialize_pem())
    }

    fn write(&self, name: impl fmt::Display, text: &str) -> Result<()> {
        Ok(lab::daemons::write_secret(&self.file(name), text)?)
    }
}

const CLUSTER_NAME: &str = "kubernetes.default.svc.cluster.local";

/// The same parameters every time: with the saved key they are the same authority.
fn parameters(authority: Authority) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("kubernetes-{authority}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn distinguished_name(subject: Subject<'_>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, subject.user);
    if let Some(group) = subject.group {
        name.push(DnType::OrganizationName, DnValue::Utf8String(group.to_owned()));
    }
    name
}

fn generate(whose: impl fmt::Display) -> Result<KeyPair> {
    KeyPair::generate().map_err(failed(whose))
}

fn failed(subject: impl fmt::Display) -> impl FnOnce(rcgen::Error) -> Error {
    let subject = subject.to_string();
    move |source| Error::Certificate { subject, source }
}
