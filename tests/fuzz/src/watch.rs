//! Ends an input that does not end by itself.
//!
//! Without it a parser that loops would make the whole run hang, and nobody would have the input.

use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Far more than any input takes on a machine under load.
const LONGEST: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(1);

type Current = Arc<Mutex<Option<(Instant, Vec<u8>)>>>;

/// Looks after the inputs of a target. Dropped, it looks no more.
pub(crate) struct Watch {
    current: Current,
    _going: mpsc::Sender<()>,
}

impl Watch {
    /// `folder`: where an input that does not end is kept.
    pub(crate) fn new(folder: PathBuf) -> Self {
        let current = Current::default();
        let (going, gone) = mpsc::channel();
        let watched = current.clone();
        thread::spawn(move || {
            while gone.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let current = watched.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some((begun, input)) = &*current
                    && begun.elapsed() > LONGEST
                {
                    let path = crate::keep(&folder, "endless", input);
                    eprintln!("this input takes more than {LONGEST:?}: {}", path.display());
                    std::process::abort();
                }
            }
        });
        Self {
            current,
            _going: going,
        }
    }

    pub(crate) fn begins(&self, input: &[u8]) {
        self.set(Some((Instant::now(), input.to_vec())));
    }

    pub(crate) fn ends(&self) {
        self.set(None);
    }

    fn set(&self, current: Option<(Instant, Vec<u8>)>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = current;
    }
}
