//! The drivers: the only places that touch the world. Each owns one connection or one part of the host, is told what should
//! be, and reports what is as events; none of them decides what should be.

pub mod audit;
pub mod beside;
pub mod cache;
pub mod clock;
pub mod controller;
pub mod copies;
pub mod cutter;
pub mod database;
pub mod discovery;
pub mod endpoint_slice;
pub mod fragments;
pub mod health_check;
pub mod host;
pub mod https;
mod monitor;
pub mod netlink;
pub mod nftables;
pub mod sweeper;
pub mod switch;
pub mod sysctl;
pub mod unixctl;
