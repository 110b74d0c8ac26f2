//! A host in memory, for tests on your machine.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use crate::{Answer, Call, Config, Fetch, HostError, KeyValue, Level, Log, Store};

type Entries = BTreeMap<String, Vec<u8>>;

/// Has what a test puts into it, and remembers what it was asked.
#[derive(Default)]
pub struct Fake {
    pub config: BTreeMap<String, String>,
    /// What other services answer, by URL; where nothing is said, nobody answers.
    pub answers: BTreeMap<String, Answer>,
    stores: RefCell<BTreeMap<String, FakeStore>>,
    calls: RefCell<Vec<Call>>,
    lines: RefCell<Vec<(Level, String)>>,
}

impl Fake {
    /// With one more variable.
    pub fn with_config(mut self, name: &str, value: &str) -> Self {
        self.config.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With one more URL that answers.
    pub fn with_answer(mut self, url: &str, status: u16, body: &str) -> Self {
        let answer = Answer { status, body: body.into(), ..Answer::default() };
        self.answers.insert(url.to_owned(), answer);
        self
    }

    /// The calls that were made, in their order.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.borrow().clone()
    }

    /// What was logged.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.lines.borrow().clone()
    }
}

impl Config for Fake {
    fn config(&self, name: &str) -> Result<Option<String>, HostError> {
        Ok(self.config.get(name).cloned())
    }
}

impl KeyValue for Fake {
    type Store = FakeStore;

    /// Any store is there.
    fn open(&self, name: &str) -> Result<FakeStore, HostError> {
        Ok(self.stores.borrow_mut().entry(name.to_owned()).or_default().clone())
    }
}

impl Fetch for Fake {
    fn fetch(&self, call: &Call) -> Result<Answer, HostError> {
        self.calls.borrow_mut().push(call.clone());
        let answer = self.answers.get(&call.url).cloned();
        answer.ok_or_else(|| HostError(format!("{}: nobody answers", call.url)))
    }
}

impl Log for Fake {
    fn log(&self, level: Level, message: &str) {
        self.lines.borrow_mut().push((level, message.to_owned()));
    }
}

/// A store of a [`Fake`].
#[derive(Clone, Default)]
pub struct FakeStore(Rc<RefCell<Entries>>);

impl Store for FakeStore {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        Ok(self.0.borrow().get(key).cloned())
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), HostError> {
        self.0.borrow_mut().insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    fn delete(&self, key: &str) -> Result<(), HostError> {
        self.0.borrow_mut().remove(key);
        Ok(())
    }

    fn increment(&self, key: &str, more: i64) -> Result<i64, HostError> {
        let value = self.get(key)?.unwrap_or_else(|| b"0".to_vec());
        let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse::<i64>().ok());
        let number = number.ok_or_else(|| HostError(format!("{key} is no number")))?;
        let sum = number.checked_add(more).ok_or_else(|| HostError(format!("{key} is full")))?;
        self.set(key, sum.to_string().as_bytes())?;
        Ok(sum)
    }
}
