//! The search. What it tells are names and places, never what it found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufReader, Error};
use std::path::{Path, PathBuf};

use aho_corasick::{AhoCorasick, MatchKind};

use crate::forms::{FORMS, patterns};
use crate::trace::WATCHED;
use crate::{CANARIES, Route};

/// A place where something stands that should not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Bytes from its beginning.
    pub offset: usize,
    /// Which secret.
    pub name: String,
    /// In which form: one of [`FORMS`].
    pub form: &'static str,
}

/// All that is searched for.
#[derive(Debug)]
pub struct Patterns {
    automaton: AhoCorasick,
    /// What each pattern stands for. Two forms of one secret can look alike.
    meanings: Vec<Vec<(Meaning, &'static str)>>,
    secrets: usize,
}

#[derive(Clone, Debug)]
enum Meaning {
    Control(Route),
    Secret(String),
}

impl Patterns {
    /// The secrets that tests choose, and the controls.
    ///
    /// # Errors
    /// None that the table of secrets could lead to.
    pub fn chosen() -> io::Result<Self> {
        Self::with(BTreeSet::new())
    }

    /// The secrets that tests choose, those that a run in this folder watched, and the controls.
    ///
    /// # Errors
    /// When the list of watched ones cannot be read.
    pub fn of_run(folder: &Path) -> io::Result<Self> {
        let mut watched = BTreeSet::new();
        for file in files(&folder.join(WATCHED))? {
            let text = fs::read_to_string(file)?;
            let lines = text.lines().filter_map(|line| line.split_once('\t'));
            watched.extend(lines.map(|(name, secret)| (secret.to_owned(), name.to_owned())));
        }
        Self::with(watched)
    }

    fn with(mut watched: BTreeSet<(String, String)>) -> io::Result<Self> {
        let mut secrets: Vec<(Meaning, Vec<u8>)> = CANARIES
            .iter()
            .map(|(name, value)| (Meaning::Secret((*name).to_owned()), value.to_vec()))
            .collect();
        for route in Route::ALL {
            secrets.push((Meaning::Control(route), route.control().into_bytes()));
        }
        // Shorter ones stand in any text by chance: `test` is the secret key of some servers.
        watched.retain(|(secret, _)| secret.len() >= 12);
        for (secret, name) in watched {
            secrets.push((Meaning::Secret(name), secret.into_bytes()));
        }
        let mut meanings: BTreeMap<Vec<u8>, Vec<(Meaning, &'static str)>> = BTreeMap::new();
        for (meaning, secret) in &secrets {
            for (form, pattern) in FORMS.into_iter().zip(patterns(secret)) {
                let those = meanings.entry(pattern).or_default();
                those.push((meaning.clone(), form));
            }
        }
        // Streams take no other kind; a match hides at most one that overlaps it, and one is enough.
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(meanings.keys())
            .map_err(Error::other)?;
        Ok(Self {
            automaton,
            meanings: meanings.into_values().collect(),
            secrets: secrets.len() - Route::ALL.len(),
        })
    }

    /// The names of the secrets that stand in a text, with their forms.
    pub fn in_text(&self, text: &str) -> Vec<(String, &'static str)> {
        let found = self.automaton.find_iter(text);
        let meanings = found.flat_map(|found| &self.meanings[found.pattern().as_usize()]);
        meanings
            .filter_map(|(meaning, form)| match meaning {
                Meaning::Control(_) => None,
                Meaning::Secret(name) => Some((name.clone(), *form)),
            })
            .collect()
    }

    /// How many secrets are searched for.
    pub fn secrets(&self) -> usize {
        self.secrets
    }

    /// Searches all files of a run: answers how many bytes those had, the secrets that were found, and the controls.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn search(&self, folder: &Path) -> io::Result<Searched> {
        let mut searched = Searched::default();
        for file in files(folder)? {
            searched.files += 1;
            searched.bytes += fs::metadata(&file)?.len();
            let reader = BufReader::with_capacity(1 << 20, File::open(&file)?);
            for found in self.automaton.stream_find_iter(reader) {
                let found = found?;
                let mut known = false;
                for (meaning, form) in &self.meanings[found.pattern().as_usize()] {
                    match meaning {
                        Meaning::Control(route) => {
                            searched.controls.insert((*route, *form));
                        }
                        // Once for each place.
                        Meaning::Secret(_) if known => {}
                        Meaning::Secret(name) => {
                            known = true;
                            searched.findings.push(Finding {
                                file: file.clone(),
                                offset: found.start(),
                                name: name.clone(),
                                form,
                            });
                        }
                    }
                }
            }
        }
        Ok(searched)
    }
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct Searched {
    /// Files that were looked at.
    pub files: usize,
    /// Their size.
    pub bytes: u64,
    /// Secrets.
    pub findings: Vec<Finding>,
    controls: BTreeSet<(Route, &'static str)>,
}

impl Searched {
    /// The controls that should have been found and were not.
    pub fn missing_controls(&self) -> Vec<(Route, &'static str)> {
        Route::ALL
            .into_iter()
            .flat_map(|route| FORMS.map(|form| (route, form)))
            .filter(|control| !self.controls.contains(control))
            .collect()
    }
}

/// The files of a folder, without those of the folders in it.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
