//! The switch's own word on every change to its flows that this connection did not make (`ONFST_FLOW_MONITOR`), so that a
//! change behind our back is seen at once. It must not know what the flows should be.

use openflow::message::{
    FlowMonitorRequest, FlowUpdate, FlowUpdateEvent, Message, MultipartReplyBody, MultipartRequestBody,
};
use openflow::{FlowFlags, PortNo, TableId};

use crate::shadow::{FlowChange, FlowId, Held};

/// What a message of the switch says about its flows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Somebody changed these.
    Changes(Vec<FlowChange>),
    /// Changes were left out because we read too slowly; only reading everything tells.
    Gap,
    /// It is about something else.
    Nothing,
}

/// Asks to be told from now on, of flows with their actions; our own changes in short.
pub(super) fn request() -> MultipartRequestBody {
    use FlowMonitorRequest as Monitor;
    MultipartRequestBody::FlowMonitor(vec![FlowMonitorRequest {
        id: 1,
        flags: Monitor::ADD | Monitor::DELETE | Monitor::MODIFY | Monitor::ACTIONS,
        out_port: PortNo::ANY,
        table: TableId::ALL,
        match_: openflow::Match::new(),
    }])
}

/// Reads a message that nobody asked for.
pub(super) fn word(message: Message) -> Word {
    match message {
        Message::FlowMonitorResumed => Word::Gap,
        Message::MultipartReply(reply) => match reply.body {
            MultipartReplyBody::FlowMonitor(updates) => {
                let changes: Vec<_> = updates.into_iter().filter_map(change).collect();
                if changes.is_empty() { Word::Nothing } else { Word::Changes(changes) }
            }
            _ => Word::Nothing,
        },
        _ => Word::Nothing,
    }
}

fn change(update: FlowUpdate) -> Option<FlowChange> {
    let FlowUpdate::Full {
        event,
        priority,
        idle_timeout,
        hard_timeout,
        table,
        cookie,
        match_,
        instructions,
        ..
    } = update
    else {
        return None;
    };
    // What the switch learned is its own.
    if compiler::Table::from_id(table.0).is_some_and(compiler::Table::is_learned) {
        return None;
    }
    // An update does not carry the flags; none of ours has any.
    let held = || Held::new(cookie, &instructions, (idle_timeout, hard_timeout), FlowFlags::default());
    let now = match event {
        FlowUpdateEvent::Added | FlowUpdateEvent::Modified => Some(held()),
        FlowUpdateEvent::Deleted => None,
    };
    Some(FlowChange { id: FlowId::new(table, priority, &match_), now })
}
