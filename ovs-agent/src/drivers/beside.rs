//! What a switch holds beside its flows: the meters that limit copies, and groups, of which none are ours. Compares, and puts
//! right. It must not know why flows exist.

use std::collections::BTreeMap;

use api::insight::Difference;
use compiler::copies::Copied;
use openflow::GroupId;
use openflow::group::{GroupDesc, GroupMod};
use openflow::io::{Client, ClientError};
use openflow::message::{
    Message, MeterConfig, MeterMod, MeterModCommand, MultipartReplyBody, MultipartRequestBody,
};

use super::copies;
use crate::drift::{Drift, NOT_OURS};

/// One of them that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// `meter` or `group`.
    pub place: &'static str,
    /// `meter 2`, `group 7`.
    pub object: String,
    /// How it differs.
    pub difference: Difference,
    /// As it should be, in ovs-ofctl's words.
    pub wanted: Option<String>,
    /// As it is.
    pub found: Option<String>,
    /// What it does.
    pub what: String,
    /// What puts it right.
    cure: Cure,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Cure {
    /// Meters of ours are made where copies are prepared.
    Prepare,
    Meter(Box<MeterMod>),
    Group(Box<GroupMod>),
}

/// Everything that differs; meters only where the switch can have any.
pub async fn differing(client: &Client) -> Result<Vec<Beside>, ClientError> {
    let meters = match copies::meters(client).await? {
        Some(held) => meters(&held.into_iter().collect()),
        None => Vec::new(),
    };
    let groups = held_groups(client).await?.into_iter().map(foreign_group);
    Ok(meters.into_iter().chain(groups).collect())
}

/// Puts everything right; what it was.
pub async fn mend(client: &Client) -> Result<Vec<Beside>, ClientError> {
    let all = differing(client).await?;
    for one in &all {
        match &one.cure {
            Cure::Prepare => {}
            Cure::Meter(message) => drop(client.send(Message::MeterMod((**message).clone())).await?),
            Cure::Group(message) => drop(client.send(Message::GroupMod((**message).clone())).await?),
        }
    }
    if all.iter().any(|one| one.cure == Cure::Prepare) {
        copies::prepare(client).await?;
    }
    client.barrier().await?;
    Ok(all)
}

/// The same for what is ours alone: what somebody else made is left to an audit.
pub async fn mend_ours(client: &Client) -> Result<Vec<Beside>, ClientError> {
    let Some(held) = copies::meters(client).await? else { return Ok(Vec::new()) };
    let mut all = meters(&held.into_iter().collect());
    all.retain(|one| one.cure == Cure::Prepare);
    if !all.is_empty() {
        copies::prepare(client).await?;
    }
    Ok(all)
}

impl Beside {
    /// The same as something that somebody else did.
    pub fn drift(&self) -> Drift {
        Drift::other(self.place, self.difference, self.object.clone(), &self.what)
    }
}

fn meters(held: &BTreeMap<openflow::MeterId, MeterConfig>) -> Vec<Beside> {
    let mut wanted: BTreeMap<_, _> = Copied::all().map(copies::wanted).map(|one| (one.meter, one)).collect();
    let mut all = Vec::new();
    for (id, found) in held {
        match wanted.remove(id) {
            Some(one) if one == *found => {}
            Some(one) => all.push(our_meter(Difference::Changed, &one, Some(found))),
            None => all.push(Beside {
                place: "meter",
                object: format!("meter {}", id.0),
                difference: Difference::Extra,
                wanted: None,
                found: Some(text(found)),
                what: NOT_OURS.into(),
                cure: Cure::Meter(Box::new(command(MeterModCommand::Delete, found))),
            }),
        }
    }
    all.extend(wanted.values().map(|one| our_meter(Difference::Missing, one, None)));
    all
}

fn our_meter(difference: Difference, wanted: &MeterConfig, found: Option<&MeterConfig>) -> Beside {
    Beside {
        place: "meter",
        object: format!("meter {}", wanted.meter.0),
        difference,
        wanted: Some(text(wanted)),
        found: found.map(text),
        what: "limits what the switch copies to the agent, for the last tuples and the audit log".into(),
        cure: Cure::Prepare,
    }
}

fn text(meter: &MeterConfig) -> String {
    command(MeterModCommand::Add, meter).to_string().trim_start_matches("ADD ").to_owned()
}

fn command(command: MeterModCommand, meter: &MeterConfig) -> MeterMod {
    MeterMod { command, flags: meter.flags, meter: meter.meter, bands: meter.bands.clone() }
}

fn foreign_group(group: GroupDesc) -> Beside {
    Beside {
        place: "group",
        object: format!("group {}", group.group.0),
        difference: Difference::Extra,
        wanted: None,
        found: Some(group.to_string()),
        what: NOT_OURS.into(),
        cure: Cure::Group(Box::new(GroupMod::delete(GroupId(group.group.0)))),
    }
}

async fn held_groups(client: &Client) -> Result<Vec<GroupDesc>, ClientError> {
    let mut all = Vec::new();
    let mut parts = client.multipart(MultipartRequestBody::GroupDesc).await?;
    while let Some(part) = parts.next().await? {
        let MultipartReplyBody::GroupDesc(groups) = part else { return Err(ClientError::WrongReply(7)) };
        all.extend(groups);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_are_compared_one_by_one() {
        let ours: BTreeMap<_, _> = Copied::all().map(copies::wanted).map(|one| (one.meter, one)).collect();
        assert_eq!(meters(&ours), []);
        let mut held = ours.clone();
        let (first, gone) = held.pop_first().unwrap();
        let changed = held.values_mut().next().unwrap();
        changed.bands.clear();
        let changed = changed.meter;
        held.insert(openflow::MeterId(77), MeterConfig { meter: openflow::MeterId(77), ..gone });
        let found = meters(&held);
        let found: Vec<_> = found.iter().map(|one| (one.difference, one.object.clone())).collect();
        let name = |id: openflow::MeterId| format!("meter {}", id.0);
        assert_eq!(
            found,
            [
                (Difference::Extra, "meter 77".into()),
                (Difference::Changed, name(changed)),
                (Difference::Missing, name(first)),
            ]
        );
    }
}
