//! Verdicts of one network, port by port, remembered for all that its policies treat alike. They are those of
//! [`crate::reference`], which is asked itself about pods that have no address of their own.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::model::Network;
use crate::name::NamespacedName;
use crate::policy::Direction;
use crate::port_set::PortSet;
use crate::protocol::Protocol;
use crate::reference::{self, Endpoint, verdict};

use super::super::classes::{Classes, Partition, Partitions};
use super::super::ends::{End, Ends, Party};
use super::super::judge::Question;
use super::super::{Altered, Who};

/// The number of an end that was asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seat(u32);

/// The verdicts of a network.
pub(super) struct Verdicts<'a, 'n> {
    network: &'n Network,
    ends: &'a Ends<'n>,
    /// Of ingress and of egress.
    classes: [Classes<'n>; 2],
    partitions: Partitions<'a, 'n>,
    /// The numbers of a pod and of nodes' addresses among the ends.
    pods: HashMap<&'n NamespacedName, u32>,
    numbers: HashMap<IpAddr, u32>,
    seated: Vec<Seated<'n>>,
    seats: HashMap<Endpoint, Seat>,
    /// By direction and class of the subject.
    passing: [HashMap<u32, Passing>; 2],
}

/// Somebody who was asked about.
struct Seated<'n> {
    endpoint: Endpoint,
    end: End<'n>,
    /// Its number, if it is one of the ends, by the same address.
    number: Option<u32>,
    /// The class in each direction; none: no policy speaks to it.
    class: [Option<u32>; 2],
    /// A pod of which nothing but an endpoint knows an address.
    is_stray: bool,
}

/// What passes between a class of subjects and its peers.
struct Passing {
    /// The part of the peers that an end is in, unless it is in the last.
    parts: HashMap<u32, usize>,
    by_part: Vec<Option<PortSet>>,
    /// Of peers that are no ends.
    by_seat: HashMap<Seat, PortSet>,
}

impl<'a, 'n> Verdicts<'a, 'n> {
    /// Of a network; the ends are those that it has.
    pub(super) fn of(network: &'n Network, ends: &'a Ends<'n>) -> Self {
        let classes = Classes::both([network; 2], ends, &Altered { ids: Default::default() });
        let (mut pods, mut numbers) = (HashMap::new(), HashMap::new());
        for number in 0..ends.len() as u32 {
            let end = ends.get(number);
            match end.party[0] {
                Party::Pod(pod) => drop(pods.insert(&pod.key, number)),
                Party::Node(_) => {}
                Party::Outside => continue,
            }
            numbers.insert(end.address[0], number);
        }
        let partitions = Partitions::new([network; 2], ends);
        let (seated, seats, passing) = Default::default();
        Self { network, ends, classes, partitions, pods, numbers, seated, seats, passing }
    }

    /// The seat of an end.
    pub(super) fn seat(&mut self, endpoint: &Endpoint) -> Seat {
        if let Some(seat) = self.seats.get(endpoint) {
            return *seat;
        }
        let (party, address) = match reference::Party::of(self.network, endpoint) {
            reference::Party::Pod(pod, address) => (Party::Pod(pod), address),
            reference::Party::Node(node, address) => (Party::Node(node), address),
            reference::Party::Outside(address) => (Party::Outside, address),
        };
        let is_it = |number: &u32| self.ends.get(*number).party[0].is(&party);
        let number = self.numbers.get(&address).copied().filter(is_it);
        let (class, is_stray) = match party {
            Party::Pod(pod) => {
                let known = number.or(self.pods.get(&pod.key).copied());
                let class = |direction: usize| {
                    self.classes[direction].class_of(known?).and_then(|class| u32::try_from(class).ok())
                };
                ([0, 1].map(class), known.is_none())
            }
            Party::Node(_) | Party::Outside => ([None; 2], false),
        };
        let who = Who::Outside { address, within: None };
        let end = End { party: [party; 2], address: [address; 2], who };
        let seat = Seat(self.seated.len() as u32);
        self.seated.push(Seated { endpoint: endpoint.clone(), end, number, class, is_stray });
        self.seats.insert(endpoint.clone(), seat);
        seat
    }

    /// Whether a new connection comes about.
    pub(super) fn passes(&mut self, from: Seat, to: Seat, protocol: Protocol, port: u16) -> bool {
        let [source, destination] = [from, to].map(|seat| &self.seated[seat.0 as usize]);
        let is_itself = source.end.party[0].is(&destination.end.party[0]);
        if is_itself {
            return true;
        }
        if source.is_stray || destination.is_stray {
            return verdict(self.network, &source.endpoint, &destination.endpoint, protocol, port).combined();
        }
        self.lets(Direction::Ingress, (to, from), protocol, port)
            && self.lets(Direction::Egress, (from, to), protocol, port)
    }

    fn lets(
        &mut self,
        direction: Direction,
        (subject, peer): (Seat, Seat),
        protocol: Protocol,
        port: u16,
    ) -> bool {
        let [asked, other] = [subject, peer].map(|seat| &self.seated[seat.0 as usize]);
        let Some(class) = asked.class[direction as usize] else { return true };
        let classes = &self.classes[direction as usize];
        // Its own node is another peer to every pod.
        let own_node = matches!(other.end.party[0], Party::Node(_))
            && other.end.party[0].node() == asked.end.party[0].node();
        let ask = || {
            let question = Question {
                network: self.network,
                time: 0,
                direction,
                docket: &classes.all[class as usize].dockets[0],
                subject: &asked.end,
                peer: &other.end,
                known_as: self.ends.known_at(0, other.end.address[0]),
                own_node,
            };
            question.passes()
        };
        if own_node {
            return ask().contains(protocol, port);
        }
        let family = self.ends.family(classes.all[class as usize].example);
        let number = other.number.filter(|number| family.contains(number));
        let passing = self.passing[direction as usize]
            .entry(class)
            .or_insert_with(|| Passing::of(&self.partitions.of(classes, class as usize)));
        passing.of_peer(number.ok_or(peer), ask).contains(protocol, port)
    }

    /// Whether the destination lets a new connection in.
    pub(super) fn lets_in(&mut self, from: Seat, to: Seat, protocol: Protocol, port: u16) -> bool {
        self.lets(Direction::Ingress, (to, from), protocol, port)
    }

    /// Whether it is a pod of which nothing but an endpoint knows an address: it is like nobody else.
    pub(super) fn is_stray(&self, seat: Seat) -> bool {
        self.seated[seat.0 as usize].is_stray
    }

    /// The number of a pod among the ends.
    pub(super) fn number(&self, seat: Seat) -> Option<u32> {
        let seated = &self.seated[seat.0 as usize];
        seated.number.filter(|_| matches!(seated.end.party[0], Party::Pod(_)))
    }

    /// Its class; none: no policy speaks to it.
    pub(super) fn class(&self, seat: Seat, direction: Direction) -> Option<u32> {
        self.seated[seat.0 as usize].class[direction as usize]
    }

    /// The ends that the policies of a class of ingress tell apart from most.
    pub(super) fn named(&mut self, class: u32) -> impl Iterator<Item = u32> + '_ {
        let classes = &self.classes[Direction::Ingress as usize];
        let passing = self.passing[Direction::Ingress as usize]
            .entry(class)
            .or_insert_with(|| Passing::of(&self.partitions.of(classes, class as usize)));
        passing.parts.keys().copied()
    }
}

impl Passing {
    fn of(partition: &Partition) -> Self {
        let mut parts = HashMap::new();
        let mut count = 0;
        for part in partition.parts.iter().filter(|part| !part.complement) {
            parts.extend(part.listed.iter().map(|end| (*end, count)));
            count += 1;
        }
        Self { parts, by_part: vec![None; count + 1], by_seat: HashMap::new() }
    }

    fn of_peer(&mut self, peer: Result<u32, Seat>, ask: impl FnOnce() -> PortSet) -> &PortSet {
        match peer {
            Ok(end) => {
                let last = self.by_part.len() - 1;
                let part = self.parts.get(&end).copied().unwrap_or(last);
                self.by_part[part].get_or_insert_with(ask)
            }
            Err(seat) => self.by_seat.entry(seat).or_insert_with(ask),
        }
    }
}
