//! Copies of packets that the switch sends: the meters that limit them, and what a copy says. It must not know why flows
//! exist, nor who reads what was seen.

use std::collections::HashMap;
use std::time::SystemTime;

use compiler::copies::Copied;
use compiler::register::DECIDED_BY;
use openflow::io::{Client, ClientError};
use openflow::message::{
    Message, MeterBand, MeterConfig, MeterFlags, MeterMod, MeterModCommand, MultipartReplyBody,
    MultipartRequestBody, NiciraMessage, PacketIn2, PacketInFormat, PacketProperty,
};
use openflow::{Cookie, Match, MeterId};
use tokio::sync::mpsc;

use crate::seen::{Seen, Tuple};

/// `OFPM_ALL` (OpenFlow 1.3.5 §7.3.4.3).
const EVERY_METER: MeterId = MeterId(0xffff_ffff);

/// Something that an audited policy decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// When it was seen.
    pub at: SystemTime,
    /// Whether a connection begins; a packet was denied otherwise.
    pub allowed: bool,
    /// The end of the deciding flow's cookie ([`compiler::copies::short`]).
    pub flow: u32,
    /// Who spoke to whom.
    pub tuple: Tuple,
}

/// What is made of copies.
#[derive(Debug)]
pub struct Copies {
    /// What was dropped last.
    pub seen: Seen,
    /// Where decisions go.
    pub audit: mpsc::Sender<Decision>,
    /// The time.
    pub clock: fn() -> SystemTime,
}

impl Copies {
    /// Takes a message of the switch in; anything but a copy is nothing. A log that does not keep up is the log's business:
    /// the switch is not held back.
    pub fn take(&mut self, message: &Message) {
        let Some(copy) = Copy::of(message) else { return };
        let Copy { copied, cookie, decided_by, tuple } = copy;
        let at = (self.clock)();
        let (allowed, flow) = match copied {
            Copied::Allowed => (true, decided_by),
            Copied::Denied | Copied::Dropped(_) => (false, compiler::copies::short(cookie)),
            // Packets, not copies: see `drivers::fragments`.
            Copied::Piece | Copied::Joined => return,
        };
        if !matches!(copied, Copied::Dropped(_)) {
            let _ = self.audit.try_send(Decision { at, allowed, flow, tuple: tuple.clone() });
        }
        if copied != Copied::Allowed {
            self.seen.take(cookie, tuple, at);
        }
    }
}

/// A copy, read.
#[derive(Debug, PartialEq, Eq)]
struct Copy {
    copied: Copied,
    cookie: Cookie,
    decided_by: u32,
    tuple: Tuple,
}

impl Copy {
    fn of(message: &Message) -> Option<Self> {
        let Message::Nicira(message) = message else { return None };
        let NiciraMessage::PacketIn2(PacketIn2 { properties }) = &**message else { return None };
        let (mut copied, mut cookie, mut tuple) = (None, None, None);
        let mut metadata = None;
        for property in properties {
            match property {
                PacketProperty::Userdata(userdata) => copied = Copied::from_userdata(userdata),
                PacketProperty::Cookie(it) => cookie = Some(*it),
                PacketProperty::Packet(frame) => tuple = Tuple::of(frame),
                PacketProperty::Metadata(match_) => metadata = Some(match_),
                _ => {}
            }
        }
        let register = |slot: compiler::register::Slot| {
            let bits =
                |match_: &Match| match_.get(slot.bits.field).map(|(value, _)| value & slot.bits.mask());
            metadata.and_then(bits).unwrap_or(0)
        };
        // The agent's own questions are nobody's packets.
        if register(compiler::register::QUESTION) != 0 {
            return None;
        }
        let decided_by = register(DECIDED_BY) as u32;
        Some(Self { copied: copied?, cookie: cookie?, decided_by, tuple: tuple? })
    }
}

pub(super) fn wanted(copied: Copied) -> MeterConfig {
    let rate = copied.packets_per_second();
    MeterConfig {
        flags: MeterFlags::PKTPS | MeterFlags::BURST | MeterFlags::STATS,
        meter: copied.meter(),
        bands: vec![MeterBand::Drop { rate, burst: rate }],
    }
}

/// Has the switch limit copies, and send them. False where it cannot limit: then none may be made.
pub async fn prepare(client: &Client) -> Result<bool, ClientError> {
    let Some(held) = meters(client).await? else { return Ok(false) };
    for meter in Copied::all().map(wanted).filter(|meter| held.get(&meter.meter) != Some(meter)) {
        let command = match held.contains_key(&meter.meter) {
            true => MeterModCommand::Modify,
            false => MeterModCommand::Add,
        };
        let MeterConfig { flags, meter, bands } = meter;
        client.send(Message::MeterMod(MeterMod { command, flags, meter, bands })).await?;
    }
    client.send(Message::Nicira(Box::new(NiciraMessage::SetPacketInFormat(PacketInFormat::NXT2)))).await?;
    client.listen().await?;
    let held = meters(client).await?.unwrap_or_default();
    Ok(Copied::all().map(wanted).all(|meter| held.get(&meter.meter) == Some(&meter)))
}

/// The meters that there are; `None` where there can be none.
pub(super) async fn meters(client: &Client) -> Result<Option<HashMap<MeterId, MeterConfig>>, ClientError> {
    let mut all = HashMap::new();
    let mut parts = client.multipart(MultipartRequestBody::MeterConfig(EVERY_METER)).await?;
    loop {
        match parts.next().await {
            Ok(None) => return Ok(Some(all)),
            Ok(Some(MultipartReplyBody::MeterConfig(meters))) => {
                all.extend(meters.into_iter().map(|meter| (meter.meter, meter)));
            }
            Ok(Some(_)) => return Ok(None),
            Err(error) if error.is_disconnect() => return Err(error),
            Err(_) => return Ok(None),
        }
    }
}

/// How many decisions the switch did not copy since it has its meters: denied, allowed. The agent's questions count as denied.
pub async fn suppressed(client: &Client) -> Result<[u64; 2], ClientError> {
    let mut counts = [0; 2];
    for (copied, count) in [Copied::Denied, Copied::Allowed].into_iter().zip(&mut counts) {
        let mut parts = client.multipart(MultipartRequestBody::Meter(copied.meter())).await?;
        while let Some(part) = parts.next().await? {
            let MultipartReplyBody::Meter(meters) = part else { return Err(ClientError::WrongReply(19)) };
            *count += meters.iter().flat_map(|meter| &meter.bands).map(|(packets, _)| packets).sum::<u64>();
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use compiler::drops::DropClass;
    use compiler::register::QUESTION;

    use super::*;

    fn copy(code: u8, metadata: Match) -> Message {
        let mut frame = vec![0; 12];
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 53]);
        let properties = vec![
            PacketProperty::Packet(frame.into()),
            PacketProperty::Cookie(Cookie(0x1_0000_0002)),
            PacketProperty::Metadata(metadata),
            PacketProperty::Userdata(vec![code].into()),
        ];
        Message::Nicira(Box::new(NiciraMessage::PacketIn2(PacketIn2 { properties })))
    }

    #[test]
    fn copies_are_samples_and_decisions_and_questions_are_neither() {
        let (audit, mut decisions) = mpsc::channel(1);
        let mut copies = Copies { seen: Seen::default(), audit, clock: || SystemTime::UNIX_EPOCH };
        let decided = DECIDED_BY.on(Match::new(), 77);
        copies.take(&copy(1, decided.clone()));
        let allowed = decisions.try_recv().unwrap();
        assert_eq!((allowed.allowed, allowed.flow, allowed.tuple.ports), (true, 77, Some((9, 53))));
        assert!(copies.seen.of(Cookie(0x1_0000_0002)).is_empty());
        copies.take(&copy(0, decided));
        let denied = decisions.try_recv().unwrap();
        assert_eq!((denied.allowed, denied.flow), (false, 2));
        assert_eq!(copies.seen.of(Cookie(0x1_0000_0002)).len(), 1);

        let mut other = Copies { seen: Seen::default(), ..copies };
        other.take(&copy(0, QUESTION.on(Match::new(), 1)));
        assert!(decisions.try_recv().is_err() && other.seen.of(Cookie(0x1_0000_0002)).is_empty());
        let deny = DropClass::ALL.iter().position(|class| *class == DropClass::DefaultDeny).unwrap();
        other.take(&copy(2 + deny as u8, Match::new()));
        assert!(decisions.try_recv().is_err() && other.seen.of(Cookie(0x1_0000_0002)).len() == 1);
        // More than the log takes is left out.
        other.take(&copy(0, Match::new()));
        other.take(&copy(0, Match::new()));
        assert!(decisions.try_recv().is_ok() && decisions.try_recv().is_err());
    }
}
