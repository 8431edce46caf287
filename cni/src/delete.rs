//! DEL (CNI 1.1 §"DEL"): succeeds when there is nothing, twice, without a namespace, and without the agent, which then finds
//! the tombstone.

use std::io;

use api::cni::{AttachmentId, Command, Failure, Tombstone, code};

use crate::agent::{Agent, PATIENCE};
use crate::config::Config;
use crate::fault;
use crate::take_back::take_back;
use crate::tombstone::Intent;

/// What an attachment would leave behind.
pub(crate) fn tombstone(config: &Config, id: &AttachmentId) -> Tombstone {
    Tombstone { id: id.clone(), network: config.name.clone(), ipam: config.ipam.clone() }
}

/// Waits for other calls for this attachment; gives what an earlier one owes.
pub(crate) fn lock(config: &Config, owed: &Tombstone) -> Result<(Intent, Option<Tombstone>), Failure> {
    let waited = 2 * PATIENCE;
    Intent::lock(&config.state_directory, owed, waited).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Failure {
            code: code::TRY_AGAIN,
            msg: format!(
                "another call for container {} interface {} has not ended for {} s; try again",
                owed.id.container_id,
                owed.id.interface,
                waited.as_secs()
            ),
            details: String::new(),
        },
        _ => storage("open", config, &owed.id, &error),
    })
}

/// Error 5 for the tombstone.
pub(crate) fn storage(what: &str, config: &Config, id: &AttachmentId, error: &io::Error) -> Failure {
    Failure {
        code: code::IO,
        msg: format!(
            "cannot {what} the tombstone of container {} in {}: {error}; free space or mend the disk (`stateDir` of the \
             network configuration), then try again",
            id.container_id,
            config.state_directory.display()
        ),
        details: String::new(),
    }
}

/// Takes an attachment away.
pub(crate) fn delete(config: &Config, id: &AttachmentId, agent: Agent<'_>) -> Result<(), Failure> {
    let owed = tombstone(config, id);
    // Where nothing can be written, the agent may still do it all.
    let written = lock(config, &owed).and_then(|(mut intent, earlier)| {
        let earlier_ipam = earlier.and_then(|earlier| earlier.ipam);
        let owed = Tombstone { ipam: owed.ipam.clone().or(earlier_ipam), ..owed.clone() };
        intent.write(&owed).map_err(|error| storage("write", config, id, &error))?;
        Ok((intent, owed))
    });
    let (intent, owed) = match written {
        Ok((intent, owed)) => (Ok(intent), owed),
        Err(failure) if failure.code == code::IO => (Err(failure), owed),
        Err(failure) => return Err(failure),
    };
    fault::reach("cni.del.begun");
    let mut away = false;
    match agent.ask(Command::Del(id.clone())) {
        Ok(_) => {}
        Err(error) if error.is_away() => away = true,
        Err(error) => return Err(error.into()),
    }
    fault::reach("cni.del.forgotten");
    take_back(&owed)?;
    match (intent, away) {
        (Ok(_), true) | (Err(_), false) => Ok(()),
        (Ok(intent), false) => intent.end().map_err(|error| storage("remove", config, id, &error)),
        // Nobody would ever do the agent's part.
        (Err(failure), true) => Err(failure),
    }
}
