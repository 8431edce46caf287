//! Looks at everything that the node holds, and has what is not as it should be put right.

use std::time::{Duration, SystemTime};

use api::insight::{AuditItem, List};
use tokio::sync::oneshot;

use super::{Insight, audit};
use crate::node::Snapshot;
use crate::owner::{Ask, SwitchCommand, ask};

/// How long what was put right may take to show; whoever relays the question waits 5 s.
const PATIENCE: Duration = Duration::from_secs(4);

impl Insight {
    /// Everything that is not as it should be; a warning for what could not be looked at.
    pub(super) async fn audit(&self, node: &Snapshot) -> List<AuditItem> {
        let name = &node.config.node;
        let recipe = node.reasons.recipe();
        let (rows, host) = compiler::surroundings(recipe.input());
        let mut list = List::new(audit::database(name, &rows, node.database.as_ref()));
        match self.dump(None, false, Box::new(|_| true)).await {
            Ok(held) => list.items.extend(audit::flows(recipe, &held)),
            Err(error) => list.warnings.push(format!("the flows could not be read: {error}")),
        }
        let (reply, answer) = oneshot::channel();
        let _ = self.switch.send(SwitchCommand::Beside(reply)).await;
        match answer.await {
            Ok(Ok(all)) => list.items.extend(audit::beside(name, all)),
            // That the switch is away was said already.
            Ok(Err(_)) if !node.switch_connected => {}
            Ok(Err(error)) => {
                list.warnings.push(format!("meters and groups could not be read: {error}"));
            }
            Err(_) => list.warnings.push("meters and groups could not be read: the agent is ending".into()),
        }
        if self.keeps_host {
            let (items, warnings) = audit::host(name, &host, &self.nftables).await;
            list.items.extend(items);
            list.warnings.extend(warnings);
        } else {
            list.warnings.push("the host's network is not kept by this agent (--host-network-state)".into());
        }
        list
    }

    /// What the agent put right by itself lately.
    pub(super) async fn past(&self, node: &Snapshot) -> Vec<AuditItem> {
        let past = ask(&self.asks, Ask::Past).await.unwrap_or_default();
        audit::past(&node.config.node, node.reasons.recipe(), &past, SystemTime::now())
    }

    /// Has everything read again and put right; what was wrong, and whether it is right now.
    pub(super) async fn repair(&self, node: &Snapshot) -> List<AuditItem> {
        let until = tokio::time::Instant::now() + PATIENCE;
        let mut found = self.audit(node).await;
        let _ = ask(&self.asks, Ask::Repair).await;
        let mut pause = Duration::from_millis(20);
        loop {
            tokio::time::sleep(pause).await;
            pause *= 2;
            let Some(node) = ask(&self.asks, Ask::Snapshot).await else { break };
            let late = tokio::time::Instant::now() + pause > until;
            if !node.in_sync && !late {
                continue;
            }
            let left = self.audit(&node).await;
            for item in &mut found.items {
                item.repaired = left.warnings.len() <= found.warnings.len() && !is_among(item, &left.items);
            }
            if late || left.items.is_empty() {
                // What came to be wrong meanwhile is to be known too.
                let new: Vec<_> = left.items.into_iter().filter(|one| !is_among(one, &found.items)).collect();
                found.items.extend(new);
                break;
            }
        }
        found
    }
}

/// Whether one of these is about the same thing.
fn is_among(one: &AuditItem, all: &[AuditItem]) -> bool {
    all.iter().any(|other| (&other.place, &other.object) == (&one.place, &one.object))
}
