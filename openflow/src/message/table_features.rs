//! `OFPMP_TABLE_FEATURES`: what each table can do (OpenFlow 1.3.5 §7.3.5.5). Properties keep their bytes.

use bytes::Bytes;

use super::{put_property, rest, take_property};
use crate::error::{DecodeError, EncodeError};
use crate::number::TableId;
use crate::wire::{FixedText, Reader, Wire, Writer};

/// One table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableFeatures {
    /// Which table.
    pub table: TableId,
    /// Its name.
    pub name: FixedText<32>,
    /// Metadata bits it can match.
    pub metadata_match: u64,
    /// Metadata bits it can write.
    pub metadata_write: u64,
    /// `OFPTC_*`.
    pub config: u32,
    /// Flows it can hold.
    pub max_entries: u32,
    /// Instructions, next tables, actions, fields.
    pub properties: Vec<TableFeatureProperty>,
}

/// `struct ofp_table_feature_prop_header`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableFeatureProperty {
    /// `OFPTFPT_*`.
    pub kind: u16,
    /// What follows type and length.
    pub data: Bytes,
}

impl TableFeatures {
    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.measured("table features", out.position(), |out| {
            out.u8(self.table.0);
            out.zeros(5);
            self.name.write(out);
            out.u64(self.metadata_match);
            out.u64(self.metadata_write);
            out.u32(self.config);
            out.u32(self.max_entries);
            self.properties.iter().try_for_each(|property| {
                put_property(out, property.kind, |out| {
                    out.bytes(&property.data);
                    Ok(())
                })
            })
        })
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<TableFeatures, DecodeError> {
        let at = input.offset();
        let length = usize::from(input.u16()?);
        let payload = length
            .checked_sub(2)
            .ok_or_else(|| DecodeError::bad(at, "table features length", length as u64))?;
        let mut body = input.sub(payload)?;
        let table = TableId(body.u8()?);
        body.skip(5)?;
        let mut features = TableFeatures {
            table,
            name: FixedText::read(&mut body)?,
            metadata_match: body.u64()?,
            metadata_write: body.u64()?,
            config: body.u32()?,
            max_entries: body.u32()?,
            properties: Vec::new(),
        };
        while !body.is_empty() {
            let (kind, mut value) = take_property(&mut body)?;
            features.properties.push(TableFeatureProperty { kind, data: rest(&mut value) });
        }
        Ok(features)
    }
}
