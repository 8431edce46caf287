//! The defaults that the API server fills in (k8s.io/kubernetes `pkg/apis/*/v1/defaults.go`), for objects that never saw
//! one. Filling in twice changes nothing.

use k8s_openapi::api::core::v1::{Pod, PodSpec, PodTemplateSpec, Service};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The label that every namespace carries, with its name as the value.
pub(crate) const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

const TCP: &str = "TCP";

/// The protocol of container ports.
pub fn pod(pod: &mut Pod) {
    pod.spec.iter_mut().for_each(pod_spec);
}

/// The same for a workload's pods.
pub fn pod_template(template: &mut PodTemplateSpec) {
    template.spec.iter_mut().for_each(pod_spec);
}

fn pod_spec(spec: &mut PodSpec) {
    let init = spec.init_containers.iter_mut().flatten();
    for port in spec.containers.iter_mut().chain(init).flat_map(|c| c.ports.iter_mut().flatten()) {
        port.protocol.get_or_insert_with(|| TCP.to_owned());
    }
}

/// Type, protocol, target port, affinity and traffic policies of a Service.
pub fn service(service: &mut Service) {
    let spec = service.spec.get_or_insert_default();
    let kind = spec.type_.get_or_insert_with(|| "ClusterIP".to_owned()).clone();
    spec.session_affinity.get_or_insert_with(|| "None".to_owned());
    for port in spec.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| TCP.to_owned());
        match &port.target_port {
            None | Some(IntOrString::Int(0)) => port.target_port = Some(IntOrString::Int(port.port)),
            Some(IntOrString::String(name)) if name.is_empty() => {
                port.target_port = Some(IntOrString::Int(port.port));
            }
            Some(_) => {}
        }
    }
    if kind == "NodePort" || kind == "LoadBalancer" {
        spec.external_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
    if kind != "ExternalName" {
        spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
}

/// Policy types and the protocol of ports (networking/v1 `SetDefaults_NetworkPolicy`): a policy that says nothing of its
/// types is about ingress, and about egress when it has a rule for it.
pub fn network_policy(policy: &mut NetworkPolicy) {
    let spec = policy.spec.get_or_insert_default();
    let types = spec.policy_types.get_or_insert_default();
    if types.is_empty() {
        types.push("Ingress".to_owned());
        if spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
            types.push("Egress".to_owned());
        }
    }
    let ingress = spec.ingress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
    ingress.for_each(policy_port);
    let egress = spec.egress.iter_mut().flatten().flat_map(|rule| rule.ports.iter_mut().flatten());
    egress.for_each(policy_port);
}

fn policy_port(port: &mut NetworkPolicyPort) {
    port.protocol.get_or_insert_with(|| TCP.to_owned());
}
