//! Every committed fuzz corpus runs through its target as an ordinary test.

use std::fs;
use std::path::Path;

#[test]
fn every_corpus_file_keeps_the_promises_of_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut directories = Vec::new();
    for directory in fs::read_dir(&corpus).unwrap() {
        let directory = directory.unwrap().path();
        let name = directory.file_name().unwrap().to_str().unwrap().to_owned();
        let Some((_, target)) = stillgood::fuzzing::TARGETS.iter().find(|(target, _)| *target == name) else {
            panic!("fuzz/corpus/{name} belongs to no target in stillgood::fuzzing::TARGETS");
        };
        let mut files = 0;
        for file in fs::read_dir(&directory).unwrap() {
            let file = file.unwrap().path();
            println!("{}", file.display()); // shown when the target panics
            target(&fs::read(&file).unwrap());
            files += 1;
        }
        assert!(files > 0, "fuzz/corpus/{name} is empty");
        directories.push(name);
    }
    let binaries = fs::read_to_string(corpus.with_file_name("Cargo.toml")).unwrap();
    for (target, _) in stillgood::fuzzing::TARGETS {
        assert!(directories.iter().any(|name| name == target), "the target {target} has no corpus");
        assert!(binaries.contains(&format!("name = \"{target}\"")), "the target {target} has no binary in fuzz/");
    }
}
