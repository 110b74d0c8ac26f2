//! One object of an informer's copy: a type while somebody looks at it, its JSON when nobody has
//! for a while. A typed Pod takes 10 to 25 KB, its JSON 1.5 to 3.5, and all else that a cluster keeps
//! of one about 7.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use windlass_sdk_types::Kind;

/// How long an object stays a type after the last look at it, at first. Each time it is needed again
/// after all it stays `PATIENCE` times as long, up to `LONGEST`: to unfold a Pod takes tens of
/// microseconds, and who looks at one pod of a set looks at all of them.
pub(crate) const FOLD_AFTER: Duration = Duration::from_millis(500);
const PATIENCE: u32 = 8;
const LONGEST: Duration = Duration::from_secs(300);

/// An object that all informers of a process share.
pub(crate) struct Held<K> {
    uid: Box<str>,
    resource_version: Box<str>,
    state: Mutex<State<K>>,
}

struct State<K> {
    form: Form<K>,
    looked_at: Instant,
    fold_after: Duration,
}

enum Form<K> {
    Typed(Arc<K>),
    /// JSON.
    Folded(Box<[u8]>),
}

impl<K: Kind> Held<K> {
    pub(crate) fn new(object: K) -> Arc<Self> {
        let uid = object.uid().into();
        let resource_version = object.resource_version().into();
        let form = Form::Typed(Arc::new(object));
        let state = State { form, looked_at: Instant::now(), fold_after: FOLD_AFTER };
        Arc::new(Self { uid, resource_version, state: Mutex::new(state) })
    }

    /// Whether both are the same object in the same version.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.uid == other.uid && self.resource_version == other.resource_version
    }

    /// The object as a type, which it then stays for a while. None where its own JSON can't be
    /// read, which is logged.
    pub(crate) fn get(&self) -> Option<Arc<K>> {
        let mut state = self.state.lock();
        state.looked_at = Instant::now();
        let json = match &state.form {
            Form::Typed(object) => return Some(object.clone()),
            Form::Folded(json) => json,
        };
        match K::decode(json) {
            Ok(object) => {
                let object = Arc::new(object);
                state.form = Form::Typed(object.clone());
                state.fold_after = (state.fold_after * PATIENCE).min(LONGEST);
                Some(object)
            }
            Err(error) => {
                tracing::error!(kind = K::KIND, uid = &*self.uid, %error, "unreadable copy");
                None
            }
        }
    }

    /// Keeps only the JSON where nobody has the object or looked at it of late. False where it is
    /// still a type.
    pub(crate) fn fold(&self) -> bool {
        let mut state = self.state.lock();
        if let Form::Typed(object) = &state.form
            && Arc::strong_count(object) == 1
            && state.looked_at.elapsed() >= state.fold_after
            && let Ok(json) = object.encode()
        {
            state.form = Form::Folded(json.into_boxed_slice());
        }
        matches!(state.form, Form::Folded(_))
    }
}
