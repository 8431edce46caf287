//! What load balancers ask a node for: whether it has an endpoint of a Service whose clients outside get this node's endpoints
//! only (`externalTrafficPolicy: Local`, `healthCheckNodePort`). Pure: from the view to what each port answers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use network::{NamespacedName, NodeName, NodeView, Service, ServiceKind, TrafficPolicy};

/// What a node answers, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthChecks {
    /// The addresses of the node that answer for node ports.
    pub addresses: BTreeSet<IpAddr>,
    /// By port.
    pub checks: BTreeMap<u16, HealthCheck>,
    /// The switch is there to serve.
    pub is_serving: bool,
}

/// What one port answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The Service.
    pub service: NamespacedName,
    /// Ready endpoints on this node, each counted once whatever number of ports it serves.
    pub local_endpoints: usize,
}

impl HealthChecks {
    /// Of a node's Services. Of two that have one port the older has it, as with every port of a node.
    pub fn of(view: &NodeView, node: &NodeName, addresses: BTreeSet<IpAddr>, is_serving: bool) -> Self {
        let mut checks = BTreeMap::new();
        let mut services: Vec<&Service> = view.services.values().map(|service| &**service).collect();
        services.sort_by_key(|service| service.seniority());
        for service in services {
            if let Some(port) = asked_port(service) {
                let local_endpoints = local_endpoints(service, node);
                checks
                    .entry(port)
                    .or_insert_with(|| HealthCheck { service: service.key.clone(), local_endpoints });
            }
        }
        Self { addresses, checks, is_serving }
    }
}

fn asked_port(service: &Service) -> Option<u16> {
    let wanted = service.kind == ServiceKind::LoadBalancer && service.external_policy == TrafficPolicy::Local;
    service.health_check_node_port.filter(|_| wanted)
}

fn local_endpoints(service: &Service, node: &NodeName) -> usize {
    let endpoints = service.ports.iter().flat_map(|port| &port.endpoints);
    let here = endpoints.filter(|endpoint| endpoint.ready && endpoint.node.as_ref() == Some(node));
    here.map(|endpoint| &endpoint.addresses).collect::<BTreeSet<_>>().len()
}

/// An answer over HTTP, as kube-proxy's load balancers know it (kubernetes `pkg/proxy/healthcheck/service_health.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// 200 where an endpoint is here and the switch serves it, else 503.
    pub status: u16,
    /// `X-Load-Balancing-Endpoint-Weight`.
    pub weight: usize,
    /// JSON.
    pub body: String,
}

impl HealthCheck {
    /// What is answered now.
    pub fn answer(&self, is_serving: bool) -> Answer {
        let healthy = is_serving && self.local_endpoints > 0;
        let body = serde_json::json!({
            "service": {"namespace": self.service.namespace(), "name": self.service.name()},
            "localEndpoints": self.local_endpoints,
            "serviceProxyHealthy": is_serving,
        });
        Answer {
            status: if healthy { 200 } else { 503 },
            weight: self.local_endpoints,
            body: format!("{body:#}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use network::{Protocol, ServiceEndpoint, ServicePort};

    use super::*;

    fn endpoint(last: u8, node: &str, ready: bool) -> ServiceEndpoint {
        ServiceEndpoint {
            node: Some(NodeName::new(node)),
            ready,
            terminating: !ready,
            ..ServiceEndpoint::new([IpAddr::from([10, 244, 1, last])], 80)
        }
    }

    fn service(name: &str, endpoints: &[ServiceEndpoint]) -> Service {
        let port = |number: u16| ServicePort {
            name: Some(number.to_string()),
            ..ServicePort::new(
                Protocol::Tcp,
                number,
                endpoints.iter().cloned().map(|e| ServiceEndpoint { port: number, ..e }),
            )
        };
        Service {
            kind: ServiceKind::LoadBalancer,
            ports: vec![port(80), port(443)],
            external_policy: TrafficPolicy::Local,
            health_check_node_port: Some(31_000),
            ..Service::new(NamespacedName::new("shop", name))
        }
    }

    fn checks(services: Vec<Service>) -> HealthChecks {
        let services = services.into_iter().map(|s| (s.key.clone(), Arc::new(s)));
        let view = NodeView { services: services.collect(), ..NodeView::default() };
        HealthChecks::of(&view, &NodeName::new("node-1"), BTreeSet::new(), true)
    }

    #[test]
    fn only_ready_endpoints_of_this_node_count_and_each_once() {
        let all = [
            endpoint(2, "node-1", true),
            endpoint(3, "node-1", true),
            endpoint(4, "node-1", false),
            endpoint(5, "node-2", true),
        ];
        let found = checks(vec![service("web", &all)]);
        assert_eq!(found.checks[&31_000].local_endpoints, 2);
        let answer = found.checks[&31_000].answer(true);
        assert_eq!((answer.status, answer.weight), (200, 2));
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["service"], serde_json::json!({"namespace": "shop", "name": "web"}));
        assert_eq!(
            (&body["localEndpoints"], &body["serviceProxyHealthy"]),
            (&2.into(), &serde_json::Value::Bool(true))
        );
    }

    #[test]
    fn nobody_here_or_no_switch_is_unavailable() {
        let found =
            checks(vec![service("web", &[endpoint(4, "node-1", false), endpoint(5, "node-2", true)])]);
        assert_eq!(found.checks[&31_000].answer(true).status, 503);
        let found = checks(vec![service("web", &[endpoint(2, "node-1", true)])]);
        assert_eq!(found.checks[&31_000].answer(false).status, 503);
    }

    #[test]
    fn only_load_balancers_that_keep_to_their_node_are_asked() {
        let here = [endpoint(2, "node-1", true)];
        let cluster = Service { external_policy: TrafficPolicy::Cluster, ..service("a", &here) };
        let by_port = Service { kind: ServiceKind::NodePort, ..service("b", &here) };
        assert!(checks(vec![cluster, by_port]).checks.is_empty());
        let (first, second) = (service("a", &here), service("b", &[]));
        assert_eq!(checks(vec![second, first]).checks[&31_000].service.name(), "a");
    }
}
