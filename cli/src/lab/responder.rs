//! `ferrule lab responder`: the process that answers in a pod.

use lab::pods::{Ready, write_ready};
use lab::responder::{Service, start};

use crate::arguments::Responder;
use crate::fail::{Fail, Outcome};

pub fn run(arguments: &Responder) -> Result<Outcome, Fail> {
    let service = Service {
        identity: arguments.identity.clone(),
        ports: arguments.ports.clone(),
        addresses: arguments.addresses.clone(),
    };
    let failed = start(&service);
    for (port, error) in &failed {
        eprintln!("{}: cannot serve {port}: {error}", service.identity);
    }
    let ready = Ready { failed: failed.into_iter().map(|(port, error)| (port, error.to_string())).collect() };
    write_ready(&arguments.ready, &ready)?;
    loop {
        std::thread::park();
    }
}
