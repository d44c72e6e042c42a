//! What uploads carry because it is configured: a checksum, an encryption, tags, an ACL.
//!
//! A store that refuses one of them refuses everything; and one that takes an order to encrypt without a word, and does
//! not encrypt, is the worse of the two.

use crate::aws::http::Answer;
use crate::aws::retry::Cause;
use crate::config::{Encryption, Settings};
use crate::operation::Operation;
use crate::platform::Platform;
use crate::s3::{Condition, Kind};

use super::report::{Outcome, Verdict};
use super::{Probe, is_passing};

/// Something that uploads carry because it is configured.
struct Part {
    check: &'static str,
    is_carried: fn(&Settings) -> bool,
    drop: fn(&mut Settings),
}

const PARTS: [Part; 4] = [
    Part {
        check: "checksum-accepted",
        is_carried: |_| true,
        // Some want one, some take none.
        drop: |settings| settings.skip_s3_checksum = !settings.skip_s3_checksum,
    },
    Part {
        check: "encryption-accepted",
        is_carried: |settings| !matches!(settings.encryption, Encryption::None),
        drop: |settings| settings.encryption = Encryption::None,
    },
    Part {
        check: "tags-accepted",
        is_carried: |settings| settings.state_tags.is_some() || settings.lock_tags.is_some(),
        drop: |settings| {
            settings.state_tags = None;
            settings.lock_tags = None;
        },
    },
    Part {
        check: "acl-accepted",
        is_carried: |settings| settings.acl.is_some(),
        drop: |settings| settings.acl = None,
    },
];

impl<P: Platform> Probe<'_, P> {
    /// Finds out which parts of what is configured the store takes, and goes on with those. False: it takes nothing.
    pub(super) fn upload(&mut self) -> bool {
        let Err(cause) = self.upload_once() else {
            self.accept_parts(&[]);
            return true;
        };
        let told = self.told(Operation::PutObject, &self.stem, &cause);
        let configured = self.settings.clone();
        let carried: Vec<_> = PARTS
            .iter()
            .filter(|part| (part.is_carried)(&configured))
            .collect();
        let mut attempts: Vec<Vec<&Part>> = carried.iter().map(|part| vec![*part]).collect();
        if carried.len() > 1 {
            attempts.push(carried);
        }
        if matches!(cause, Cause::Store(_)) && !is_passing(&cause) {
            for dropped in attempts {
                for part in &dropped {
                    (part.drop)(&mut self.settings);
                }
                if self.upload_once().is_ok() {
                    self.refuse_parts(&dropped, &told, &configured);
                    return true;
                }
                self.settings = configured.clone();
            }
        }
        self.report.not_tested("upload", Verdict::Unknown, told);
        false
    }

    /// Stores an object as a state and, where that is not the same, one as a lock.
    fn upload_once(&mut self) -> Result<(), Cause> {
        let mut kinds = vec![Kind::State];
        if self.settings.lock_tags != self.settings.state_tags {
            kinds.push(Kind::Lock);
        }
        for kind in kinds {
            self.insist(|probe| {
                let (key, body) = (probe.fresh_key(), probe.fresh_body());
                probe.put(&key, kind, &body, Condition::Anything)
            })?;
        }
        Ok(())
    }

    fn accept_parts(&mut self, refused: &[&Part]) {
        let settings = self.settings.clone();
        let parts = PARTS
            .iter()
            .filter(|part| !refused.iter().any(|other| other.check == part.check))
            // Whether an encryption is more than accepted, its own step tells.
            .filter(|part| part.check != "encryption-accepted" && (part.is_carried)(&settings));
        for part in parts {
            if part.check == "checksum-accepted" && settings.skip_s3_checksum {
                let detail = "Uploads carry no checksum, as skip_s3_checksum is true.";
                self.report.add(
                    part.check,
                    Outcome::NotTested,
                    Verdict::Safe,
                    detail.to_owned(),
                );
            } else {
                self.report.ok(part.check, "The store takes it.");
            }
        }
    }

    /// What is configured does not work here, and the probe goes on without it.
    fn refuse_parts(&mut self, refused: &[&Part], told: &str, configured: &Settings) {
        if refused.len() > 1 {
            let detail = format!(
                "As it is configured, nothing can be written here, and leaving out one part of \
                 what uploads carry does not help: {told}"
            );
            self.report.failed("upload", Verdict::Unknown, detail);
            return;
        }
        for part in refused {
            let name = part.check;
            if name == "checksum-accepted" {
                let value = !configured.skip_s3_checksum;
                self.report
                    .suggestions
                    .push(format!("skip_s3_checksum = {value}"));
                let detail = format!("Uploads work with skip_s3_checksum = {value} only: {told}");
                self.report.failed(name, Verdict::Safe, detail);
                continue;
            }
            if name == "encryption-accepted" && matches!(configured.encryption, Encryption::Aes256)
            {
                self.report.suggestions.push("encrypt = false".to_owned());
            }
            let detail = format!("As it is configured, nothing can be written here: {told}");
            self.report.failed(name, Verdict::Unknown, detail);
        }
        self.accept_parts(refused);
    }

    /// Whether the store encrypts as it was told to, as far as it says so.
    pub(super) fn check_encryption(&mut self) {
        const NAME: &str = "encryption-honoured";
        let encryption = self.settings.encryption.clone();
        if matches!(encryption, Encryption::None) {
            return;
        }
        let stored = self.insist(|probe| {
            let (key, body) = (probe.fresh_key(), probe.fresh_body());
            probe.put(&key, Kind::Lock, &body, Condition::Anything)?;
            Ok((probe.get(&key)?, key))
        });
        let (answer, key) = match stored {
            Ok(stored) => stored,
            Err(cause) => {
                let told = self.told(Operation::GetObject, &self.stem, &cause);
                return self.report.not_tested(NAME, Verdict::Unknown, told);
            }
        };
        let header = |name: &str| answer.header(name).unwrap_or_default().to_owned();
        let mode = header("x-amz-server-side-encryption");
        match encryption {
            Encryption::CustomerKey(_) => self.check_customer_key(NAME, &key, &answer),
            Encryption::Aes256 if mode.is_empty() => self.report.warning(
                NAME,
                "The store accepts encrypt = true and does not say that it encrypts.",
            ),
            Encryption::Kms(_) if !mode.starts_with("aws:kms") => self.report.failed(
                NAME,
                Verdict::Safe,
                "The store accepts kms_key_id and does not say that it encrypts with KMS: objects \
                 may be stored without.",
            ),
            _ => self
                .report
                .ok(NAME, format!("Objects are encrypted: {mode}.")),
        }
    }

    /// Whoever has no key must not read.
    fn check_customer_key(&mut self, name: &'static str, key: &str, answer: &Answer) {
        let configured = self.settings.clone();
        self.settings.encryption = Encryption::None;
        let without = self.insist(|probe| probe.get(key));
        self.settings = configured;
        match without {
            Ok(_) => self.report.failed(
                name,
                Verdict::Unsafe,
                "The store accepts sse_customer_key and hands the object out without it: states \
                 would be stored without the encryption that is ordered.",
            ),
            Err(Cause::Store(error)) if matches!(error.status, 400 | 403) => {
                let said = answer.header("x-amz-server-side-encryption-customer-algorithm");
                let detail = match said {
                    Some(_) => {
                        "Objects are encrypted with the customer's key, and not read without it."
                    }
                    None => "Objects are not read without the customer's key.",
                };
                self.report.ok(name, detail);
            }
            Err(cause) => {
                let told = self.told(Operation::GetObject, key, &cause);
                self.report.not_tested(name, Verdict::Unknown, told);
            }
        }
    }
}
