//! A cluster in virtual time: the real agents' and controllers' state machines, simulated switches, databases and
//! streams between them. No IO, no threads, no clock: a run is a list of steps, and the same list gives the same run.
//! It must not know what a step is meant to prove.
//!
//! ```text
//!   scenario (seed) ─▶ Step ─▶ World ─┬─ Replica: controller::State, what it saved, what its source did not read yet
//!                                     ├─ Machine: ovs_agent::Node, its disk, Switch, port numbers as the database says
//!                                     └─ Stream:  messages under way, cut at any place, noticed late on either side
//! ```

mod check;
mod machine;
mod newer;
mod probe;
mod replica;
mod scenario;
mod step;
mod stream;
mod switch;
mod world;

pub use scenario::{Flavour, Run, Tally};
pub use step::Step;
pub use world::{Sent, World};
