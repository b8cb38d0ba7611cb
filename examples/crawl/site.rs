//! Which folder of pages is crawled: the one that was named, else the toolchain's documentation, else one
//! made up.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use tempfile::TempDir;

use crate::args::UsageError;

/// How many pages a generated site has besides its index.
const GENERATED_PAGES: u32 = 2_000;

/// A folder with an `index.html`, to start from.
pub(crate) enum Site {
    Named(PathBuf),
    Toolchain(PathBuf),
    /// Removed when this is dropped.
    Generated(TempDir),
}

impl Site {
    /// Finds, or makes, the site to crawl.
    ///
    /// # Errors
    ///
    /// A folder that was asked for and cannot be crawled, or no place to generate one in.
    pub(crate) fn find(named: Option<&Path>) -> Result<Site, UsageError> {
        if let Some(folder) = named {
            return match check(folder) {
                Ok(()) => Ok(Site::Named(folder.to_owned())),
                Err(wrong) => Err(UsageError::new(format_args!("--site {}", folder.display()), wrong)),
            };
        }
        if let Some(folder) = toolchain_documentation() {
            return Ok(Site::Toolchain(folder));
        }
        let generated = tempfile::Builder::new().prefix("anteroom-crawl-").tempdir().and_then(|folder| {
            generate(folder.path(), GENERATED_PAGES)?;
            Ok(folder)
        });
        match generated {
            Ok(folder) => Ok(Site::Generated(folder)),
            Err(error) => Err(UsageError::new("no --site given, and none could be generated", error)),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        match self {
            Site::Named(folder) | Site::Toolchain(folder) => folder,
            Site::Generated(folder) => folder.path(),
        }
    }

    /// What it is, for people.
    pub(crate) fn what(&self) -> &'static str {
        match self {
            Site::Named(_) => "as named",
            Site::Toolchain(_) => "the documentation of the Rust toolchain",
            Site::Generated(_) => "generated, because the toolchain came without its documentation",
        }
    }
}

/// Whether a crawl can start there; if not, what is wrong.
fn check(folder: &Path) -> Result<(), String> {
    match fs::metadata(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err("no such folder".into()),
        Err(error) => return Err(error.to_string()),
        Ok(metadata) if !metadata.is_dir() => return Err("not a folder".into()),
        Ok(_) => {}
    }
    if folder.join("index.html").is_file() { Ok(()) } else { Err("no index.html in it to start from".into()) }
}

/// The documentation of the toolchain that `rustc` belongs to.
///
/// The compiler needs some hundreds of MiB of address space before it can say where it lives, and this
/// program may well have been given less. So when there is a `rustc` that cannot answer, the toolchain that
/// built this stands in for it.
fn toolchain_documentation() -> Option<PathBuf> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
    let sysroot = match Command::new(rustc).args(["--print", "sysroot"]).stderr(Stdio::null()).output() {
        Ok(output) if output.status.success() => PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        // bin/cargo in it.
        _ => Path::new(option_env!("CARGO")?).ancestors().nth(2)?.to_owned(),
    };
    let folder = sysroot.join("share/doc/rust/html");
    check(&folder).is_ok().then_some(folder)
}

/// Writes `pages` pages of 1 to 64 KiB, most of them small, and an index. The same ones each time.
///
/// Page `n` links to its four children `4n + 1` to `4n + 4`, so that all are reached from page 0; to a few
/// others and to its index, so that most links are to pages already known; each hundredth to a page that does
/// not exist.
pub(crate) fn generate(folder: &Path, pages: u32) -> io::Result<()> {
    let name = |n: u32| format!("{}/page-{n}.html", n % 16);
    for n in 0..16 {
        fs::create_dir_all(folder.join(n.to_string()))?;
    }
    fs::write(folder.join("notes.txt"), "Not a page: fetched, counted, not parsed.\n")?;
    let mut random = 1_u32;
    let mut below = |bound: u32| {
        // Knuth's multiplicative generator: varied, and the same on every machine.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((u64::from(random) * u64::from(bound)) >> 32) as u32
    };
    let mut html = String::new();
    for n in 0..pages {
        html.clear();
        let _ = writeln!(html, "<!DOCTYPE html><title>Page {n}</title><a href=\"../index.html\">index</a>");
        for child in (4 * n + 1..=4 * n + 4).filter(|child| *child < pages) {
            let _ = writeln!(html, "<a href=\"../{}\">child {child}</a>", name(child));
        }
        for _ in 0..8 {
            let _ = writeln!(html, "<a href=\"../{}#text\">another</a>", name(below(pages)));
        }
        if n % 100 == 99 {
            let _ = writeln!(html, "<a href=\"gone-{n}.html\">gone</a>");
        }
        // Squared, so that small pages are many and big ones few.
        let share = u64::from(below(1 << 16));
        let bytes = 1_024 + ((share * share * 63 * 1_024) >> 32) as usize;
        html.push_str("<p id=\"text\">");
        while html.len() < bytes {
            html.push_str(
                "A task over the limit waits where its spawner built it, and costs nothing more.\n",
            );
        }
        fs::write(folder.join(name(n)), &html)?;
    }
    let index = format!(
        "<!DOCTYPE html><title>Index</title><a href=\"{}\">first</a> <a href=\"notes.txt\">notes</a>\n",
        name(0)
    );
    fs::write(folder.join("index.html"), index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(folder: &Path) -> String {
        Site::find(Some(folder)).err().unwrap().to_string()
    }

    #[test]
    fn a_folder_that_cannot_be_crawled_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert_eq!(refused(&path.join("no")), format!("--site {}/no: no such folder", path.display()));
        assert!(refused(path).ends_with("no index.html in it to start from"));
        fs::write(path.join("index.html"), "").unwrap();
        assert!(refused(&path.join("index.html")).ends_with("not a folder"));
        assert_eq!(Site::find(Some(path)).unwrap().folder(), path);
    }

    #[test]
    fn a_generated_site_has_pages_of_varied_size() {
        let folder = tempfile::tempdir().unwrap();
        generate(folder.path(), 200).unwrap();
        check(folder.path()).unwrap();
        let size =
            |n: u32| fs::metadata(folder.path().join(format!("{}/page-{n}.html", n % 16))).unwrap().len();
        let sizes: Vec<u64> = (0..200).map(size).collect();
        assert!(sizes.iter().all(|bytes| (1_000..70_000).contains(bytes)));
        assert!(sizes.iter().max() > sizes.iter().min().map(|min| min * 10).as_ref());
    }
}
