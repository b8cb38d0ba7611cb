//! The source of this workspace, as text, for the tests that read it.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of a crate's `src`.
#[derive(Debug)]
pub struct SourceFile {
    /// Its path below `src`, such as `task/mod.rs`.
    pub path: String,
    /// Its lines as they are.
    pub lines: Vec<String>,
    /// Its lines with comments and the contents of strings blanked.
    pub code: Vec<String>,
    /// Whether the line stands in a module that only tests are built with.
    pub is_test: Vec<bool>,
}

/// The folder of the workspace.
///
/// # Panics
/// If this crate stands in none.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member of a workspace").to_owned()
}

/// All files of `member`'s `src`, by path.
///
/// # Panics
/// If one cannot be read.
pub fn sources(member: &str) -> Vec<SourceFile> {
    let root = workspace().join(member).join("src");
    let mut files: Vec<_> = files_below(&root).iter().map(|path| SourceFile::read(&root, path)).collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(!files.is_empty(), "{} holds no source", root.display());
    files
}

/// All `.rs` files below `folder`.
///
/// # Panics
/// If it cannot be read.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

impl SourceFile {
    fn read(root: &Path, path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let code: Vec<String> = blank(&text).lines().map(str::to_owned).collect();
        Self {
            path: path.strip_prefix(root).expect("it is below").to_string_lossy().into_owned(),
            lines: text.lines().map(str::to_owned).collect(),
            is_test: test_lines(&code),
            code,
        }
    }

    /// Its code outside of tests, as one text.
    pub fn code_without_tests(&self) -> String {
        let lines = self.code.iter().zip(&self.is_test).filter(|(_, is_test)| !**is_test);
        lines.map(|(line, _)| format!("{line}\n")).collect()
    }
}

/// Blanks comments and the contents of strings and characters, and keeps the lines.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if next == '"' {
            1 + string_length(&rest[1..])
        } else if next == '\'' {
            character_length(rest)
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        rest = &rest[length..];
    }
    out
}

/// How long a string is to its closing quote, which is counted.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' if !is_escaped => return at + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

/// How long a character literal is; one for a lifetime, whose quote is dropped and whose name is kept.
fn character_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    let (_, first) = chars.next().unwrap_or((0, ' '));
    if first == '\\' {
        return text[2..].find('\'').map_or(1, |end| end + 3);
    }
    match chars.next() {
        Some((at, '\'')) => at + 1,
        _ => 1,
    }
}

/// Which lines stand in a module behind a `cfg` that names `test`.
fn test_lines(code: &[String]) -> Vec<bool> {
    let mut is_test = vec![false; code.len()];
    let mut at = 0;
    while at < code.len() {
        let line = code[at].trim();
        let opens_module = code.get(at + 1).is_some_and(|next| next.trim_start().starts_with("mod "));
        if line.starts_with("#[cfg(") && line.contains("test") && opens_module {
            let mut depth = 0;
            loop {
                is_test[at] = true;
                depth += code[at].matches('{').count();
                depth -= code[at].matches('}').count();
                let is_over = depth == 0 && (code[at].contains('}') || code[at].trim_end().ends_with(';'));
                at += 1;
                if is_over || at == code.len() {
                    break;
                }
            }
        } else {
            at += 1;
        }
    }
    is_test
}

/// The labels of invariants in `text`, such as `[TASK-1]`, without their brackets.
pub fn labels(text: &str) -> Vec<&str> {
    let is_label = |inner: &&str| {
        let Some((name, number)) = inner.split_once('-') else { return false };
        let letters = !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase());
        letters && !number.is_empty() && number.chars().all(|c| c.is_ascii_digit())
    };
    let inners = text.match_indices('[').filter_map(|(at, _)| text[at + 1..].split_once(']'));
    inners.map(|(inner, _)| inner).filter(is_label).collect()
}
