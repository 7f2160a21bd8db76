//! Reading the trail: the newest events that match.

use super::event::{About, AuditEvent};
use super::files;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

/// The most events one reading gives: with words of common length about 4 MB.
pub const MAX_EVENTS: usize = 10_000;
/// No event is longer; a line that is was not written by this program.
const MAX_LINE: u64 = 64 << 10;

/// Which events are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// About these; none: about everything.
    pub about: Option<Whom>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// At most so many, the newest; no more than [`MAX_EVENTS`].
    pub limit: usize,
}

/// Whose history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whom {
    /// An issuer's, and what concerned everything.
    Issuer(String),
    /// An endpoint's: its own, its credential's, that of all orders placed there, and what concerned everything.
    Endpoint(String),
}

impl Whom {
    fn concerns(&self, event: &AuditEvent) -> bool {
        match (self, &event.about) {
            (_, About::All) => true,
            (Whom::Issuer(id), About::Issuer(other)) => id == other,
            (Whom::Endpoint(id), About::Endpoint(other) | About::Credential(other)) => id == other,
            (Whom::Endpoint(id), _) => event.endpoint.as_ref() == Some(id),
            (Whom::Issuer(_), _) => false,
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The events, the newest last.
    pub events: Vec<AuditEvent>,
    /// There are older ones that match.
    pub more: bool,
    /// Lines that are no events: cut short by a crash, or not ours.
    pub unreadable: u64,
}

/// Reads the trail in `dir`, from its newest file back until there are enough. Holds no more than [`Filter::limit`]
/// events and one line. A trail that does not exist is empty.
///
/// # Errors
/// If the directory or a file of it cannot be read.
pub fn history(dir: &Path, filter: &Filter) -> io::Result<History> {
    let limit = filter.limit.clamp(1, MAX_EVENTS);
    let mut found = History::default();
    let mut paths: Vec<_> = match files::numbered(dir) {
        Ok(old) => old.into_iter().map(|(_, path)| path).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    paths.push(files::current(dir));
    for path in paths.iter().rev() {
        let file = match File::open(path) {
            Ok(file) => file,
            // Put aside or removed since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut newest = VecDeque::new();
        let left = limit - found.events.len();
        let mut begins_before = false;
        each_line(BufReader::new(file), &mut |line| {
            let Some(event) = line.and_then(|line| serde_json::from_slice::<AuditEvent>(line).ok()) else {
                found.unreadable += 1;
                return;
            };
            if filter.since.is_some_and(|since| event.at < since) {
                begins_before = true;
                return;
            }
            if filter.about.as_ref().is_some_and(|whom| !whom.concerns(&event)) {
                return;
            }
            if newest.len() == left {
                newest.pop_front();
                found.more = true;
            }
            if left > 0 {
                newest.push_back(event);
            }
        })?;
        newest.extend(std::mem::take(&mut found.events));
        found.events = newest.into();
        if found.more || begins_before {
            break;
        }
    }
    Ok(found)
}

/// Every line without its end; `None` for one that is too long.
fn each_line(mut from: impl BufRead, see: &mut dyn FnMut(Option<&[u8]>)) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if from.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
            if !line.is_empty() {
                see(Some(&line));
            }
        } else {
            // Cut short, being written this moment, or too long: the rest of it is skipped.
            see(None);
            from.skip_until(b'\n')?;
        }
    }
}
