//! Connections to Services over UDP whose endpoint is gone. UDP never ends, so connection tracking would go on translating a
//! client that keeps speaking to an endpoint that nobody is at. Pure: which connections those are.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use compiler::register::CT_SERVICE;
use network::{NodeView, Protocol, ServiceEndpoint};

use super::connection::{Connection, Discriminator};

/// Address and number.
type At = (IpAddr, u16);

/// Who serves what clients ask for over UDP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Served {
    by_address: HashMap<At, HashSet<At>>,
    /// Of node ports, which are asked for at any node's address, and of external addresses, which reach the switch under another
    /// name where they are the node's own.
    by_number: HashMap<u16, HashSet<At>>,
}

impl Served {
    /// By the Services of a view.
    pub fn of(view: &NodeView) -> Self {
        let mut served = Self::default();
        for service in view.services.values() {
            for port in service.ports.iter().filter(|port| port.protocol == Protocol::Udp) {
                let endpoints: HashSet<At> =
                    port.endpoints.iter().filter(|e| serves(e)).flat_map(at).collect();
                for address in &service.cluster_ips {
                    served.by_address.entry((*address, port.port)).or_default().extend(&endpoints);
                }
                let mut reached_outside = false;
                for address in service.outside_addresses() {
                    served.by_address.entry((address, port.port)).or_default().extend(&endpoints);
                    reached_outside = true;
                }
                for number in port.node_port.into_iter().chain(reached_outside.then_some(port.port)) {
                    served.by_number.entry(number).or_default().extend(&endpoints);
                }
            }
        }
        served
    }

    /// Whether the switch translates a connection to where nobody serves it any more.
    pub fn is_stale(&self, connection: &Connection) -> bool {
        let of_service = connection.mark & CT_SERVICE.bits.mask() as u32 != 0;
        let udp = connection.protocol == Protocol::Udp.number();
        let Discriminator::Ports { destination, .. } = connection.discriminator else { return false };
        let Some(port) = connection.answerer_port.filter(|_| of_service && udp) else { return false };
        let asked = self.by_address.get(&(connection.destination, destination));
        let endpoints = asked.or_else(|| self.by_number.get(&destination));
        !endpoints.is_some_and(|endpoints| endpoints.contains(&(connection.answerer, port)))
    }
}

fn serves(endpoint: &ServiceEndpoint) -> bool {
    endpoint.ready || endpoint.serving
}

fn at(endpoint: &ServiceEndpoint) -> impl Iterator<Item = At> + '_ {
    endpoint.addresses.iter().map(|address| (*address, endpoint.port))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use network::{NamespacedName, Service, ServiceKind, ServicePort};

    use super::*;

    fn view(endpoints: &[[u8; 4]], protocol: Protocol) -> NodeView {
        let endpoints = endpoints.iter().map(|address| ServiceEndpoint::new([(*address).into()], 5353));
        let service = Service {
            kind: ServiceKind::NodePort,
            cluster_ips: [[10, 96, 0, 10].into()].into(),
            ports: vec![ServicePort { node_port: Some(30053), ..ServicePort::new(protocol, 53, endpoints) }],
            ..Service::new(NamespacedName::new("kube-system", "dns"))
        };
        let mut view = NodeView::default();
        view.services.insert(service.key.clone(), Arc::new(service));
        view
    }

    fn line(protocol: &str, asked: &str, dport: u16, answerer: &str, mark: u32) -> Connection {
        let text = format!(
            "{protocol},orig=(src=10.244.1.2,dst={asked},sport=4000,dport={dport}),reply=(src={answerer},dst=10.244.1.2,\
             sport=5353,dport=4000),zone=65025,mark={mark}"
        );
        Connection::parse(&text).unwrap()
    }

    #[test]
    fn only_udp_to_a_service_and_an_endpoint_that_is_gone() {
        let mark = 0x1000_0000 | CT_SERVICE.bits.mask() as u32;
        let served = Served::of(&view(&[[10, 244, 1, 5]], Protocol::Udp));
        for (asked, dport) in [("10.96.0.10", 53), ("172.30.0.1", 30053), ("169.254.254.2", 30053)] {
            assert!(!served.is_stale(&line("udp", asked, dport, "10.244.1.5", mark)), "{asked}");
            assert!(served.is_stale(&line("udp", asked, dport, "10.244.1.6", mark)), "{asked}");
        }
        assert!(
            served.is_stale(&line("udp", "10.96.0.11", 53, "10.244.1.5", mark)),
            "no such Service any more"
        );
        assert!(!served.is_stale(&line("tcp", "10.96.0.10", 53, "10.244.1.6", mark)), "TCP ends by itself");
        assert!(!served.is_stale(&line("udp", "10.244.1.6", 5353, "10.244.1.6", 0x1000_0000)), "no Service");
        let none = Served::of(&view(&[[10, 244, 1, 5]], Protocol::Tcp));
        assert!(none.is_stale(&line("udp", "10.96.0.10", 53, "10.244.1.5", mark)), "not over UDP any more");
    }
}
