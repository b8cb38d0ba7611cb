//! Each invariant is named where it is leaned on, and each unsafe block says why it may stand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anteroom_tests::source::{SourceFile, files_below, labels, sources, workspace};

/// Unsafe blocks in a thousand lines, at most.
const UNSAFE_PER_THOUSAND_MAX: f64 = 8.0;

/// The labels that the module docs of `files` define, each with where.
fn defined(files: &[SourceFile]) -> BTreeMap<String, String> {
    let mut defined = BTreeMap::new();
    for file in files {
        for line in file.lines.iter().filter(|line| is_definition(line)) {
            let label = labels(line)[0].to_owned();
            let before = defined.insert(label.clone(), file.path.clone());
            assert_eq!(before, None, "[{label}] is defined twice");
        }
    }
    defined
}

/// Whether a line is an item of a module doc that starts with a label.
fn is_definition(line: &str) -> bool {
    let Some(item) = line.strip_prefix("//! - ") else { return false };
    item.trim_start_matches('`').starts_with('[') && !labels(line).is_empty()
}

/// The labels that stand where they are leaned on: in code, its comments, and tests.
fn cited(files: &[SourceFile]) -> BTreeSet<String> {
    let lines = files.iter().flat_map(|file| &file.lines).filter(|line| !line.starts_with("//!"));
    lines.flat_map(|line| labels(line)).map(str::to_owned).collect()
}

/// The labels that the black-box tests cite.
fn cited_by_tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files_below(&workspace().join("tests").join("tests")) {
        let text = fs::read_to_string(path).expect("a test");
        found.extend(labels(&text).into_iter().map(str::to_owned));
    }
    found
}

#[test]
fn each_invariant_is_cited_and_each_citation_is_of_one() {
    // Labels of the two crates tell each other apart by their names, so they may cite each other.
    let crates = ["runtime", "limiter"].map(sources);
    let mut defined_anywhere = BTreeMap::new();
    let mut cited_anywhere = cited_by_tests();
    for files in &crates {
        for (label, path) in defined(files) {
            assert_eq!(
                defined_anywhere.insert(label.clone(), path),
                None,
                "[{label}] is defined in both crates"
            );
        }
        cited_anywhere.extend(cited(files));
    }
    assert!(
        defined_anywhere.len() > 30,
        "{} labels: is this still how they are written?",
        defined_anywhere.len()
    );
    // Tests of this crate show labels as examples.
    let examples = BTreeSet::from(["TASK-1".to_owned(), "X-1".to_owned()]);
    let not_cited: Vec<_> =
        defined_anywhere.iter().filter(|(label, _)| !cited_anywhere.contains(*label)).collect();
    let not_defined: Vec<_> = cited_anywhere
        .iter()
        .filter(|label| !defined_anywhere.contains_key(*label) && !examples.contains(*label))
        .collect();
    assert!(not_cited.is_empty(), "nobody leans on {not_cited:#?}");
    assert!(not_defined.is_empty(), "nobody defines {not_defined:#?}");
}

/// The lines of a file on which an unsafe block opens.
fn unsafe_blocks(file: &SourceFile) -> Vec<usize> {
    let opens = |line: &str| {
        line.match_indices("unsafe").any(|(at, word)| line[at + word.len()..].trim_start().starts_with('{'))
    };
    (0..file.code.len()).filter(|&at| opens(&file.code[at])).collect()
}

#[test]
fn unsafe_blocks_are_few() {
    let files = sources("runtime");
    let blocks: usize = files.iter().map(|file| unsafe_blocks(file).len()).sum();
    let lines: usize = files.iter().map(|file| file.lines.len()).sum();
    let per_thousand = blocks as f64 * 1_000.0 / lines as f64;
    println!("{blocks} unsafe blocks in {lines} lines of the runtime: {per_thousand:.1} a thousand");
    assert!(
        per_thousand <= UNSAFE_PER_THOUSAND_MAX,
        "{blocks} in {lines} lines: {per_thousand:.1} a thousand"
    );
    for file in &files {
        let may = ["task/", "driver/", "gather/"].iter().any(|folder| file.path.starts_with(folder));
        assert!(may || unsafe_blocks(file).is_empty(), "{} has no business with unsafe", file.path);
    }
}

#[test]
fn the_limiter_has_no_unsafe_code() {
    let files = sources("limiter");
    let root = files.iter().find(|file| file.path == "lib.rs").expect("a root");
    assert!(root.code.iter().any(|line| line == "#![forbid(unsafe_code)]"));
    assert_eq!(files.iter().map(|file| unsafe_blocks(file).len()).sum::<usize>(), 0);
}

#[test]
fn each_unsafe_block_has_its_reason_above_it() {
    let mut without = Vec::new();
    for file in sources("runtime") {
        for at in unsafe_blocks(&file) {
            // Above it, or above the statement or the match arm that it stands in.
            let first = at.saturating_sub(8);
            let reasons = (first..=at).rev();
            let found = reasons
                .take_while(|&line| line == at || !is_over(&file.code[line]))
                .any(|line| file.lines[line].trim_start().starts_with("// SAFETY:"));
            if !found {
                without.push(format!("{}:{}", file.path, at + 1));
            }
        }
    }
    assert!(without.is_empty(), "{without:#?}");
}

/// Whether a statement ends with this line, so that what stands above it is about another.
fn is_over(code: &str) -> bool {
    let code = code.trim_end();
    code.ends_with(';') || code.trim() == "}"
}
