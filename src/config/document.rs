//! TOML and JSON as one tree that remembers places, and a reader that collects every fault instead of the first.
//!
//! Configuration and registry records share keys, so they share this: the same key is checked by the same lines in both.

use super::fault::{Fault, Faults, Lines, Position};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) value: Value,
}

/// What a document can hold, as far as configuration and registry use it.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    String(String),
    Integer(i128),
    Float(f64),
    Array(Vec<Node>),
    Table(Vec<Entry>),
    /// Something that no key takes, by its name: a boolean, a date, null.
    Other(&'static str),
}

/// One key of a table with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) at: Position,
    pub(crate) node: Node,
}

/// How deep values may nest; deeper ones are a fault, not a deep stack.
const MAX_DEPTH: usize = 16;

impl Node {
    /// Reads a TOML document.
    pub(crate) fn from_toml(text: &str, file: &Path) -> Result<Node, Faults> {
        let lines = Lines::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            let faults = errors.iter().map(|e| {
                let at = lines.position(e.span().map_or(0, |span| span.start));
                Fault::at(file, at, format!("not TOML: {}", e.message().trim_end().replace('\n', "; ")))
            });
            return Err(Faults::sorted(faults.collect()));
        }
        Ok(Node { at: Position::START, value: toml_table(&lines, table.get_ref()) })
    }

    /// Reads one JSON value that is a part (the slice itself) of the text that `lines` knows.
    pub(crate) fn from_json(raw: &RawValue, lines: &Lines<'_>, depth: usize) -> Result<Node, serde_json::Error> {
        let text = raw.get();
        let at = lines.position_of(text);
        let value = match text.as_bytes().first() {
            _ if depth > MAX_DEPTH => Value::Other("a value that nests too deep"),
            Some(b'"') => Value::String(serde_json::from_str(text)?),
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text)?;
                let items = items.into_iter().map(|item| Node::from_json(item, lines, depth + 1));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Some(b'{') => {
                let members: Members<'_> = serde_json::from_str(text)?;
                let entries = members.0.into_iter().map(|(key, raw)| {
                    let node = Node::from_json(raw, lines, depth + 1)?;
                    Ok(Entry { key, at: node.at, node })
                });
                Value::Table(entries.collect::<Result<_, serde_json::Error>>()?)
            }
            Some(b't' | b'f') => Value::Other("a boolean"),
            Some(b'n') => Value::Other("null"),
            _ => match (text.parse(), text.parse()) {
                (Ok(integer), _) => Value::Integer(integer),
                (_, Ok(float)) => Value::Float(float),
                _ => Value::Other("a number out of range"),
            },
        };
        Ok(Node { at, value })
    }

    /// The keys of a table, and behind a dot those of the tables in it.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        for entry in self.entries() {
            keys.insert(entry.key.clone());
            keys.extend(entry.node.entries().iter().map(|inner| join(&entry.key, &inner.key)));
        }
        keys
    }

    fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Table(entries) => entries,
            _ => &[],
        }
    }

    /// What kind of value it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::String(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a number",
            Value::Array(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(name) => name,
        }
    }

    /// The text of a string.
    pub(crate) fn string(&self) -> Result<&str, String> {
        match &self.value {
            Value::String(text) => Ok(text),
            _ => Err(format!("expected a string in quotes, found {}", self.kind())),
        }
    }

    /// A whole number within bounds, both inclusive.
    pub(crate) fn integer<T: TryFrom<i128>>(&self, min: i128, max: i128) -> Result<T, String> {
        let out = || format!("expected a whole number from {min} to {max}");
        match &self.value {
            Value::Integer(n) if (min..=max).contains(n) => T::try_from(*n).map_err(|_| out()),
            Value::Integer(n) => Err(format!("{}, found {n}", out())),
            _ => Err(format!("{}, found {}", out(), self.kind())),
        }
    }

    /// A quantity written as a string.
    pub(crate) fn parsed<T: std::str::FromStr<Err: fmt::Display>>(&self) -> Result<T, String> {
        self.string()?.parse().map_err(|e: T::Err| e.to_string())
    }

    /// The items of a list of strings; a single string counts as a list of one.
    pub(crate) fn strings(&self) -> Result<Vec<&str>, String> {
        match &self.value {
            Value::String(text) => Ok(vec![text]),
            Value::Array(items) => items.iter().map(Node::string).collect(),
            _ => Err(format!("expected a list of strings, found {}", self.kind())),
        }
    }

    /// One of a few names.
    pub(crate) fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, String> {
        let text = self.string()?;
        choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            format!(
                "\"{text}\" is not one of {}{}",
                names.join(", "),
                did_you_mean(text, choices.iter().map(|(n, _)| *n))
            )
        })
    }
}

/// Reads the keys of one table. Faults go to the list it was given; a key nobody asked for is one, told at the end.
pub(crate) struct Section<'a> {
    name: String,
    at: Position,
    entries: Vec<(&'a Entry, bool)>,
    known: Vec<&'static str>,
}

/// Where faults of one file are collected.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) file: PathBuf,
    pub(crate) faults: Vec<Fault>,
}

impl Collector {
    pub(crate) fn new(file: &Path) -> Self {
        Collector { file: file.to_path_buf(), faults: Vec::new() }
    }

    pub(crate) fn add(&mut self, at: Position, message: impl Into<String>) {
        self.faults.push(Fault::at(&self.file, at, message));
    }
}

impl<'a> Section<'a> {
    /// The section `name` (empty for the root) with the entries of `node`; anything but a table is a fault.
    pub(crate) fn new(name: impl Into<String>, node: &'a Node, out: &mut Collector) -> Self {
        let name = name.into();
        let mut entries: Vec<(&Entry, bool)> = Vec::new();
        match &node.value {
            Value::Table(table) => {
                for entry in table {
                    if entries.iter().any(|(seen, _)| seen.key == entry.key) {
                        out.add(entry.at, format!("{} is given twice", join(&name, &entry.key)));
                    } else {
                        entries.push((entry, false));
                    }
                }
            }
            _ => out.add(node.at, format!("{name}: expected a table, found {}", node.kind())),
        }
        Section { name, at: node.at, entries, known: Vec::new() }
    }

    /// A section that is absent: every key has its default. `at` is where it would be missed.
    fn absent(name: String, at: Position) -> Self {
        Section { name, at, entries: Vec::new(), known: Vec::new() }
    }

    /// What the section is called in faults.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Calls the section by a better name from now on.
    pub(crate) fn rename(&mut self, name: &str) {
        name.clone_into(&mut self.name);
    }

    /// Whether a key is there, sound or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(e, _)| e.key == key)
    }

    /// Where the section stands.
    pub(crate) fn at(&self) -> Position {
        self.at
    }

    /// Where the value of a key stands; the section itself for an absent key.
    pub(crate) fn position(&self, key: &str) -> Position {
        self.entries.iter().find(|(e, _)| e.key == key).map_or(self.at, |(e, _)| e.node.at)
    }

    /// Collects a fault of a key in relation to others.
    pub(crate) fn fault(&self, key: &str, message: &str, out: &mut Collector) {
        out.add(self.position(key), format!("{}: {message}", join(&self.name, key)));
    }

    /// The node of a key, marking the key as known.
    pub(crate) fn node(&mut self, key: &'static str) -> Option<&'a Node> {
        self.known.push(key);
        let (entry, used) = self.entries.iter_mut().find(|(e, _)| e.key == key)?;
        *used = true;
        Some(&entry.node)
    }

    /// The value of a key: `None` when absent or faulty, in which case the fault has been collected.
    pub(crate) fn optional<T>(
        &mut self,
        key: &'static str,
        out: &mut Collector,
        read: impl FnOnce(&'a Node) -> Result<T, String>,
    ) -> Option<T> {
        let node = self.node(key)?;
        read(node).map_err(|message| out.add(node.at, format!("{}: {message}", join(&self.name, key)))).ok()
    }

    /// The value of a key that must be there; its absence is a fault that says what to write.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        out: &mut Collector,
        read: impl FnOnce(&'a Node) -> Result<T, String>,
    ) -> Option<T> {
        if !self.entries.iter().any(|(e, _)| e.key == key) {
            self.known.push(key);
            out.add(self.at, format!("{} is missing; write {example}", join(&self.name, key)));
            return None;
        }
        self.optional(key, out, read)
    }

    /// A sub-table, absent or not.
    pub(crate) fn section(&mut self, key: &'static str, out: &mut Collector) -> Section<'a> {
        let name = join(&self.name, key);
        match self.node(key) {
            Some(node) => Section::new(name, node, out),
            None => Section::absent(name, self.at),
        }
    }

    /// All entries, marking them as known: for tables whose keys are names the operator chooses.
    pub(crate) fn named_entries(&mut self) -> Vec<&'a Entry> {
        self.entries
            .iter_mut()
            .map(|(entry, used)| {
                *used = true;
                *entry
            })
            .collect()
    }

    /// Collects a fault for each key that nobody asked for.
    pub(crate) fn finish(self, out: &mut Collector) {
        for (entry, _) in self.entries.iter().filter(|(_, used)| !used) {
            let hint = did_you_mean(&entry.key, self.known.iter().copied());
            let hint = if hint.is_empty() { format!("; known here: {}", self.known.join(", ")) } else { hint };
            out.add(entry.at, format!("{} is not a known key{hint}", join(&self.name, &entry.key)));
        }
    }
}

/// `; did you mean "x"?` when a known name is close, else nothing.
pub(crate) fn did_you_mean<'n>(text: &str, known: impl Iterator<Item = &'n str>) -> String {
    let allowed = text.chars().count().div_ceil(3).clamp(1, 3); // two letters exchanged count as two
    known
        .map(|name| (distance(text, name), name))
        .filter(|(d, _)| *d <= allowed)
        .min()
        .map_or_else(String::new, |(_, name)| format!("; did you mean \"{name}\"?"))
}

/// A name is compared up to this many characters, so that a hostile key costs nothing.
const MAX_COMPARED: usize = 64;

/// How many characters must be put in, taken out or exchanged (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(MAX_COMPARED).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(MAX_COMPARED).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let best = (*cell + 1).min(left + 1).min(diagonal + usize::from(x != *y));
            diagonal = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

fn toml_table(lines: &Lines<'_>, table: &DeTable<'_>) -> Value {
    let mut entries: Vec<(usize, Entry)> = table
        .iter()
        .map(|(key, value)| {
            let at = lines.position(key.span().start);
            let node = Node { at: lines.position(value.span().start), value: toml_value(lines, value.get_ref()) };
            (key.span().start, Entry { key: key.get_ref().to_string(), at, node })
        })
        .collect();
    entries.sort_by_key(|(offset, _)| *offset);
    Value::Table(entries.into_iter().map(|(_, entry)| entry).collect())
}

fn toml_value(lines: &Lines<'_>, value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(s) => Value::String(s.to_string()),
        DeValue::Integer(n) => {
            i128::from_str_radix(n.as_str(), n.radix()).map_or(Value::Other("an integer out of range"), Value::Integer)
        }
        DeValue::Float(n) => n.as_str().parse().map_or(Value::Other("a number out of range"), Value::Float),
        DeValue::Boolean(_) => Value::Other("a boolean"),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => Value::Array(
            items
                .iter()
                .map(|item| Node { at: lines.position(item.span().start), value: toml_value(lines, item.get_ref()) })
                .collect(),
        ),
        DeValue::Table(table) => toml_table(lines, table),
    }
}

/// The members of a JSON object in their order, with duplicates, which a map would swallow.
pub(crate) struct Members<'a>(pub(crate) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<'a>(std::marker::PhantomData<&'a ()>);

        impl<'de: 'a, 'a> Visitor<'de> for InOrder<'a> {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'a>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, d) in
            [("", "abc", 3), ("refesh", "refresh", 1), ("kitten", "sitting", 3), ("same", "same", 0), ("ab", "", 2)]
        {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }

    #[test]
    fn only_a_close_name_is_suggested() {
        assert_eq!(did_you_mean("lisen", ["listen", "workers"].into_iter()), "; did you mean \"listen\"?");
        assert_eq!(did_you_mean("colour", ["listen", "workers"].into_iter()), "");
    }

    #[test]
    fn json_keeps_places_order_and_duplicates() {
        let text = "{\n  \"b\": [1, \"x\"],\n  \"a\": {\"c\": null},\n  \"a\": 2.5\n}";
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        let node = Node::from_json(raw, &Lines::new(text), 0).unwrap();
        let Value::Table(entries) = &node.value else { panic!("{node:?}") };
        let keys: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.at.line)).collect();
        assert_eq!(keys, [("b", 2), ("a", 3), ("a", 4)]);
    }

    #[test]
    fn hostile_nesting_is_a_value_nobody_takes() {
        let text = format!("{}1{}", "[".repeat(100), "]".repeat(100));
        let raw: &RawValue = serde_json::from_str(&text).unwrap();
        assert!(Node::from_json(raw, &Lines::new(&text), 0).is_ok());
    }
}
