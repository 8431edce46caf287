//! DEL (CNI 1.1 §"DEL"): succeeds when there is nothing, twice, without a namespace, and without the agent.

use std::io;

use api::cni::{AttachmentId, Command, Failure, Tombstone, code};

use crate::agent::Agent;
use crate::config::Config;
use crate::interface::{open, refused};
use crate::tombstone;

/// Takes an attachment away.
pub(crate) fn delete(config: &Config, id: &AttachmentId, agent: Agent<'_>) -> Result<(), Failure> {
    forget(config, id, agent)?;
    // Its other end goes with it, in whatever namespace that is, or was.
    let host = id.host_interface();
    open()?.delete_link(&host).map(drop).map_err(|error| refused("delete the host's end", &host, &error))
}

/// Lets the agent take back what it gave, now or when it is there again.
pub(crate) fn forget(config: &Config, id: &AttachmentId, agent: Agent<'_>) -> Result<(), Failure> {
    let storage = |what: &str, error: io::Error| Failure {
        code: code::IO,
        msg: format!(
            "cannot {what} the tombstone of container {} in {}: {error}; ferrule-agent is to find it there",
            id.container_id,
            config.state_directory.display()
        ),
        details: String::new(),
    };
    match agent.ask(Command::Del(id.clone())) {
        Ok(_) => tombstone::remove(&config.state_directory, id).map_err(|error| storage("remove", error)),
        Err(error) if error.is_away() => {
            let tombstone = Tombstone { id: id.clone(), network: config.name.clone() };
            tombstone::leave(&config.state_directory, &tombstone).map_err(|error| storage("leave", error))
        }
        Err(error) => Err(error.into()),
    }
}
