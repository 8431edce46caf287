//! The one shape of a reachability matrix (`docs/contracts.md`), its prediction by the reference evaluator, and the
//! difference of two. Knows nothing of how a matrix is measured.
//!
//! `{"id"?, "order": ["ns/pod", …], "table": {"TCP/80": {"ingress"|"egress"|"combined": {"ns/pod": ".X-…"}}}}`

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::model::Network;
use crate::name::{NamespacedName, NodeName};
use crate::pod::Pod;
use crate::protocol::Protocol;
use crate::reference::{Endpoint, Verdict, verdict};

mod ways;

pub use ways::{Choice, Services, Way, everybody, services_of};

/// Who reaches whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// The scenario's id, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<MatrixId>,
    /// Rows and columns.
    pub order: Vec<Entry>,
    /// Per served port: the grids, each from → one cell per entry of `order`.
    pub table: BTreeMap<ServedPort, BTreeMap<Grid, BTreeMap<Entry, Row>>>,
}

/// A scenario's id, given back as it came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MatrixId {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

/// A row or column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Entry {
    /// `NAMESPACE/NAME`: a pod.
    Pod(NamespacedName),
    /// `node:NAME`.
    Node(NodeName),
    /// `service:NAMESPACE/NAME`.
    Service(NamespacedName),
    /// `outside`: an address that the cluster does not know.
    Outside,
}

/// `PROTO/PORT`: a port that somebody serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServedPort {
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// Which verdict a grid shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grid {
    /// The destination's ingress alone.
    Ingress,
    /// The source's egress alone.
    Egress,
    /// Both: what a packet sees.
    Combined,
}

impl Grid {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ingress, Self::Egress, Self::Combined];

    fn of(self, verdict: Verdict) -> bool {
        match self {
            Self::Ingress => verdict.ingress,
            Self::Egress => verdict.egress,
            Self::Combined => verdict.combined(),
        }
    }
}

/// One cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cell {
    /// `.`
    Passes,
    /// `X`
    Blocked,
    /// `-`: the destination does not serve the port, or not to this source.
    NotServed,
}

impl Cell {
    /// Of a port that is served.
    pub fn of(passes: bool) -> Self {
        if passes { Self::Passes } else { Self::Blocked }
    }

    /// The character that stands for it.
    pub fn symbol(self) -> char {
        match self {
            Self::Passes => '.',
            Self::Blocked => 'X',
            Self::NotServed => '-',
        }
    }

    fn of_symbol(symbol: char) -> Option<Self> {
        [Self::Passes, Self::Blocked, Self::NotServed].into_iter().find(|cell| cell.symbol() == symbol)
    }
}

/// The cells of one row, in the matrix's order; one character each when written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Row(pub Vec<Cell>);

/// A text that is not a part of a matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MatrixError {
    /// No row or column is called so.
    #[error(
        "`{0}` is no entry of a matrix: write NAMESPACE/POD, node:NAME, service:NAMESPACE/NAME or outside"
    )]
    Entry(String),
    /// No port is written so.
    #[error("`{0}` is not a served port: write TCP/80, UDP/53 or SCTP/9999")]
    Port(String),
    /// A cell is neither `.`, `X` nor `-`.
    #[error("`{0}` is no row of a matrix: cells are `.` (passes), `X` (blocked) and `-` (not served)")]
    Row(String),
}

/// Who takes part in a prediction. As source and as destination it may use different addresses (a node speaks from its
/// gateway address and is reached at its own).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Its name in the matrix.
    pub entry: Entry,
    /// What it speaks from, at most one address per family.
    pub sources: Vec<Endpoint>,
    /// Where it is reached, at most one address per family.
    pub destinations: Vec<Endpoint>,
    /// What it serves.
    pub serves: BTreeSet<ServedPort>,
}

impl Participant {
    /// A pod with all its addresses; it serves the ports it declares.
    pub fn pod(pod: &Pod) -> Self {
        let endpoints: Vec<Endpoint> = pod
            .addresses
            .iter()
            .map(|address| Endpoint::Pod { key: pod.key.clone(), address: *address })
            .collect();
        let serves = pod.ports.iter().map(|p| ServedPort { protocol: p.protocol, port: p.number }).collect();
        Self {
            entry: Entry::Pod(pod.key.clone()),
            sources: endpoints.clone(),
            destinations: endpoints,
            serves,
        }
    }

    /// A node that speaks from some addresses and is reached at others.
    pub fn node(
        name: &NodeName,
        sources: &[IpAddr],
        destinations: &[IpAddr],
        serves: BTreeSet<ServedPort>,
    ) -> Self {
        let at = |addresses: &[IpAddr]| {
            addresses.iter().map(|a| Endpoint::Node { name: name.clone(), address: *a }).collect()
        };
        Self {
            entry: Entry::Node(name.clone()),
            sources: at(sources),
            destinations: at(destinations),
            serves,
        }
    }

    /// Somebody outside.
    pub fn outside(addresses: &[IpAddr], serves: BTreeSet<ServedPort>) -> Self {
        let endpoints: Vec<Endpoint> = addresses.iter().copied().map(Endpoint::Outside).collect();
        Self { entry: Entry::Outside, sources: endpoints.clone(), destinations: endpoints, serves }
    }
}

/// The pods that a prediction of a whole network is about, in their order: all but the completed ones, which have no
/// address any more.
pub fn pods_of(network: &Network) -> Vec<Participant> {
    network.pods.values().filter(|pod| !pod.completed).map(Participant::pod).collect()
}

/// What the reference evaluator predicts for every pair and every port that a participant serves, all three grids.
pub fn predict(network: &Network, participants: &[Participant]) -> Matrix {
    let services = Services::of(network);
    Matrix::fill(participants, &Grid::ALL, |grid, from, to, port| {
        if let Entry::Service(key) = &to.entry {
            return services.cell(grid, from, key, port);
        }
        let verdicts = verdicts(network, from, to, port);
        Cell::of(!verdicts.is_empty() && verdicts.iter().all(|verdict| grid.of(*verdict)))
    })
}

/// One verdict per family that both ends have: a cell passes only when every common family does. Ends without a common
/// family are judged by policy alone, over every pair of addresses; an end without an address gives no verdict and is
/// blocked.
fn verdicts(network: &Network, from: &Participant, to: &Participant, port: ServedPort) -> Vec<Verdict> {
    let pairs = || from.sources.iter().flat_map(|source| to.destinations.iter().map(move |d| (source, d)));
    let same_family = |(a, b): &(&Endpoint, &Endpoint)| a.address().is_ipv4() == b.address().is_ipv4();
    let mut chosen: Vec<_> = pairs().filter(same_family).collect();
    if chosen.is_empty() {
        chosen = pairs().collect();
    }
    chosen.into_iter().map(|(a, b)| verdict(network, a, b, port.protocol, port.port)).collect()
}

/// One cell in which two matrices differ; `None` where a matrix does not have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Which port.
    pub port: ServedPort,
    /// Which grid.
    pub grid: Grid,
    /// The row.
    pub from: Entry,
    /// The column.
    pub to: Entry,
    /// In the first matrix.
    pub left: Option<Cell>,
    /// In the second matrix.
    pub right: Option<Cell>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let symbol = |cell: &Option<Cell>| cell.map_or(' ', Cell::symbol);
        let (left, right) = (symbol(&self.left), symbol(&self.right));
        write!(f, "{} → {} {} {:?}: `{left}` and `{right}`", self.from, self.to, self.port, self.grid)
    }
}

impl Matrix {
    /// A matrix over every pair of participants and every port that one serves, asking `cell` by cell. A Service is a column
    /// only: it speaks to nobody.
    pub fn fill(
        participants: &[Participant],
        grids: &[Grid],
        mut cell: impl FnMut(Grid, &Participant, &Participant, ServedPort) -> Cell,
    ) -> Self {
        let served: BTreeSet<ServedPort> =
            participants.iter().flat_map(|p| p.serves.iter().copied()).collect();
        let mut matrix =
            Self { order: participants.iter().map(|p| p.entry.clone()).collect(), ..Self::default() };
        for port in served {
            let table = matrix.table.entry(port).or_default();
            for grid in grids {
                let rows = table.entry(*grid).or_default();
                for from in participants.iter().filter(|from| from.entry.speaks()) {
                    let cells = participants.iter().map(|to| match to.serves.contains(&port) {
                        false => Cell::NotServed,
                        true => cell(*grid, from, to, port),
                    });
                    rows.insert(from.entry.clone(), Row(cells.collect()));
                }
            }
        }
        matrix
    }

    /// The cell at a place, when the matrix has it.
    pub fn cell(&self, port: ServedPort, grid: Grid, from: &Entry, to: &Entry) -> Option<Cell> {
        let column = self.order.iter().position(|entry| entry == to)?;
        self.table.get(&port)?.get(&grid)?.get(from)?.0.get(column).copied()
    }

    /// The same matrix with one kind of grid only.
    pub fn only(mut self, grid: Grid) -> Self {
        for grids in self.table.values_mut() {
            grids.retain(|kind, _| *kind == grid);
        }
        self
    }

    /// The cells in which two matrices differ, over the kinds of grid that both hold. The diagonal is not compared:
    /// what a pod sends to itself never meets a policy (upstream leaves it undefined). A port that only one matrix has
    /// equals one that nobody serves.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let kinds = |m: &Self| m.table.values().flat_map(|g| g.keys().copied()).collect::<BTreeSet<_>>();
        let grids: Vec<Grid> = match (self.table.is_empty(), other.table.is_empty()) {
            (false, false) => kinds(self).intersection(&kinds(other)).copied().collect(),
            _ => kinds(self).union(&kinds(other)).copied().collect(),
        };
        let ports: BTreeSet<_> = self.table.keys().chain(other.table.keys()).copied().collect();
        let entries: Vec<&Entry> =
            self.order.iter().chain(other.order.iter().filter(|entry| !self.order.contains(entry))).collect();
        let mut differences = Vec::new();
        for port in ports {
            for &grid in &grids {
                let (left, right) = (GridCells::of(self, port, grid), GridCells::of(other, port, grid));
                for &from in &entries {
                    for &to in entries.iter().filter(|to| **to != from) {
                        let (left, right) = (left.get(from, to), right.get(from, to));
                        if left != right {
                            let (from, to) = (from.clone(), to.clone());
                            differences.push(Difference { port, grid, from, to, left, right });
                        }
                    }
                }
            }
        }
        differences
    }
}

/// One grid with its columns found once.
struct GridCells<'a> {
    rows: Option<&'a BTreeMap<Entry, Row>>,
    columns: BTreeMap<&'a Entry, usize>,
}

impl<'a> GridCells<'a> {
    fn of(matrix: &'a Matrix, port: ServedPort, grid: Grid) -> Self {
        Self {
            rows: matrix.table.get(&port).and_then(|grids| grids.get(&grid)),
            columns: matrix.order.iter().enumerate().map(|(index, entry)| (entry, index)).collect(),
        }
    }

    fn get(&self, from: &Entry, to: &Entry) -> Option<Cell> {
        let (_, column) = (self.columns.get(from)?, self.columns.get(to)?);
        match self.rows {
            None => Some(Cell::NotServed),
            Some(rows) => rows.get(from)?.0.get(*column).copied(),
        }
    }
}

impl Entry {
    /// Whether it is a row: everybody but a Service.
    pub fn speaks(&self) -> bool {
        !matches!(self, Self::Service(_))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) => key.fmt(f),
            Self::Node(name) => write!(f, "node:{name}"),
            Self::Service(key) => write!(f, "service:{key}"),
            Self::Outside => f.write_str("outside"),
        }
    }
}

impl FromStr for Entry {
    type Err = MatrixError;

    fn from_str(text: &str) -> Result<Self, MatrixError> {
        let wrong = || MatrixError::Entry(text.to_owned());
        if text == "outside" {
            Ok(Self::Outside)
        } else if let Some(name) = text.strip_prefix("node:") {
            (!name.is_empty()).then(|| Self::Node(NodeName::new(name))).ok_or_else(wrong)
        } else if let Some(name) = text.strip_prefix("service:") {
            name.parse().map(Self::Service).map_err(|_| wrong())
        } else {
            text.parse().map(Self::Pod).map_err(|_| wrong())
        }
    }
}

impl fmt::Display for ServedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.port)
    }
}

impl FromStr for ServedPort {
    type Err = MatrixError;

    fn from_str(text: &str) -> Result<Self, MatrixError> {
        let wrong = || MatrixError::Port(text.to_owned());
        let (protocol, port) = text.split_once('/').ok_or_else(wrong)?;
        Ok(Self {
            protocol: protocol.parse().map_err(|_| wrong())?,
            port: port.parse().map_err(|_| wrong())?,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|cell| write!(f, "{}", cell.symbol()))
    }
}

impl FromStr for Row {
    type Err = MatrixError;

    fn from_str(text: &str) -> Result<Self, MatrixError> {
        let cells: Option<Vec<Cell>> = text.chars().map(Cell::of_symbol).collect();
        cells.map(Self).ok_or_else(|| MatrixError::Row(text.to_owned()))
    }
}

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = MatrixError;

            fn try_from(text: String) -> Result<Self, MatrixError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )*};
}
as_text!(Entry, ServedPort, Row);
