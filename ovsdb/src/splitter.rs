//! Finds where one JSON message ends and the next begins in a stream without delimiters (RFC 7047 §4, JSON-RPC 1.0);
//! must not know what the messages mean.
//!
//! The tokenizer's state survives between reads: no byte is looked at twice, however the stream is cut.

/// How much a peer may make us hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SplitLimits {
    /// The longest message, in bytes.
    pub message_bytes: usize,
    /// The deepest nesting of arrays and objects; at most 100, which the JSON reader behind this can follow.
    pub depth: usize,
}

impl Default for SplitLimits {
    /// 64 MiB, far beyond any `Open_vSwitch` database, and 32 levels, where OVSDB needs about ten.
    fn default() -> Self {
        Self { message_bytes: 64 << 20, depth: 32 }
    }
}

/// Why a stream cannot go on. The connection is lost with it: there is no way to find the next message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// Something other than an object between two messages.
    #[error("byte {offset} of the stream is 0x{byte:02x} where a message must begin with '{{'")]
    NotAnObject {
        /// Bytes from the beginning of the stream.
        offset: u64,
        /// What stands there.
        byte: u8,
    },
    /// A `]` closes a `{`, or a `}` closes a `[`.
    #[error("byte {offset} of the stream closes a bracket of the other kind")]
    Mismatch {
        /// Bytes from the beginning of the stream.
        offset: u64,
    },
    /// Arrays and objects nested beyond the limit.
    #[error("byte {offset} of the stream nests deeper than {limit} levels")]
    TooDeep {
        /// Bytes from the beginning of the stream.
        offset: u64,
        /// The limit.
        limit: usize,
    },
    /// A message beyond the limit.
    #[error("a message is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
}

/// A buffer that grew beyond this for one large message is given back after it.
const KEPT_BYTES: usize = 256 << 10;

/// Splits a stream into messages.
#[derive(Debug)]
pub struct Splitter {
    limits: SplitLimits,
    /// Bytes received and not yet given out; the present message begins at `start`.
    buffer: Vec<u8>,
    start: usize,
    /// The next byte to look at.
    cursor: usize,
    /// Bytes of the stream before `buffer`.
    before: u64,
    /// One flag per open bracket: whether it is `{`.
    open: Vec<bool>,
    string: Text,
    failed: Option<SplitError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    /// After a backslash.
    Escape,
}

impl Splitter {
    /// At the beginning of a stream.
    pub fn new(limits: SplitLimits) -> Self {
        Self {
            limits: SplitLimits { depth: limits.depth.min(100), ..limits },
            buffer: Vec::new(),
            start: 0,
            cursor: 0,
            before: 0,
            open: Vec::new(),
            string: Text::Outside,
            failed: None,
        }
    }

    /// Takes in what was read from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        self.buffer.drain(..self.start);
        self.before += self.start as u64;
        self.cursor -= self.start;
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more is pushed. An error repeats for ever.
    pub fn next_message(&mut self) -> Result<Option<&[u8]>, SplitError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match self.scan() {
            Ok(Some((start, end))) => Ok(self.buffer.get(start..end)),
            Ok(None) => Ok(None),
            Err(error) => {
                self.buffer = Vec::new();
                (self.start, self.cursor) = (0, 0);
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// How many bytes wait for the rest of their message.
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len() - self.start
    }

    fn scan(&mut self) -> Result<Option<(usize, usize)>, SplitError> {
        while let Some(&byte) = self.buffer.get(self.cursor) {
            let offset = self.before + self.cursor as u64;
            self.cursor += 1;
            if self.open.is_empty() {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => self.start = self.cursor,
                    b'{' => self.open.push(true),
                    byte => return Err(SplitError::NotAnObject { offset, byte }),
                }
                continue;
            }
            if self.cursor - self.start > self.limits.message_bytes {
                return Err(SplitError::TooLong { limit: self.limits.message_bytes });
            }
            match (self.string, byte) {
                (Text::Escape, _) => self.string = Text::Inside,
                (Text::Inside, b'\\') => self.string = Text::Escape,
                (Text::Inside, b'"') => self.string = Text::Outside,
                (Text::Inside, _) => {}
                (Text::Outside, b'"') => self.string = Text::Inside,
                (Text::Outside, b'{' | b'[') => {
                    if self.open.len() >= self.limits.depth {
                        return Err(SplitError::TooDeep { offset, limit: self.limits.depth });
                    }
                    self.open.push(byte == b'{');
                }
                (Text::Outside, b'}' | b']') => {
                    if self.open.pop() != Some(byte == b'}') {
                        return Err(SplitError::Mismatch { offset });
                    }
                    if self.open.is_empty() {
                        let message = (self.start, self.cursor);
                        self.start = self.cursor;
                        return Ok(Some(message));
                    }
                }
                (Text::Outside, _) => {}
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(
        limits: SplitLimits,
        chunks: impl IntoIterator<Item = Vec<u8>>,
    ) -> Result<Vec<Vec<u8>>, SplitError> {
        let mut splitter = Splitter::new(limits);
        let mut messages = Vec::new();
        for chunk in chunks {
            splitter.push(&chunk);
            while let Some(message) = splitter.next_message()? {
                messages.push(message.to_vec());
            }
        }
        Ok(messages)
    }

    const STREAM: &str = " {\"a\":[1,\"}\\\"]\\\\\"]}\n{}\r\n\t{\"\\u007b\":{\"x\":[[],{}]}}{\"b\":\"{\"}";

    #[test]
    fn messages_are_found_however_the_stream_is_cut() {
        let whole = split(SplitLimits::default(), [STREAM.as_bytes().to_vec()]).expect("valid");
        assert_eq!(whole.len(), 4);
        assert_eq!(whole[1], b"{}");
        for cut in 0..=STREAM.len() {
            let (left, right) = STREAM.as_bytes().split_at(cut);
            assert_eq!(split(SplitLimits::default(), [left.to_vec(), right.to_vec()]), Ok(whole.clone()));
        }
        assert_eq!(split(SplitLimits::default(), STREAM.bytes().map(|byte| vec![byte])), Ok(whole));
    }

    #[test]
    fn ten_thousand_levels_are_refused_at_the_limit() {
        let deep = format!("{{\"a\":{}", "[".repeat(10_000));
        let error = split(SplitLimits::default(), [deep.into_bytes()]).expect_err("too deep");
        assert_eq!(error, SplitError::TooDeep { offset: 36, limit: 32 });
    }

    #[test]
    fn a_message_that_never_ends_is_refused_at_the_limit() {
        let limits = SplitLimits { message_bytes: 1000, depth: 8 };
        let mut splitter = Splitter::new(limits);
        splitter.push(b"{\"");
        let mut pushed = 0;
        while splitter.next_message() == Ok(None) {
            assert!(splitter.pending_bytes() <= 1100, "holds no more than the limit and a read");
            splitter.push(&[b'x'; 100]);
            pushed += 100;
        }
        assert!((1000..=1100).contains(&pushed));
        assert_eq!(splitter.next_message(), Err(SplitError::TooLong { limit: 1000 }));
        splitter.push(&[b'x'; 100]);
        assert_eq!(splitter.pending_bytes(), 0, "a failed stream holds nothing");
    }

    #[test]
    fn a_stream_that_fails_after_a_message_holds_nothing() {
        let mut splitter = Splitter::new(SplitLimits::default());
        splitter.push(b"{}x");
        assert_eq!(splitter.next_message(), Ok(Some(&b"{}"[..])));
        assert!(splitter.next_message().is_err());
        assert_eq!(splitter.pending_bytes(), 0);
    }

    #[test]
    fn what_is_no_message_is_refused_with_its_place() {
        for (stream, error) in [
            ("{} 1", SplitError::NotAnObject { offset: 3, byte: b'1' }),
            ("[]", SplitError::NotAnObject { offset: 0, byte: b'[' }),
            ("{]", SplitError::Mismatch { offset: 1 }),
            ("{\"a\":[}", SplitError::Mismatch { offset: 6 }),
        ] {
            assert_eq!(split(SplitLimits::default(), [stream.as_bytes().to_vec()]), Err(error), "{stream}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(chunks: Vec<Vec<u8>>) {
            let _ = split(SplitLimits { message_bytes: 64, depth: 4 }, chunks);
        }
    }
}
