//! Who imports whom: each part of the runtime sees only what was built before it.
//!
//! Read from the source, `use` lines and paths in the code alike; what tests import is theirs to choose.

use anteroom_tests::source::{SourceFile, sources};

/// The parts in the order in which they may be read: each sees those before it, and itself.
const ORDER: [&str; 21] = [
    "sync",
    "bytes",
    "clock",
    "wait",
    "yield_now",
    "cancel",
    "task",
    "admission",
    "scheduler",
    "driver",
    "blocking",
    "time",
    "net",
    "spawn",
    "group",
    "gather",
    "holders",
    "metrics",
    "handle",
    "worst",
    "runtime",
];

/// What is allowed besides: what knows nothing of tasks stands at their level, and the driver sees the traits that the
/// scheduler asks of it.
const BESIDES: [(&str, &str); 8] = [
    ("task", "scheduler::idle::Idle"),
    ("task", "scheduler::inbox::Inbox"),
    ("task", "scheduler::ring::Apart"),
    ("task", "scheduler::ring::Ring"),
    ("driver", "scheduler::Park"),
    ("driver", "scheduler::TeamPark"),
    ("driver", "scheduler::Turn"),
    ("driver", "scheduler::inbox::Doorbell"),
];

/// Generic files, which see no more than tasks do, though their folder comes later.
const GENERIC: [&str; 3] = ["scheduler/idle.rs", "scheduler/inbox.rs", "scheduler/ring.rs"];

/// Crates that only some parts meet.
const CRATES: [(&str, &[&str]); 9] = [
    ("anteroom_limiter", &["admission/", "time/timer.rs"]),
    ("mio", &["driver/", "net/"]),
    ("slab", &["driver/", "group/"]),
    ("libc", &["driver/", "task/pages.rs"]),
    ("crossbeam_queue", &["scheduler/inbox.rs", "blocking.rs"]),
    ("futures_core", &["gather/completed.rs"]),
    ("futures_io", &["net/futures_io.rs"]),
    ("loom", &["sync.rs", "models"]),
    ("shuttle", &["sync.rs", "models"]),
];

/// The part that a file belongs to.
fn part(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn rank(part: &str) -> usize {
    ORDER
        .iter()
        .position(|&other| other == part)
        .unwrap_or_else(|| panic!("{part} has no place in the order"))
}

/// All paths into this crate that the code names, such as `task::waiter::Waiter`; a group is taken apart.
fn crate_paths(file: &SourceFile) -> Vec<String> {
    let code = file.code_without_tests();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let is_word = code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        if !is_word {
            found.extend(paths(&code[at + "crate::".len()..]));
        }
    }
    found
}

/// The paths at the start of `text`: one, or those of a group.
fn paths(text: &str) -> Vec<String> {
    let name_end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(name_end);
    if let Some(inner) = rest.strip_prefix("::") {
        return paths(inner.trim_start()).into_iter().map(|path| format!("{name}::{path}")).collect();
    }
    let Some(group) = text.strip_prefix('{') else { return vec![name.to_owned()] };
    let (mut found, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                let item = group[start..at].trim();
                if !item.is_empty() {
                    found.extend(paths(item));
                }
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    found
}

#[test]
fn each_part_imports_only_from_those_before_it() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in sources("runtime") {
        if ["lib.rs", "models.rs"].contains(&file.path.as_str()) || file.path.starts_with("models/") {
            continue;
        }
        let own = if GENERIC.contains(&file.path.as_str()) { "task" } else { part(&file.path) };
        for path in crate_paths(&file) {
            seen += 1;
            let of = path.split("::").next().unwrap_or_default();
            let is_own = of == part(&file.path);
            let is_besides = BESIDES.iter().any(|&(who, what)| who == own && path == what);
            if !is_own && !is_besides && rank(of) >= rank(own) {
                wrong.push(format!("{}: crate::{path}", file.path));
            }
            if own == "driver" && of == "scheduler" && !is_besides {
                wrong.push(format!(
                    "{}: crate::{path}: the driver sees wakers, never the scheduler",
                    file.path
                ));
            }
        }
    }
    assert!(seen > 50, "{seen} paths: is this still how they are written?");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_at_the_top_reaches_up() {
    // There `super::` is the whole crate, and would hide from the test above.
    for file in sources("runtime") {
        if !file.path.contains('/') {
            assert!(!file.code_without_tests().contains("super::"), "{}: say crate::", file.path);
        }
    }
}

#[test]
fn each_crate_is_met_in_one_place() {
    for file in sources("runtime") {
        let code = file.code_without_tests();
        for (name, places) in CRATES {
            let is_allowed = places.iter().any(|place| file.path.starts_with(place));
            assert!(is_allowed || !names(&code, name), "{}: {name}", file.path);
        }
    }
}

/// Whether `code` names the crate `name` in a path.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(&format!("{name}::")).any(|(at, _)| {
        let before = &code[..at];
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

#[test]
fn atomics_clocks_and_threads_have_one_door_each() {
    for (member, doors) in [
        ("runtime", ["sync.rs", "clock.rs", "blocking.rs runtime/stealing.rs"]),
        ("limiter", ["sync.rs", "", ""]),
    ] {
        for file in sources(member) {
            let code = file.code_without_tests();
            let [atomics, clock, threads] = doors;
            for (what, door) in [
                ("std::sync::atomic", atomics),
                ("core::sync::atomic", atomics),
                ("sync::atomic::", atomics),
                ("Instant::now", clock),
                ("SystemTime", clock),
                ("thread::spawn", threads),
                ("thread::Builder", threads),
                ("thread::sleep", ""),
            ] {
                let is_model = file.path.starts_with("models");
                assert!(
                    door.split(' ').any(|door| file.path == door) || is_model || !code.contains(what),
                    "{member}: {}: {what}",
                    file.path
                );
            }
        }
    }
}

#[test]
fn the_reader_of_paths_reads_them() {
    let read = |text: &str| paths(text);
    assert_eq!(read("task::Local;"), ["task::Local"]);
    assert_eq!(read("sync::{A, b::{C, d}, E};"), ["sync::A", "sync::b::C", "sync::b::d", "sync::E"]);
    assert_eq!(read("{driver, task};"), ["driver", "task"]);
    assert_eq!(read("yield_now().await"), ["yield_now"]);
}
