//! Who reaches a Service other than before. Clients whom no policy of an endpoint names, and who have the same policies and node
//! themselves, are judged once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use crate::matrix::{self, Entry, Participant, ServedPort, everybody};
use crate::name::{NamespacedName, NodeName};
use crate::policy::Direction;
use crate::protocol::Protocol;

use super::super::BOTH;
use super::super::ends::Ends;
use super::Side;
use super::verdicts::{Seat, Verdicts};

/// Clients that reach the port other than before, all alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClientsChange {
    /// How many.
    pub count: usize,
    /// `NAMESPACE/POD`, `node:NAME`, `outside`.
    pub listed: Vec<Entry>,
    /// What became of their connections.
    pub before: Reach,
    /// What becomes of them.
    pub after: Reach,
}

/// What becomes of a client's connections to a port of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Reach {
    /// Nobody answers there.
    NotServed,
    /// No endpoint lets it in, or there is none.
    Blocked,
    /// Some endpoints let it in, and some do not.
    Partly,
    /// Every endpoint lets it in.
    Passes,
}

/// Those who are there before and after.
pub(super) struct Clients<'a, 'n> {
    all: Vec<Client>,
    /// Those of them that are elsewhere than before.
    elsewhere: Vec<usize>,
    verdicts: [Verdicts<'a, 'n>; 2],
}

/// One of them, before and after.
struct Client {
    at: [Participant; 2],
    /// Where it speaks from.
    sources: [Vec<Seat>; 2],
    /// A number that clients of one node and of the same families share: they are offered the same.
    stand: [usize; 2],
}

/// A node and the families of a client.
type Stand = (Option<NodeName>, Vec<bool>);

/// What pods of one node and of the same families are offered, whoever they are.
struct Offer {
    /// For each way its choices.
    ways: Vec<Vec<Choice>>,
    /// Those whom the policies of the endpoints name, and the endpoints: they are like nobody else.
    named: HashSet<u32>,
    /// An endpoint is like nobody else.
    is_odd: bool,
    /// No endpoint lets anybody in who is not named; once it is known.
    is_shut: Option<bool>,
}

/// An endpoint that a connection may get.
#[derive(Clone, Copy)]
struct Choice {
    /// The place among the client's sources; else it is masked by somebody else's.
    from: Result<usize, Seat>,
    to: Seat,
    port: u16,
}

/// The offers of a port at one time, and the place of each by the stand of its clients.
#[derive(Default)]
struct Offers {
    all: Vec<Offer>,
    places: HashMap<usize, usize>,
}

/// What tells clients apart who are not named: their offers, and where an endpoint lets them in their own policies, by source.
type Alike = ([usize; 2], [[Option<u32>; 2]; 2]);

impl<'a, 'n> Clients<'a, 'n> {
    /// Of two networks; `ends` are those that each has.
    pub(super) fn of(
        sides: &[Side<'n>; 2],
        ends: &'a [Ends<'n>; 2],
        elsewhere: &BTreeSet<&NamespacedName>,
    ) -> Self {
        let networks = BOTH.map(|time| sides[time].network);
        let mut verdicts = BOTH.map(|time| Verdicts::of(networks[time], &ends[time]));
        let speaks = |one: &Participant| one.entry.speaks() && !one.sources.is_empty();
        let [before, after] = networks.map(|network| everybody(network).into_iter().filter(speaks));
        let mut after: BTreeMap<Entry, Participant> = after.map(|one| (one.entry.clone(), one)).collect();
        let mut all = Vec::new();
        let mut stands: [HashMap<Stand, usize>; 2] = Default::default();
        for was in before {
            if let Some(is) = after.remove(&was.entry) {
                let at = [was, is];
                let sources = BOTH.map(|time| {
                    let verdicts = &mut verdicts[time];
                    at[time].sources.iter().map(|source| verdicts.seat(source)).collect()
                });
                let stand = BOTH.map(|time| {
                    let node = match &at[time].entry {
                        Entry::Pod(key) => networks[time].pods.get(key).and_then(|pod| pod.node.clone()),
                        _ => None,
                    };
                    let families = at[time].sources.iter().map(|source| source.address().is_ipv4()).collect();
                    let next = stands[time].len();
                    *stands[time].entry((node, families)).or_insert(next)
                });
                all.push(Client { at, sources, stand });
            }
        }
        let is_elsewhere = |client: &Client| match &client.at[0].entry {
            Entry::Pod(key) => elsewhere.contains(key),
            _ => false,
        };
        let elsewhere = (0..all.len()).filter(|place| is_elsewhere(&all[*place])).collect();
        Self { all, elsewhere, verdicts }
    }

    /// Whether one of the pods that are elsewhere than before reaches a Service otherwise for it.
    pub(super) fn reach_otherwise(&mut self, sides: &[Side<'n>; 2], key: &NamespacedName) -> bool {
        if self.elsewhere.is_empty() {
            return false;
        }
        let ports: BTreeSet<ServedPort> = BOTH.iter().flat_map(|time| sides[*time].ports(key)).collect();
        for client in self.elsewhere.iter().map(|place| &self.all[*place]) {
            for port in &ports {
                let [was, is] = BOTH.map(|time| {
                    let (verdicts, at) = (&mut self.verdicts[time], &client.at[time]);
                    let ways = ways(verdicts, &sides[time], at, key, *port);
                    reach(verdicts, &client.sources[time], &ways, port.protocol)
                });
                if was != is {
                    return true;
                }
            }
        }
        false
    }

    /// By port the clients that reach it other than before.
    pub(super) fn reached(
        &mut self,
        sides: &[Side<'n>; 2],
        key: &NamespacedName,
        ports: &BTreeSet<ServedPort>,
    ) -> BTreeMap<ServedPort, Vec<ClientsChange>> {
        let mut by_port: BTreeMap<ServedPort, Vec<ClientsChange>> = BTreeMap::new();
        for port in ports {
            let mut found: BTreeMap<(Reach, Reach), Vec<Entry>> = BTreeMap::new();
            let mut offers = [Offers::default(), Offers::default()];
            let mut known: HashMap<Alike, [Reach; 2]> = HashMap::new();
            for client in &self.all {
                if !matches!(client.at[0].entry, Entry::Pod(_)) {
                    let [was, is] = BOTH.map(|time| {
                        let (verdicts, at) = (&mut self.verdicts[time], &client.at[time]);
                        let ways = ways(verdicts, &sides[time], at, key, *port);
                        reach(verdicts, &client.sources[time], &ways, port.protocol)
                    });
                    if was != is {
                        found.entry((was, is)).or_default().push(client.at[0].entry.clone());
                    }
                    continue;
                }
                let places = BOTH.map(|time| {
                    offers[time].place(&mut self.verdicts[time], client.stand[time], |verdicts| {
                        ways(verdicts, &sides[time], &client.at[time], key, *port)
                    })
                });
                let verdicts = &mut self.verdicts;
                let alike = BOTH.map(|time| {
                    let offer = &mut offers[time].all[places[time]];
                    offer.group(&mut verdicts[time], &client.sources[time], port.protocol)
                });
                let mut reaches = || {
                    BOTH.map(|time| {
                        let ways = &offers[time].all[places[time]].ways;
                        reach(&mut verdicts[time], &client.sources[time], ways, port.protocol)
                    })
                };
                let [was, is] = match alike {
                    [Some(was), Some(is)] => *known.entry((places, [was, is])).or_insert_with(reaches),
                    _ => reaches(),
                };
                if was != is {
                    found.entry((was, is)).or_default().push(client.at[0].entry.clone());
                }
            }
            for ((before, after), mut listed) in found {
                listed.sort();
                let change = ClientsChange { count: listed.len(), listed, before, after };
                by_port.entry(*port).or_default().push(change);
            }
        }
        by_port
    }
}

impl Offers {
    /// The place of what a client at a stand is offered.
    fn place(
        &mut self,
        verdicts: &mut Verdicts<'_, '_>,
        stand: usize,
        make: impl FnOnce(&mut Verdicts<'_, '_>) -> Vec<Vec<Choice>>,
    ) -> usize {
        *self.places.entry(stand).or_insert_with(|| {
            let ways = make(verdicts);
            let to: HashSet<Seat> = ways.iter().flatten().map(|choice| choice.to).collect();
            let is_odd = to.iter().any(|seat| verdicts.is_stray(*seat));
            let classes: BTreeSet<u32> =
                to.iter().filter_map(|seat| verdicts.class(*seat, Direction::Ingress)).collect();
            let mut named: HashSet<u32> = to.iter().filter_map(|seat| verdicts.number(*seat)).collect();
            classes.into_iter().for_each(|class| named.extend(verdicts.named(class)));
            self.all.push(Offer { ways, named, is_odd, is_shut: None });
            self.all.len() - 1
        })
    }
}

impl Offer {
    /// What tells a client apart from others with this offer; none when it is like nobody else.
    fn group(
        &mut self,
        verdicts: &mut Verdicts<'_, '_>,
        sources: &[Seat],
        protocol: Protocol,
    ) -> Option<[Option<u32>; 2]> {
        let is_named = |seat: &Seat| verdicts.number(*seat).is_none_or(|number| self.named.contains(&number));
        if self.is_odd || sources.len() > 2 || sources.iter().any(is_named) {
            return None;
        }
        let is_shut = *self.is_shut.get_or_insert_with(|| {
            self.ways.iter().flatten().all(|choice| {
                let from = choice.from.map_or_else(|masked| masked, |place| sources[place]);
                !verdicts.lets_in(from, choice.to, protocol, choice.port)
            })
        });
        let class = |place: usize| {
            sources.get(place).filter(|_| !is_shut).and_then(|seat| verdicts.class(*seat, Direction::Egress))
        };
        Some([class(0), class(1)])
    }
}

/// What becomes of connections from some sources.
fn reach(
    verdicts: &mut Verdicts<'_, '_>,
    sources: &[Seat],
    ways: &[Vec<Choice>],
    protocol: Protocol,
) -> Reach {
    let (mut passing, mut kept_out) = (false, ways.iter().any(Vec::is_empty));
    for choice in ways.iter().flatten() {
        let from = choice.from.map_or_else(|masked| masked, |place| sources[place]);
        let lets = verdicts.passes(from, choice.to, protocol, choice.port);
        passing |= lets;
        kept_out |= !lets;
        if passing && kept_out {
            break;
        }
    }
    match (passing, kept_out) {
        _ if ways.is_empty() => Reach::NotServed,
        (true, false) => Reach::Passes,
        (true, true) => Reach::Partly,
        (false, _) => Reach::Blocked,
    }
}

/// The choices of every way to a port.
fn ways(
    verdicts: &mut Verdicts<'_, '_>,
    side: &Side<'_>,
    at: &Participant,
    key: &NamespacedName,
    port: ServedPort,
) -> Vec<Vec<Choice>> {
    let ways = side.services.ways(at, key, port);
    let choices = ways.iter().map(|way| {
        let of = |choice: &matrix::Choice| Choice {
            from: match at.sources.iter().position(|source| *source == choice.from) {
                Some(place) => Ok(place),
                None => Err(verdicts.seat(&choice.from)),
            },
            to: verdicts.seat(&choice.to),
            port: choice.port,
        };
        way.choices.iter().map(of).collect()
    });
    choices.collect()
}
