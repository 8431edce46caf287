//! `Wire`: values of fixed size on the wire, and a macro that declares such structures field by field, padding included.

use std::fmt;

use super::{Reader, Writer};
use crate::error::DecodeError;
use crate::number::{BufferId, BundleId, Cookie, GroupId, MacAddr, MeterId, PortNo, QueueId, TableId, Xid};

/// A value with one fixed form on the wire.
pub trait Wire: Sized {
    /// Takes it off a message.
    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError>;
    /// Puts it behind what is there.
    fn write(&self, out: &mut Writer<'_>);
}

macro_rules! wire_numbers {
    ($($type:ident),*) => { $(
        impl Wire for $type {
            fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                input.$type()
            }
            fn write(&self, out: &mut Writer<'_>) {
                out.$type(*self);
            }
        }
    )* };
}

wire_numbers!(u8, u16, u32, u64);

macro_rules! wire_newtypes {
    ($($name:ident)*) => { $(
        impl Wire for $name {
            fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Wire::read(input).map($name)
            }
            fn write(&self, out: &mut Writer<'_>) {
                self.0.write(out);
            }
        }
    )* };
}

wire_newtypes!(Xid TableId PortNo GroupId MeterId QueueId Cookie BufferId BundleId);

impl Wire for MacAddr {
    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.array().map(MacAddr)
    }
    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&self.0);
    }
}

impl<T: Wire, const N: usize> Wire for [T; N] {
    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut failed = None;
        let items = std::array::from_fn(|_| match T::read(input) {
            Ok(item) => Some(item),
            Err(error) => {
                failed.get_or_insert(error);
                None
            }
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(items.map(|item| item.expect("every item was read, for none failed"))),
        }
    }
    fn write(&self, out: &mut Writer<'_>) {
        self.iter().for_each(|item| item.write(out));
    }
}

/// Text in a field of `N` bytes, filled up with zeros; bytes that are not UTF-8 survive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FixedText<const N: usize>(pub [u8; N]);

impl<const N: usize> FixedText<N> {
    /// The text, cut to what fits with a final zero.
    pub fn new(text: &str) -> FixedText<N> {
        let mut bytes = [0; N];
        let length = text.len().min(N.saturating_sub(1));
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        FixedText(bytes)
    }

    /// Up to the first zero, with a replacement character for what is not UTF-8.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(N);
        String::from_utf8_lossy(&self.0[..end])
    }
}

impl<const N: usize> Default for FixedText<N> {
    fn default() -> Self {
        FixedText([0; N])
    }
}

impl<const N: usize> fmt::Debug for FixedText<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

impl<const N: usize> Wire for FixedText<N> {
    fn read(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.array().map(FixedText)
    }
    fn write(&self, out: &mut Writer<'_>) {
        out.bytes(&self.0);
    }
}

/// Declares structures of fixed size: fields in wire order, `pad N` where zeros stand.
macro_rules! wire_structs {
    ($( $(#[$meta:meta])* pub struct $name:ident { $( $(#[$field_meta:meta])* $field:ident: $type:ty $(, pad $pad:literal)? ;)* } )*) => { $(
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        impl $crate::wire::Wire for $name {
            fn read(input: &mut $crate::wire::Reader<'_>) -> Result<Self, $crate::error::DecodeError> {
                Ok($name { $(
                    $field: {
                        let value = <$type as $crate::wire::Wire>::read(input)?;
                        $( input.skip($pad)?; )?
                        value
                    },
                )* })
            }
            fn write(&self, out: &mut $crate::wire::Writer<'_>) {
                $(
                    $crate::wire::Wire::write(&self.$field, out);
                    $( out.zeros($pad); )?
                )*
            }
        }
    )* };
}

pub(crate) use wire_structs;
