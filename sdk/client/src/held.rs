//! One object of an informer's copy: a type while somebody looks at it, its JSON when nobody has
//! for a while. A typed Pod takes 10 to 25 KB, its JSON 1.5 to 3.5; of ten thousand pods that are
//! left in peace, the types would be most of what a cluster needs.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use windlass_sdk_types::Kind;

/// How long an object stays a type after the last look at it. To fold one and unfold it again
/// costs about 50 us, so what changes more often than this is left as it is.
pub(crate) const FOLD_AFTER: Duration = Duration::from_secs(2);

/// An object that all informers of a process share.
pub(crate) struct Held<K> {
    uid: Box<str>,
    resource_version: Box<str>,
    form: Mutex<Form<K>>,
}

enum Form<K> {
    Typed { object: Arc<K>, looked_at: Instant },
    Folded(Box<[u8]>),
}

impl<K: Kind> Held<K> {
    pub(crate) fn new(object: K) -> Arc<Self> {
        let uid = object.uid().into();
        let resource_version = object.resource_version().into();
        let form = Form::Typed { object: Arc::new(object), looked_at: Instant::now() };
        Arc::new(Self { uid, resource_version, form: Mutex::new(form) })
    }

    /// Whether both are the same object in the same version.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.uid == other.uid && self.resource_version == other.resource_version
    }

    /// The object as a type, which it then stays for a while. None where its own JSON can't be
    /// read, which is logged.
    pub(crate) fn get(&self) -> Option<Arc<K>> {
        let mut form = self.form.lock();
        let object = match &mut *form {
            Form::Typed { object, looked_at } => {
                *looked_at = Instant::now();
                return Some(object.clone());
            }
            Form::Folded(json) => match K::decode(json) {
                Ok(object) => Arc::new(object),
                Err(error) => {
                    tracing::error!(kind = K::KIND, uid = &*self.uid, %error, "unreadable copy");
                    return None;
                }
            },
        };
        *form = Form::Typed { object: object.clone(), looked_at: Instant::now() };
        Some(object)
    }

    /// Keeps only the JSON where nobody has the object or looked at it of late.
    pub(crate) fn fold(&self) {
        let mut form = self.form.lock();
        if let Form::Typed { object, looked_at } = &*form
            && Arc::strong_count(object) == 1
            && looked_at.elapsed() >= FOLD_AFTER
            && let Ok(json) = object.encode()
        {
            *form = Form::Folded(json.into_boxed_slice());
        }
    }
}
