//! The list of bugs that others had is a list of tests of ours: each row of `bugs.md` names tests that exist and cite it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anteroom_tests::source::workspace;

/// How many rows the list has.
const ROWS: usize = 51;
/// Rows about several workers, which this runtime does not have: they may say that there is no test yet.
const OF_SEVERAL_WORKERS: [usize; 6] = [19, 20, 23, 24, 31, 32];

/// A row of the table.
struct Row {
    number: usize,
    /// Its cells besides the number.
    cells: Vec<String>,
}

/// The rows of all tables in `text` that begin with a number.
fn rows(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        let mut cells = inner.split('|').map(|cell| cell.trim().to_owned());
        let number = cells.next()?.parse().ok()?;
        Some(Row { number, cells: cells.collect() })
    };
    text.lines().filter_map(row).collect()
}

/// What stands between backticks in `cell`.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The file that a name in the table means.
fn file_of(name: &str, root: &Path) -> PathBuf {
    if name.contains('/') { root.join(name) } else { root.join("tests/tests").join(name) }
}

/// The numbers that follow each `bugs.md` in `text`, such as in "bugs.md 1, 7: what for".
fn cited(text: &str) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for (at, name) in text.match_indices("bugs.md ") {
        for number in text[at + name.len()..].split(',') {
            let number = number.trim_start_matches([' ', '\n', '/', '#']);
            let digits = number.len() - number.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let Ok(cited) = number[..digits].parse() else { break };
            found.insert(cited);
            if digits < number.len() {
                break;
            }
        }
    }
    found
}

/// A test's own text: its comments and attributes, and it itself to its closing brace. `None` if there is no such test.
fn test_in<'a>(file: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let lines: Vec<_> = file.lines().collect();
    let is_it = |line: &&str| {
        let rest = line.split_once("fn ").map_or("", |(_, rest)| rest);
        rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(['(', ' ', '<']))
    };
    let at = lines.iter().position(is_it)?;
    let indent = lines[at].len() - lines[at].trim_start().len();
    let belongs = |line: &&&str| ["//", "#["].iter().any(|start| line.trim_start().starts_with(start));
    let above = lines[..at].iter().rev().take_while(belongs).count();
    let is_test = lines[at - above..=at].iter().any(|line| line.trim_start().starts_with("#[test]"));
    let is_end = |line: &&str| line.trim_end() == format!("{:indent$}}}", "");
    let below = lines[at..].iter().position(is_end).unwrap_or(0);
    is_test.then(|| lines[at - above..=at + below].to_vec())
}

/// What is wrong with a name in the row of `number`.
fn wrong_with(name: &str, number: usize, root: &Path) -> Option<String> {
    let complain = |what: &str| Some(format!("row {number}: `{name}` {what}"));
    let (file, test) = name.split_once("::").map_or((name, None), |(file, test)| (file, Some(test)));
    let path = file_of(file, root);
    let Ok(text) = fs::read_to_string(&path) else { return complain("is in no file") };
    let Some(test) = test else {
        let is_script = file.ends_with(".sh");
        let may_run = fs::metadata(&path).is_ok_and(|found| found.permissions().mode() & 0o111 != 0);
        return if is_script && !may_run { complain("cannot be run") } else { None };
    };
    let Some(lines) = test_in(&text, test) else { return complain("is no test") };
    // In its own words, or in the doc of its file.
    let doc = text.lines().take_while(|line| line.starts_with("//!"));
    let says: Vec<_> = doc.chain(lines).collect();
    if cited(&says.join("\n")).contains(&number) { None } else { complain("does not cite the row") }
}

/// What is wrong with the list.
fn wrong(text: &str, root: &Path) -> Vec<String> {
    let rows = rows(text);
    let numbers: Vec<_> = rows.iter().map(|row| row.number).collect();
    let mut found = Vec::new();
    if !numbers.iter().copied().eq(1..=ROWS) {
        found.push(format!("the rows are {numbers:?} and not 1 to {ROWS}"));
    }
    for Row { number, cells } in rows {
        let [place, shows, tests] = &cells[..] else {
            found.push(format!("row {number}: {} cells", cells.len() + 1));
            continue;
        };
        if place.is_empty() || shows.is_empty() {
            found.push(format!("row {number}: what was it?"));
        }
        let names = quoted(tests);
        if tests.starts_with("not yet: ") {
            if !OF_SEVERAL_WORKERS.contains(&number) {
                found.push(format!("row {number}: one thread is enough for it"));
            }
        } else if names.iter().all(|name| !name.contains("::") && !name.ends_with(".sh")) {
            found.push(format!("row {number}: no test is named"));
        }
        found.extend(names.into_iter().filter_map(|name| wrong_with(name, number, root)));
    }
    found
}

fn list() -> String {
    fs::read_to_string(workspace().join("tests/bugs.md")).expect("the list")
}

#[test]
fn each_bug_that_others_had_is_a_test_of_ours() {
    let wrong = wrong(&list(), &workspace());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_test_cites_a_row_that_does_not_exist() {
    let folders = ["tests/tests", "limiter/tests", "limiter/src", "runtime/src", "examples/tests"];
    let mut citations = 0;
    for path in
        folders.iter().flat_map(|folder| anteroom_tests::source::files_below(&workspace().join(folder)))
    {
        // This one has some that are wrong on purpose.
        if path.ends_with("tests/tests/bugs.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source");
        let cited = cited(&text);
        citations += cited.len();
        assert!(cited.iter().all(|row| (1..=ROWS).contains(row)), "{}: {cited:?}", path.display());
    }
    assert!(citations > ROWS, "{citations}: is this still how rows are cited?");
}

#[test]
fn a_list_with_a_fault_is_refused() {
    let (good, root) = (list(), workspace());
    let row = |number: usize| {
        let start = format!("| {number} |");
        good.lines().find(|line| line.starts_with(&start)).expect("a row").to_owned()
    };
    let with = |number: usize, tests: &str| {
        let old = row(number);
        let cells: Vec<_> = old.split('|').collect();
        let new = format!("|{}|{}|{}| {tests} |", cells[1], cells[2], cells[3]);
        good.replace(&old, &new)
    };
    let ours = "`panics.rs::what_unwinds_may_use_the_runtime`";
    for (bad, complaint) in [
        (good.replace(&row(7), ""), "the rows are"),
        (good.replace(&row(8), &row(7)), "the rows are"),
        (with(1, ""), "row 1: no test is named"),
        (with(2, "somebody should look"), "row 2: no test is named"),
        (with(51, "`tests/src/lib.rs`"), "row 51: no test is named"),
        (with(3, "not yet: later"), "row 3: one thread is enough"),
        (with(29, "`nowhere.rs::what_unwinds_may_use_the_runtime`"), "is in no file"),
        (with(29, "`panics.rs::what_unwinds_may_use_the_run`"), "is no test"),
        (with(29, "`panics.rs::among_siblings`"), "is no test"),
        (with(30, ours), "does not cite the row"),
        (with(51, "`.ci/idles.sh`"), "is in no file"),
        (with(51, "`tests/bugs.sh`"), "is in no file"),
        (good.replace(&row(4), "| 4 | tokio | `panics.rs` |"), "row 4: 3 cells"),
    ] {
        let wrong = wrong(&bad, &root);
        assert!(wrong.iter().any(|text| text.contains(complaint)), "{complaint}: {wrong:?}");
    }
    let fewer = with(29, ours);
    assert_eq!(wrong(&fewer, &root), [""; 0], "and one with fewer tests is not");
}

#[test]
fn citations_are_read_as_they_are_written() {
    for (text, rows) in [
        ("// bugs.md 27", &[27][..]),
        ("/// [GATE-3], [PERMIT-1]; bugs.md 1, 7", &[1, 7]),
        ("// bugs.md 18; and told once (bugs.md 3, 11)", &[3, 11, 18]),
        ("/// bugs.md 1, 3: one release, 2 waiters", &[1, 3]),
        ("//! bugs.md 29, 35. Each place", &[29, 35]),
        ("reads `bugs.md` and 7 others", &[]),
    ] {
        assert_eq!(cited(text), rows.iter().copied().collect(), "{text}");
    }
}
