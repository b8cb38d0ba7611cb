//! What a Linux control group allows, and what it uses.
//!
//! # Problem
//!
//! In a container, the memory of the machine is not what a process may use: at the limit of its group it is killed, with
//! nothing to catch. The limit may stand at any of the groups above, in one of two file systems, mounted anywhere; and
//! the obvious number, `memory.current`, counts every file that was ever read, until the kernel needs the place.
//!
//! # Idea
//!
//! ```text
//!   /proc/self/cgroup      which group:  4:memory:/docker/7      (v1: the line that names the controller)
//!                                        0::/app.slice/7         (v2)
//!   /proc/self/mountinfo   where it is:  root /docker  at  /sys/fs/cgroup/memory   =>  /sys/fs/cgroup/memory/7
//!
//!   from there up to the mount, the smallest of            v2  memory.max, memory.high
//!                                                          v1  memory.limit_in_bytes, and hierarchical_memory_limit
//!   and of the group that has it, the used bytes:          v2  memory.current - inactive_file
//!                                                          v1  memory.usage_in_bytes - total_inactive_file
//! ```
//!
//! `inactive_file` is what the kernel drops first and without loss, so it is not used. But what this process has in memory
//! is never less than used, so the larger of the two numbers counts.
//!
//! `memory.high` is a limit as well: above it nobody is killed, but all are made to wait.
//!
//! All paths are taken below a root, which is `/` but in tests.
//!
//! # Bounds
//!
//! Reads files of one group at each reading: that with the smallest limit. A group further up with a larger limit, filled
//! by others, is not seen. A limit that is changed later is not seen either. Who moves to another group is measured by its
//! own resident pages from then on.
//!
//! # Rejected
//!
//! - *Guessing `/sys/fs/cgroup`.* It is where most have it.
//! - *Going on with what can be seen of a group that is hidden* (below another namespace's root): the limit that matters is
//!   then just the one that is not seen. It is an error, which says what to do.
//!
//! # Read next
//!
//! [`super::control`], what is made of the numbers.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::gauge::{MemoryGauge, Process, Reread};
use super::pressure::Pressure;

/// Why the limit of this process's control group could not be found.
///
/// ```
/// use anteroom_limiter::{CgroupError, MemoryBudget};
///
/// let budget = match MemoryBudget::from_cgroup() {
///     Ok(budget) => budget,
///     // Not in a container, or not in one that has a limit: then we say what we want.
///     Err(CgroupError::NoLimit) => MemoryBudget::bytes(512 << 20),
///     Err(other) => {
///         eprintln!("{other}");
///         MemoryBudget::bytes(256 << 20)
///     }
/// };
/// # drop(budget);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum CgroupError {
    /// A file that should be there cannot be read. On other systems than Linux, the first one.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file says something that no kernel writes there.
    Malformed {
        /// Which.
        path: PathBuf,
        /// The beginning of what it says.
        found: String,
    },
    /// `/proc/self/cgroup` names no group for memory: the kernel was built or started without.
    NoController,
    /// The file system of the groups is not mounted where this process could see it.
    NotMounted {
        /// The group that this process is in.
        group: String,
    },
    /// The group lies outside of what is mounted: in another namespace of groups, say.
    Hidden {
        /// The group that this process is in.
        group: String,
    },
    /// No group of this process limits its memory.
    NoLimit,
    /// There is a limit that is no budget: a few pages.
    TooSmall {
        /// Where it stands.
        path: PathBuf,
        /// What it is.
        limit_bytes: u64,
    },
}

/// The smallest limit, where it was found, and how to measure against it.
pub(super) struct Limit {
    pub(super) bytes: u64,
    pub(super) path: PathBuf,
    pub(super) gauge: Group,
}

/// What the group with the smallest limit uses.
pub(super) struct Group {
    process: Process,
    current: Reread,
    stat: Reread,
    /// The line of `stat` that is not used memory.
    inactive: &'static str,
    pressure: Option<Reread>,
}

/// Which of the two kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
}

/// The limit of this process's group and of all above it.
pub(super) fn find(root: &Path) -> Result<Limit, CgroupError> {
    let (version, group) = own_group(root)?;
    let place = locate(root, version, &group)?;
    let mut tightest: Option<(u64, PathBuf, &Path)> = None;
    for folder in place.folder.ancestors().take_while(|folder| folder.starts_with(&place.mount)) {
        for file in version.limits() {
            let path = folder.join(file);
            if let Some(limit) = read_limit(&path)? {
                // Of two that are equal the outer one: it counts more as used.
                if tightest.as_ref().is_none_or(|&(least, ..)| limit <= least) {
                    tightest = Some((limit, path, folder));
                }
            }
        }
    }
    if version == Version::V1 {
        // What the groups allow that lie above the mount. What they use cannot be seen; the outermost that can is nearest.
        let path = place.folder.join("memory.stat");
        let above = field(&read(&path)?, "hierarchical_memory_limit").filter(is_limit);
        if let Some(limit) = above {
            if tightest.as_ref().is_none_or(|&(least, ..)| limit < least) {
                tightest = Some((limit, path, &place.mount));
            }
        }
    }
    let (bytes, path, folder) = tightest.ok_or(CgroupError::NoLimit)?;
    let gauge = Group::open(root, version, folder)?;
    // A group may allow more than the machine has, which then is the limit.
    Ok(Limit { bytes: bytes.min(machine_bytes(root)), path, gauge })
}

/// What the machine has, if it says so.
fn machine_bytes(root: &Path) -> u64 {
    let said = read(&root.join("proc/meminfo")).ok();
    let line = said.as_deref().and_then(|text| text.lines().find_map(|line| line.strip_prefix("MemTotal:")));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib.saturating_mul(1_024))
}

impl Version {
    fn limits(self) -> &'static [&'static str] {
        match self {
            Version::V1 => &["memory.limit_in_bytes"],
            Version::V2 => &["memory.max", "memory.high"],
        }
    }
}

/// The line of `/proc/self/cgroup` that is about memory: each is `number:controllers:path`.
fn own_group(root: &Path) -> Result<(Version, String), CgroupError> {
    let text = read(&root.join("proc/self/cgroup"))?;
    let mut unified = None;
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if controllers.split(',').any(|controller| controller == "memory") {
            return Ok((Version::V1, path.to_owned())); // A controller is in one hierarchy: not in v2 then.
        }
        if number == "0" && controllers.is_empty() {
            unified = Some((Version::V2, path.to_owned()));
        }
    }
    unified.ok_or(CgroupError::NoController)
}

/// The folder of a group, and that of the outermost one above it that is mounted.
struct Place {
    folder: PathBuf,
    mount: PathBuf,
}

fn locate(root: &Path, version: Version, group: &str) -> Result<Place, CgroupError> {
    let text = read(&root.join("proc/self/mountinfo"))?;
    let mut mounts: Vec<_> = text.lines().filter_map(|line| Mount::parse(line, version)).collect();
    if mounts.is_empty() {
        return Err(CgroupError::NotMounted { group: group.to_owned() });
    }
    mounts.sort_by_key(|mount| mount.root.len()); // The one that shows most of what is above.
    let places = mounts.iter().filter_map(|mount| {
        let rest = below(group, &mount.root)?;
        let mount = root.join(mount.point.trim_start_matches('/'));
        let folder = if rest.is_empty() { mount.clone() } else { mount.join(rest) };
        Some(Place { folder, mount })
    });
    let mut visible = places.filter(|place| place.folder.is_dir());
    visible.next().ok_or_else(|| CgroupError::Hidden { group: group.to_owned() })
}

/// What of a hierarchy is mounted, and where.
struct Mount {
    root: String,
    point: String,
}

impl Mount {
    /// `number parent device root point options [tags] - type source options`; `None` if it is about something else.
    fn parse(line: &str, version: Version) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, point) = (unescape(left.next()?)?, unescape(left.next()?)?);
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1).unwrap_or_default());
        let is_it = match version {
            Version::V1 => kind == "cgroup" && options.split(',').any(|option| option == "memory"),
            Version::V2 => kind == "cgroup2",
        };
        is_it.then_some(Self { root, point })
    }
}

/// Undoes what the kernel does to blanks: `\040`. `None` if that is not what it did.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'\\' {
            let (digits, after) = rest.split_at_checked(3)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()?);
            rest = after;
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// The path from `root` to `group`; `None` if it is not below, or leads out.
fn below<'a>(group: &'a str, root: &str) -> Option<&'a str> {
    let rest = group.strip_prefix(root.trim_end_matches('/'))?;
    let rest = if rest.is_empty() { rest } else { rest.strip_prefix('/')? };
    (!rest.split('/').any(|name| name == "..")).then_some(rest)
}

/// A limit, if there is one in this file. Not every group has the file: the root has none, nor has one whose parent does
/// not hand the controller down.
fn read_limit(path: &Path) -> Result<Option<u64>, CgroupError> {
    let text = match read(path) {
        Ok(text) => text,
        Err(CgroupError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    match text.trim_end() {
        "max" => Ok(None),
        number => match number.parse() {
            Ok(limit) => Ok(Some(limit).filter(is_limit)),
            Err(_) => Err(malformed(path, &text)),
        },
    }
}

/// In v1, "no limit" is the largest number of bytes in whole pages that fits into 63 bits. Nothing near it is meant.
fn is_limit(bytes: &u64) -> bool {
    *bytes < 1 << 62
}

/// The number after a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim_end().parse().ok())
}

fn read(path: &Path) -> Result<String, CgroupError> {
    match fs::read(path) {
        // A name that is no UTF-8 is looked for in vain, and that is reported.
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(source) => Err(CgroupError::Unreadable { path: path.to_owned(), source }),
    }
}

fn malformed(path: &Path, text: &str) -> CgroupError {
    CgroupError::Malformed { path: path.to_owned(), found: text.trim_end().chars().take(64).collect() }
}

impl Group {
    /// Each file is read once, so that one that is not there or says nothing is found out now.
    fn open(root: &Path, version: Version, folder: &Path) -> Result<Self, CgroupError> {
        let (current, inactive) = match version {
            Version::V1 => ("memory.usage_in_bytes", "total_inactive_file"),
            Version::V2 => ("memory.current", "inactive_file"),
        };
        let (current, stat) = (folder.join(current), folder.join("memory.stat"));
        let (text, stats) = (read(&current)?, read(&stat)?);
        if text.trim_end().parse::<u64>().is_err() {
            return Err(malformed(&current, &text));
        }
        if field(&stats, inactive).is_none() {
            return Err(malformed(&stat, &stats));
        }
        let open =
            |path: PathBuf| Reread::open(&path).map_err(|source| CgroupError::Unreadable { path, source });
        Ok(Self {
            process: Process::open(root),
            current: open(current)?,
            stat: open(stat)?,
            inactive,
            pressure: Reread::open(&folder.join("memory.pressure")).ok(),
        })
    }

    /// What the group uses and the kernel cannot simply drop.
    fn group_used(&self) -> Option<u64> {
        let mut buffer = [0; 64];
        let current: u64 = self.current.read(&mut buffer)?.trim_end().parse().ok()?;
        let mut buffer = [0; 8_192];
        let inactive = self.stat.read(&mut buffer).and_then(|text| field(text, self.inactive));
        // The two are not read at the same moment. Without the second, all counts.
        Some(current.saturating_sub(inactive.unwrap_or(0)))
    }
}

impl MemoryGauge for Group {
    fn used(&self) -> Option<u64> {
        self.group_used().max(self.process.used()) // None is less than all.
    }

    fn pressure(&self) -> Option<Pressure> {
        let of_group = self.pressure.as_ref().and_then(Pressure::read);
        of_group.or_else(|| self.process.pressure())
    }
}

impl fmt::Display for CgroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Malformed { path, found } => {
                write!(f, "{} says {found:?}, which is not what it is for", path.display())
            }
            Self::NoController => f.write_str("/proc/self/cgroup names no control group for memory"),
            Self::NotMounted { group } => write!(
                f,
                "the memory control group {group} is in no file system that /proc/self/mountinfo shows; \
                 state a budget with MemoryBudget::bytes"
            ),
            Self::Hidden { group } => write!(
                f,
                "the memory control group {group} is outside of what is mounted here, so its limit is not known; \
                 state a budget with MemoryBudget::bytes"
            ),
            Self::NoLimit => f.write_str(
                "no control group limits the memory of this process; state a budget with MemoryBudget::bytes",
            ),
            Self::TooSmall { path, limit_bytes } => {
                write!(f, "{} allows {limit_bytes} bytes, which is too little to share out", path.display())
            }
        }
    }
}

impl Error for CgroupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            _ => None,
        }
    }
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests;
