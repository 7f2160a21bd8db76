//! The whole document: JSON in, records and quarantine out; then the certificates.

use super::record::{self, Content, Live, Record, RecordRules};
use super::{
    Generation, Issuer, IssuerId, KeyDigest, Quarantined, SignerSource, State, Stopped, Tombstone, TombstoneCause,
};
use crate::config::document::{Collector, Members, Node};
use crate::config::{Fault, Faults, Lines, Position};
use crate::ocsp::{HashAlgorithm, IssuerHashes};
use crate::time::Timestamp;
use crate::x509::{Certificate, KeyUsage};
use serde_json::value::RawValue;
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most octets a registry document may have: about a hundred thousand records.
pub const MAX_LEN: usize = 64 << 20;
/// The most records a registry may have.
pub const MAX_ISSUERS: usize = 100_000;

/// A registry document whose records have been checked one by one; no other file has been read yet.
#[derive(Clone, Debug)]
pub struct Document {
    file: PathBuf,
    number: u64,
    records: Vec<(usize, Record)>,
    quarantined: Vec<Quarantined>,
}

impl Document {
    /// Reads a document. Pure: `file` only gives faults their name and relative paths their base.
    ///
    /// The error is for what makes the whole document useless: not JSON, no `generation`, no list of issuers. Whatever
    /// is wrong with one record quarantines that record.
    pub fn parse(bytes: &[u8], file: &Path, rules: &RecordRules) -> Result<Document, Faults> {
        if bytes.len() > MAX_LEN {
            let text = format!("{} octets; a registry has at most {MAX_LEN}", bytes.len());
            return Err(Fault::of_file(file, text).into());
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|e| Fault::of_file(file, format!("not UTF-8 at octet {}", e.valid_up_to())))?;
        // Some editors begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let syntax = |e| Faults::from(syntax_fault(&e, text, file));
        let lines = Lines::new(text);
        let root: &RawValue = serde_json::from_str(text).map_err(syntax)?;
        let members: Members<'_> = serde_json::from_str(root.get()).map_err(syntax)?;

        let out = &mut Collector::new(file);
        let mut number = None;
        let mut list: Option<&RawValue> = None;
        for (key, raw) in &members.0 {
            let at = lines.position_of(raw.get());
            match key.as_str() {
                "generation" if number.is_none() => number = Some(generation_number(raw, at, out)),
                "issuers" if list.is_none() => list = Some(raw),
                "generation" | "issuers" => out.add(at, format!("{key} is given twice")),
                other => out.add(at, format!("{other:?} is not a known key; known here: generation, issuers")),
            }
        }
        let (Some(number), Some(list)) = (number, list) else {
            let missing = if number.is_none() { "\"generation\": 1" } else { "\"issuers\": []" };
            out.add(Position::START, format!("{missing} is missing"));
            return Err(Faults::sorted(std::mem::take(&mut out.faults)));
        };
        let items: Vec<&RawValue> = serde_json::from_str(list.get()).unwrap_or_else(|_| {
            out.add(lines.position_of(list.get()), "issuers: expected a list of records");
            Vec::new()
        });
        if items.len() > MAX_ISSUERS {
            let at = lines.position_of(list.get());
            out.add(at, format!("issuers: {} records; a registry has at most {MAX_ISSUERS}", items.len()));
        }
        if !out.faults.is_empty() {
            return Err(Faults::sorted(std::mem::take(&mut out.faults)));
        }
        let mut document = Document { file: file.to_path_buf(), number, records: Vec::new(), quarantined: Vec::new() };
        document.read_records(&items, &lines, rules);
        Ok(document)
    }

    /// Its `generation`.
    pub fn number(&self) -> u64 {
        self.number
    }

    fn read_records(&mut self, items: &[&RawValue], lines: &Lines<'_>, rules: &RecordRules) {
        let mut first_places: HashMap<IssuerId, Position> = HashMap::new();
        for (index, raw) in items.iter().enumerate() {
            let at = lines.position_of(raw.get());
            let read = Node::from_json(raw, lines, 0)
                .map_err(|e| (None, vec![Fault::at(&self.file, at, format!("not readable: {e}"))]))
                .and_then(|node| record::read(&node, &self.file, rules));
            let id = match &read {
                Ok(record) => Some(&record.id),
                Err((id, _)) => id.as_ref(),
            };
            let earlier = id.and_then(|id| first_places.get(id).copied());
            if let (Some(id), None) = (id, earlier) {
                first_places.insert(id.clone(), at);
            }
            match (read, earlier) {
                (Ok(record), None) => self.records.push((index, record)),
                (Ok(record), Some(first)) => {
                    let text =
                        format!("{}: the id is taken by the record in line {}, which is used", record.id, first.line);
                    self.quarantine(Some(record.id), index, vec![Fault::at(&self.file, at, text)]);
                }
                (Err((id, faults)), _) => self.quarantine(id, index, faults),
            }
        }
    }

    fn quarantine(&mut self, id: Option<IssuerId>, index: usize, faults: Vec<Fault>) {
        self.quarantined.push(Quarantined { id, index, faults: Faults::sorted(faults).0 });
    }

    /// Reads the issuer certificates by `read` and makes the generation. A record whose certificate cannot be read or is
    /// not a CA's is quarantined.
    pub fn resolve(self, read: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>) -> Generation {
        self.resolve_after(read, &|_, _| None)
    }

    /// The same after what has been: a live record of which `buried` says why its CA key must not come back under that id is
    /// quarantined.
    pub(super) fn resolve_after(
        mut self,
        read: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>,
        buried: &dyn Fn(&IssuerId, KeyDigest) -> Option<String>,
    ) -> Generation {
        let mut issuers: Vec<Arc<Issuer>> = Vec::new();
        let mut tombstones = Vec::new();
        let mut notes = Vec::new();
        let mut keys: HashMap<IssuerHashes, IssuerId> = HashMap::new();
        for (index, record) in std::mem::take(&mut self.records) {
            let Record { id, at, content, notes: own } = record;
            let live = match content {
                Content::Live(live) => live,
                Content::Retired(file) => {
                    // It may be gone: nothing is done with it any more.
                    let key = file.and_then(|file| ca_certificate(&file, read).ok()).map(|c| KeyDigest::of(&c));
                    let (cause, generation) = (TombstoneCause::Retired, self.number);
                    tombstones.push(Tombstone { id, cause, generation, key });
                    continue;
                }
            };
            let Live { state, certificate: file, certificate_at, signer_source, status, signer, response, approval } =
                *live;
            let certificate = match ca_certificate(&file, read) {
                Ok(certificate) => certificate,
                Err(why) => {
                    let text = format!("{id}.certificate: {}: {why}", file.display());
                    self.quarantine(Some(id), index, vec![Fault::at(&self.file, certificate_at, text)]);
                    continue;
                }
            };
            if let Some(why) = buried(&id, KeyDigest::of(&certificate)) {
                let text = format!("{id}.certificate: {}: {why}", file.display());
                self.quarantine(Some(id), index, vec![Fault::at(&self.file, certificate_at, text)]);
                continue;
            }
            notes.extend(own);
            match keys.entry(certificate.issuer_hashes(HashAlgorithm::Sha256)) {
                std::collections::hash_map::Entry::Occupied(first) => {
                    let text = format!(
                        "{id} has the CA key and name of {}; a serial that both know is answered from {0}, which comes first",
                        first.get()
                    );
                    notes.push(Fault::at(&self.file, at, text));
                }
                std::collections::hash_map::Entry::Vacant(slot) => {
                    slot.insert(id.clone());
                }
            }
            let certificate_file = file;
            issuers.push(Arc::new(Issuer {
                id,
                state,
                certificate,
                certificate_file,
                signer_source,
                status,
                signer,
                response,
                approval,
                at,
                stopped: None,
            }));
        }
        self.quarantined.sort_by_key(|q| q.index);
        Generation { number: self.number, issuers, tombstones, quarantined: self.quarantined, notes }
    }

    /// Records that cannot be used, as far as that can be seen without reading another file.
    pub fn quarantined(&self) -> &[Quarantined] {
        &self.quarantined
    }

    /// Of each sound record: its id, its state, and where its signer comes from (nowhere, if it is retired).
    pub(super) fn said(&self) -> impl Iterator<Item = (&IssuerId, State, Option<&SignerSource>)> {
        self.records.iter().map(|(_, record)| match &record.content {
            Content::Retired(_) => (&record.id, State::Retired, None),
            Content::Live(live) => (&record.id, live.state, Some(&live.signer_source)),
        })
    }

    /// The ids the document speaks of, quarantined ones included.
    pub(super) fn ids(&self) -> HashSet<IssuerId> {
        let live = self.records.iter().map(|(_, r)| r.id.clone());
        live.chain(self.quarantined.iter().filter_map(|q| q.id.clone())).collect()
    }
}

impl Generation {
    /// The states of all issuers that are used.
    pub fn count(&self, state: State) -> usize {
        match state {
            State::Retired => self.tombstones.iter().filter(|t| t.cause == TombstoneCause::Retired).count(),
            _ => self.issuers.iter().filter(|i| i.state == state).count(),
        }
    }

    /// The issuers whose record cannot be used, and that are served on as the last good one says: since when.
    pub fn served_on(&self) -> impl Iterator<Item = (&Issuer, Timestamp)> {
        self.issuers.iter().filter_map(|issuer| match issuer.stopped {
            Some(Stopped::Unusable(since)) => Some((issuer.as_ref(), since)),
            Some(Stopped::Held(_)) | None => None,
        })
    }
}

fn generation_number(raw: &RawValue, at: Position, out: &mut Collector) -> u64 {
    raw.get().parse().ok().filter(|n| (1..=i64::MAX as u64).contains(n)).unwrap_or_else(|| {
        out.add(at, "generation: expected a whole number from 1, raised with every change");
        0
    })
}

fn ca_certificate(file: &Path, read: &mut dyn FnMut(&Path) -> io::Result<Vec<u8>>) -> Result<Certificate, String> {
    let bytes = read(file).map_err(|e| e.to_string())?;
    let certificate = Certificate::from_pem_or_der(&bytes).map_err(|e| e.to_string())?;
    // Certificates before version 3 cannot say that they are a CA's.
    if certificate.version() >= 3 && !certificate.basic_constraints().is_some_and(|b| b.ca) {
        return Err(
            "this is not a CA certificate (basicConstraints does not say cA=TRUE); give the issuer's own".to_owned()
        );
    }
    if certificate.key_usage().is_some_and(|usage| !usage.contains(KeyUsage::KEY_CERT_SIGN)) {
        return Err("its keyUsage lacks keyCertSign: it cannot have issued certificates".to_owned());
    }
    Ok(certificate)
}

/// Where JSON breaks off, and the id of the record in which it does, as far as it can be told.
fn syntax_fault(error: &serde_json::Error, text: &str, file: &Path) -> Fault {
    let at = Position { line: error.line().max(1), column: error.column().max(1) };
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(m, _)| m);
    let before: usize = text.split_inclusive('\n').take(at.line - 1).map(str::len).sum();
    let read = text.get(..before.saturating_add(at.column)).unwrap_or(text);
    let id =
        read.rsplit_once("\"id\"").and_then(|(_, rest)| rest.split('"').nth(1)).filter(|id| IssuerId::new(id).is_ok());
    let near = id.map_or_else(String::new, |id| format!(" (in or after the record {id})"));
    Fault::at(file, at, format!("not JSON: {message}{near}"))
}

#[cfg(test)]
mod tests;
