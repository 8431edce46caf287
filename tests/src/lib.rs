//! What the tests that cross crates share; it must not hold anything that production code needs.

pub mod asking;
pub mod binaries;
pub mod cluster;
pub mod conformance;
pub mod go;
pub mod lab_up;
pub mod namespace;
pub mod packet;
pub mod private_ovs;
pub mod runtime;
pub mod simulation;
pub mod skip;
pub mod steady;
pub mod traffic;
pub mod whole;
