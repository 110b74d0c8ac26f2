//! The few messages of etcd's API that a store needs, as protobuf. They are written by hand: three
//! requests and their answers are less than the tools that would generate them.

use crate::{KeyValue, Revision};

/// A message that is being written.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

impl Message {
    /// Zero and empty values are left out, as proto3 does.
    pub fn number(mut self, field: u32, value: u64) -> Self {
        if value != 0 {
            self.varint(u64::from(field << 3));
            self.varint(value);
        }
        self
    }

    /// A number that is one of several possible fields, so that zero says something, too.
    pub fn chosen_number(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field << 3));
        self.varint(value);
        self
    }

    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        if !value.is_empty() {
            self.delimited(field, value);
        }
        self
    }

    pub fn message(mut self, field: u32, value: Message) -> Self {
        self.delimited(field, &value.0);
        self
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn delimited(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field << 3 | 2));
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// One field that was read.
pub(super) enum Field<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// The fields of a message; ends early where it is damaged.
pub(super) struct Fields<'b>(pub &'b [u8]);

/// What isn't a message; etcd doesn't send that.
#[derive(Debug)]
pub(super) struct Garbled;

impl<'b> Iterator for Fields<'b> {
    type Item = Result<(u64, Field<'b>), Garbled>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or(Garbled);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'b> Fields<'b> {
    fn field(&mut self) -> Option<(u64, Field<'b>)> {
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            // Nothing that is read here is of a fixed size.
            1 => self.take(8).map(Field::Bytes)?,
            5 => self.take(4).map(Field::Bytes)?,
            _ => return None,
        };
        Some((tag >> 3, field))
    }

    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

/// `RangeResponse`, with keys as etcd has them.
#[derive(Debug, Default)]
pub(super) struct Range {
    pub items: Vec<Item>,
    pub more: bool,
}

/// `mvccpb.KeyValue`.
#[derive(Debug, Default)]
pub(super) struct Item {
    pub key: Vec<u8>,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub version: u64,
    pub value: Vec<u8>,
}

/// `TxnResponse`; what was read, one for each operation that reads.
#[derive(Debug, Default)]
pub(super) struct TxnAnswer {
    pub succeeded: bool,
    pub revision: Revision,
    pub ranges: Vec<Range>,
}

/// `mvccpb.Event`.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub deleted: bool,
    pub now: Item,
    pub before: Option<Item>,
}

/// `WatchResponse`.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub created: bool,
    pub canceled: bool,
    pub compact_revision: Revision,
    pub cancel_reason: String,
    pub changes: Vec<Change>,
}

impl Range {
    pub fn read(bytes: &[u8]) -> Result<Self, Garbled> {
        let mut range = Self::default();
        for field in Fields(bytes) {
            match field? {
                (2, Field::Bytes(item)) => range.items.push(Item::read(item)?),
                (3, Field::Number(more)) => range.more = more != 0,
                _ => {}
            }
        }
        Ok(range)
    }
}

impl Item {
    fn read(bytes: &[u8]) -> Result<Self, Garbled> {
        let mut item = Self::default();
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(key)) => item.key = key.to_vec(),
                (2, Field::Number(revision)) => item.create_revision = revision,
                (3, Field::Number(revision)) => item.mod_revision = revision,
                (4, Field::Number(version)) => item.version = version,
                (5, Field::Bytes(value)) => item.value = value.to_vec(),
                _ => {}
            }
        }
        Ok(item)
    }

    /// As the store shows it; None where the key is none of ours.
    pub fn under(self, prefix: &str) -> Option<KeyValue> {
        let key = std::str::from_utf8(&self.key).ok()?.strip_prefix(prefix)?;
        Some(KeyValue {
            key: key.into(),
            value: self.value.into(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
        })
    }
}

impl TxnAnswer {
    pub fn read(bytes: &[u8]) -> Result<Self, Garbled> {
        let mut answer = Self::default();
        for field in Fields(bytes) {
            match field? {
                (1, Field::Bytes(header)) => answer.revision = header_revision(header)?,
                (2, Field::Number(succeeded)) => answer.succeeded = succeeded != 0,
                (3, Field::Bytes(response)) => {
                    for field in Fields(response) {
                        if let (1, Field::Bytes(range)) = field? {
                            answer.ranges.push(Range::read(range)?);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(answer)
    }
}

fn header_revision(bytes: &[u8]) -> Result<Revision, Garbled> {
    let mut revision = 0;
    for field in Fields(bytes) {
        if let (3, Field::Number(number)) = field? {
            revision = number;
        }
    }
    Ok(revision)
}

impl Watched {
    pub fn read(bytes: &[u8]) -> Result<Self, Garbled> {
        let mut watched = Self::default();
        for field in Fields(bytes) {
            match field? {
                (3, Field::Number(created)) => watched.created = created != 0,
                (4, Field::Number(canceled)) => watched.canceled = canceled != 0,
                (5, Field::Number(revision)) => watched.compact_revision = revision,
                (6, Field::Bytes(why)) => {
                    watched.cancel_reason = String::from_utf8_lossy(why).into_owned();
                }
                (11, Field::Bytes(change)) => watched.changes.push(Change::read(change)?),
                _ => {}
            }
        }
        Ok(watched)
    }
}

impl Change {
    fn read(bytes: &[u8]) -> Result<Self, Garbled> {
        let mut change = Self::default();
        for field in Fields(bytes) {
            match field? {
                (1, Field::Number(kind)) => change.deleted = kind == 1,
                (2, Field::Bytes(now)) => change.now = Item::read(now)?,
                (3, Field::Bytes(before)) => change.before = Some(Item::read(before)?),
                _ => {}
            }
        }
        Ok(change)
    }
}

/// `RangeRequest`; an empty `end` asks for the one key.
pub(super) fn range(key: &[u8], end: &[u8], limit: u64, revision: Revision) -> Message {
    Message::default().bytes(1, key).bytes(2, end).number(3, limit).number(4, revision)
}

/// `Compare` of a key's mod revision.
pub(super) fn compare(key: &[u8], revision: Revision) -> Message {
    const MOD: u64 = 2;
    Message::default().number(2, MOD).bytes(3, key).chosen_number(6, revision)
}

/// `WatchRequest` of every change from a revision on, with what was there before.
pub(super) fn watch(key: &[u8], end: &[u8], from: Revision) -> Message {
    let create = Message::default().bytes(1, key).bytes(2, end).number(3, from).number(6, 1);
    Message::default().message(1, create)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let item = |value: &[u8]| {
            Message::default()
                .bytes(1, b"/p/a")
                .number(2, 3)
                .number(3, 300)
                .number(4, 2)
                .bytes(5, value)
        };
        let range = Message::default().message(2, item(b"x")).number(3, 1);
        let header = Message::default().number(1, 7).number(3, 300);
        let op = Message::default().message(1, range);
        let txn = Message::default().message(1, header).number(2, 1).message(3, op).finish();
        let mut answer = TxnAnswer::read(&txn).expect("a message");
        assert_eq!((answer.succeeded, answer.revision, answer.ranges[0].more), (true, 300, true));
        let found = answer.ranges[0].items.remove(0);
        assert!(found.under("/q").is_none());
        let event = Message::default().number(1, 1).message(2, item(b"")).message(3, item(b"y"));
        let watched = Message::default().message(11, event).number(5, 9).bytes(6, b"why").finish();
        let watched = Watched::read(&watched).expect("a message");
        assert_eq!((watched.compact_revision, watched.cancel_reason.as_str()), (9, "why"));
        let change = &watched.changes[0];
        assert!(change.deleted && change.before.as_ref().is_some_and(|b| b.value == b"y"));
        for cut in 0..txn.len() {
            // Cut anywhere, it is an error or a shorter message.
            let _ = TxnAnswer::read(&txn[..cut]);
        }
    }
}
