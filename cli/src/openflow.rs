//! `ferrule openflow`: messages as people read them, and back.

use crate::arguments::Openflow;
use crate::fail::{Fail, Outcome};

pub fn run(command: &Openflow) -> Result<Outcome, Fail> {
    let what = match command {
        Openflow::Decode { .. } => "decode",
        Openflow::Encode { .. } => "encode",
    };
    Err(Fail::Said(format!(
        "`ferrule openflow {what}` is not part of this version yet; use `ovs-ofctl ofp-print`"
    )))
}
