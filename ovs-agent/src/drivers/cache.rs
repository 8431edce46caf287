//! What the switch has cached of its flows, entry by entry of the datapath: sees to it that nothing goes on by flows that are
//! no more. It must not know why anybody wants that.

use std::path::Path;
use std::time::Duration;

use openflow::io::Client;
use openflow::message::Message;

use super::cutter::CutError;
use super::unixctl::{Unixctl, UnixctlError};

/// How often the switch is told to look through its cache again, until it has.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A barrier's reply says that flows are in force for what is looked up from now on; what is cached goes on until the switch
/// has looked through it. One such pass may have begun before; the second began after the first was over.
pub async fn settle(client: &Client, unixctl: &mut Unixctl) -> Result<(), CutError> {
    // ovs-vswitchd's main loop tells those who look through the cache of new flows in its next round. It takes up a command at
    // the end of a round, and the barrier behind it in a later one.
    unixctl.call("version", &[]).await?;
    for _pass in 0..2 {
        look_again(client).await?;
        client.barrier().await?;
        let waited = unixctl.call("revalidator/wait", &[]);
        tokio::pin!(waited);
        loop {
            tokio::select! {
                answer = &mut waited => match answer {
                    Ok(_) => break,
                    // It cannot say so where it serves the kernel's datapath and its own.
                    Err(UnixctlError::Refused { .. }) => {
                        tokio::time::sleep(LONGEST_PASS).await;
                        break;
                    }
                    Err(error) => return Err(error.into()),
                },
                () = tokio::time::sleep(LOOK_AGAIN) => look_again(client).await?,
            }
        }
    }
    forget(unixctl).await?;
    Ok(())
}

/// The same, later and for what nobody waits for: an allow.
pub async fn renew(rundir: &Path) -> Result<(), UnixctlError> {
    // What is looked up by the flows of before is in the cache by then.
    tokio::time::sleep(LONGEST_PASS).await;
    forget(&mut Unixctl::connect(rundir).await?).await
}

/// Where the datapath is ovs-vswitchd's own, looking through the cache does not reach all of it: where entries overlap (one is
/// left of many flows, one was made when there were few), Open vSwitch 3.1 gives the new actions of one to the other, and takes
/// the old ones for changed from then on. The kernel knows its entries by name.
async fn forget(unixctl: &mut Unixctl) -> Result<(), UnixctlError> {
    let datapaths = unixctl.call("dpctl/dump-dps", &[]).await?;
    if datapaths.lines().any(|datapath| !datapath.starts_with("system@")) {
        unixctl.call("revalidator/purge", &[]).await?;
    }
    Ok(())
}

/// `other_config:max-revalidator` of ovs-vswitchd.conf.db(5).
const LONGEST_PASS: Duration = Duration::from_millis(500);

async fn look_again(client: &Client) -> Result<(), CutError> {
    client.send(Message::FlowMod(Box::new(compiler::look_again()))).await?;
    Ok(())
}
