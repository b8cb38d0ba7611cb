use super::super::MemoryBudget;
use super::super::fake::Tree;
use super::*;

const MIB: u64 = 1 << 20;

/// A system with v2 alone, as most have it, and this process in `group`.
fn v2(group: &str) -> Tree {
    let tree = Tree::new();
    tree.file("proc/self/cgroup", format!("0::{group}\n"));
    mounts(&tree, &["30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"]);
    tree.folder("sys/fs/cgroup"); // The root group has no limit and no file for one.
    tree
}

/// A system with v1, the memory controller at a mount of its own.
fn v1(group: &str) -> Tree {
    let tree = Tree::new();
    tree.file("proc/self/cgroup", format!("9:name=systemd:/\n4:memory:{group}\n1:cpu,cpuacct:/x\n0::/y\n"));
    mounts(
        &tree,
        &[
            "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct",
            "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory",
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
        ],
    );
    group_v1(&tree, "sys/fs/cgroup/memory", "9223372036854771712");
    tree
}

fn mounts(tree: &Tree, lines: &[&str]) {
    let others = [
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw",
        "24 22 0:5 / /proc rw - proc proc rw",
        "nonsense",
        "25 22 0:6 - tmpfs",
        "",
    ];
    tree.file("proc/self/mountinfo", [&others[..], lines].concat().join("\n"));
}

fn group_v2(tree: &Tree, folder: &str, max: &str) {
    tree.file(&format!("{folder}/memory.max"), format!("{max}\n"));
    tree.file(&format!("{folder}/memory.high"), "max\n");
    tree.file(&format!("{folder}/memory.current"), "50000000\n");
    tree.file(
        &format!("{folder}/memory.stat"),
        "anon 1\nfile 2\nworkingset_inactive_file 3\ninactive_file 10000000\n",
    );
}

fn group_v1(tree: &Tree, folder: &str, limit: &str) {
    tree.file(&format!("{folder}/memory.limit_in_bytes"), format!("{limit}\n"));
    tree.file(&format!("{folder}/memory.usage_in_bytes"), "70000000\n");
    tree.file(
        &format!("{folder}/memory.stat"),
        "cache 5\ninactive_file 7\nhierarchical_memory_limit 9223372036854771712\ntotal_inactive_file 20000000\n",
    );
}

#[track_caller]
fn assert_limit(tree: &Tree, bytes: u64, path: &str) -> Limit {
    let limit = find(tree.path()).expect("a limit");
    let path = tree.path().join(path);
    assert_eq!((limit.bytes, &limit.path), (bytes, &path));
    limit
}

#[track_caller]
fn error(tree: &Tree) -> CgroupError {
    match find(tree.path()) {
        Ok(limit) => panic!("found {} at {}", limit.bytes, limit.path.display()),
        Err(error) => error,
    }
}

/// What it must say to be of use: the file or the group, and what is wrong.
#[track_caller]
fn assert_says(tree: &Tree, words: &[&str]) {
    let text = error(tree).to_string();
    for word in words {
        assert!(text.contains(word), "{text:?} does not say {word:?}");
    }
}

#[test]
fn the_smallest_limit_on_the_way_up_counts() {
    for (limits, (least, at)) in [
        (["400", "300", "200"], (200, "a/b/c")),
        (["400", "200", "300"], (200, "a/b")),
        (["200", "max", "max"], (200, "a")),
        (["max", "300", "max"], (300, "a/b")),
        (["300", "300", "max"], (300, "a")), // the outer of two that are equal
    ] {
        let tree = v2("/a/b/c");
        for (folder, limit) in ["a", "a/b", "a/b/c"].into_iter().zip(limits) {
            let limit = limit.parse::<u64>().map_or(limit.to_owned(), |mib| (mib * MIB).to_string());
            group_v2(&tree, &format!("sys/fs/cgroup/{folder}"), &limit);
        }
        assert_limit(&tree, least * MIB, &format!("sys/fs/cgroup/{at}/memory.max"));
    }
}

#[test]
fn a_limit_above_what_the_machine_has_is_what_it_has() {
    let tree = v2("/a");
    group_v2(&tree, "sys/fs/cgroup/a", "8589934592");
    for (meminfo, bytes) in [
        ("MemTotal:        4194304 kB\nMemFree: 1 kB\n", 4 << 30),
        ("MemFree: 1 kB\nMemTotal: 16777216 kB", 8 << 30),
        ("MemTotal: many kB\n", 8 << 30),
        ("", 8 << 30),
    ] {
        tree.file("proc/meminfo", meminfo);
        assert_eq!(find(tree.path()).unwrap().bytes, bytes, "{meminfo}");
    }
}

#[test]
fn what_slows_all_down_is_a_limit_too() {
    let tree = v2("/a");
    group_v2(&tree, "sys/fs/cgroup/a", "400000000");
    tree.file("sys/fs/cgroup/a/memory.high", "300000000\n");
    assert_limit(&tree, 300_000_000, "sys/fs/cgroup/a/memory.high");
}

#[test]
fn in_a_namespace_of_its_own_the_group_is_the_mount() {
    let tree = v2("/");
    group_v2(&tree, "sys/fs/cgroup", "268435456");
    assert_limit(&tree, 256 * MIB, "sys/fs/cgroup/memory.max");
}

#[test]
fn the_limit_of_v1_is_found_where_the_controller_is() {
    let tree = v1("/docker/7");
    group_v1(&tree, "sys/fs/cgroup/memory/docker", "536870912");
    group_v1(&tree, "sys/fs/cgroup/memory/docker/7", "9223372036854771712");
    // What v2 would say is of no account while the controller is in v1.
    group_v2(&tree, "sys/fs/cgroup/unified/y", "1000000");
    let limit = assert_limit(&tree, 512 * MIB, "sys/fs/cgroup/memory/docker/memory.limit_in_bytes");
    assert_eq!(limit.gauge.used(), Some(50_000_000));
}

/// Pages of 64 KiB make another number of "no limit".
#[test]
fn the_numbers_of_v1_that_mean_no_limit_are_none() {
    for none in ["9223372036854771712", "9223372036854710272", "9223372036854775807", "18446744073709551615"]
    {
        let tree = v1("/a");
        group_v1(&tree, "sys/fs/cgroup/memory/a", none);
        assert!(matches!(error(&tree), CgroupError::NoLimit), "{none}");
    }
}

#[test]
fn a_limit_above_the_mount_is_known_from_the_group_of_v1() {
    let tree = v1("/docker/7/x");
    mounts(&tree, &["35 31 0:32 /docker/7 /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"]);
    let own = "sys/fs/cgroup/memory/x";
    group_v1(&tree, own, "900000000");
    tree.file(
        &format!("{own}/memory.stat"),
        "hierarchical_memory_limit 600000000\ntotal_inactive_file 20000000\n",
    );
    let limit = assert_limit(&tree, 600_000_000, &format!("{own}/memory.stat"));
    assert_eq!(limit.gauge.used(), Some(50_000_000), "measured at the mount");
}

#[test]
fn hybrid_systems_with_the_controller_in_v2_are_read_there() {
    let tree = Tree::new();
    tree.file("proc/self/cgroup", "3:cpuset:/\n1:name=systemd:/user\n0::/user\n");
    mounts(
        &tree,
        &[
            "32 31 0:29 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset",
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
        ],
    );
    group_v2(&tree, "sys/fs/cgroup/unified/user", "100000000");
    assert_limit(&tree, 100_000_000, "sys/fs/cgroup/unified/user/memory.max");
}

#[test]
fn a_mount_shows_what_is_below_its_root() {
    let tree = v2("/kube/pod/box");
    mounts(&tree, &["30 23 0:26 /kube/pod /cg rw - cgroup2 cgroup2 rw"]);
    group_v2(&tree, "cg", "400000000");
    group_v2(&tree, "cg/box", "300000000");
    // Not this one, though its name begins alike.
    group_v2(&tree, "sys/fs/cgroup/kube/pod/box", "1");
    assert_limit(&tree, 300_000_000, "cg/box/memory.max");
}

#[test]
fn of_several_mounts_the_one_that_shows_most_is_read() {
    let tree = v2("/a/b");
    mounts(
        &tree,
        &[
            "29 23 0:26 /a/b /narrow rw - cgroup2 cgroup2 rw",
            "30 23 0:26 / /wide rw - cgroup2 cgroup2 rw",
            "31 23 0:26 /a /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
        ],
    );
    group_v2(&tree, "narrow", "300000000");
    group_v2(&tree, "sys/fs/cgroup/b", "300000000");
    assert_limit(&tree, 300_000_000, "sys/fs/cgroup/b/memory.max"); // /wide is not there
    group_v2(&tree, "wide/a", "200000000");
    group_v2(&tree, "wide/a/b", "300000000");
    assert_limit(&tree, 200_000_000, "wide/a/memory.max");
}

/// Seen from another namespace, paths begin with as many `..` as lie between.
#[test]
fn a_group_that_cannot_be_reached_is_hidden_and_not_guessed() {
    for (group, root) in
        [("/..", "/"), ("/../b", "/"), ("/", "/.."), ("/a", "/b"), ("/ab", "/a"), ("/../..", "/..")]
    {
        let tree = v2(group);
        mounts(&tree, &[&format!("30 23 0:26 {root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw")]);
        for folder in ["sys/fs/cgroup", "sys/fs/b", "sys/fs/cgroup/b"] {
            group_v2(&tree, folder, "100000000");
        }
        assert!(matches!(error(&tree), CgroupError::Hidden { .. }), "{group} in {root}");
        assert_says(&tree, &[group, "MemoryBudget::bytes"]);
    }
}

#[test]
fn two_paths_from_the_same_outside_meet() {
    let tree = v2("/../b");
    mounts(&tree, &["30 23 0:26 /.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw"]);
    group_v2(&tree, "sys/fs/cgroup/b", "100000000");
    assert_limit(&tree, 100_000_000, "sys/fs/cgroup/b/memory.max");
}

#[test]
fn blanks_and_colons_in_names_are_read_as_meant() {
    let tree = v2("/my box:1/x");
    mounts(&tree, &[r"30 23 0:26 /my\040box:1 /mnt\134a\011b rw - cgroup2 cgroup2 rw"]);
    group_v2(&tree, "mnt\\a\tb/x", "100000000");
    assert_limit(&tree, 100_000_000, "mnt\\a\tb/x/memory.max");
    for bad in [r"\04", r"\", r"\999", r"\777"] {
        assert_eq!(unescape(bad), None, "{bad}");
    }
}

#[test]
fn no_limit_anywhere_is_an_error_that_says_what_to_do() {
    let tree = v2("/a/b");
    group_v2(&tree, "sys/fs/cgroup/a", "max");
    tree.folder("sys/fs/cgroup/a/b"); // its parent does not hand the controller down
    assert!(matches!(error(&tree), CgroupError::NoLimit));
    assert_says(&tree, &["MemoryBudget::bytes"]);
}

#[test]
fn what_is_missing_is_named() {
    let tree = Tree::new();
    assert_says(&tree, &["proc/self/cgroup", "cannot read"]);
    tree.file("proc/self/cgroup", "garbage\n\n7:cpu:/\n:\n");
    assert!(matches!(error(&tree), CgroupError::NoController));
    tree.file("proc/self/cgroup", "0::/a\n");
    assert_says(&tree, &["proc/self/mountinfo", "cannot read"]);
    mounts(&tree, &["35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"]);
    assert!(matches!(error(&tree), CgroupError::NotMounted { .. }));
    assert_says(&tree, &["/a", "MemoryBudget::bytes"]);
    let tree = v2("/a");
    assert!(matches!(error(&tree), CgroupError::Hidden { .. }), "its folder is not there");
}

#[test]
fn what_cannot_be_read_is_named() {
    for file in ["memory.max", "memory.high", "memory.current", "memory.stat"] {
        let tree = v2("/a");
        group_v2(&tree, "sys/fs/cgroup/a", "100000000");
        let path = format!("sys/fs/cgroup/a/{file}");
        std::fs::remove_file(tree.path().join(&path)).unwrap();
        tree.folder(&path); // Reading it fails for every user.
        assert!(matches!(error(&tree), CgroupError::Unreadable { .. }), "{file}");
        assert_says(&tree, &[&path, "cannot read"]);
        assert!(error(&tree).source().is_some());
    }
}

#[test]
fn what_makes_no_sense_is_named_and_shown() {
    for (file, text) in [
        ("memory.max", "lots"),
        ("memory.max", ""),
        ("memory.max", "-1"),
        ("memory.max", "12 34"),
        ("memory.max", "99999999999999999999999"),
        ("memory.high", "\u{fffd}"),
        ("memory.current", "many"),
        ("memory.stat", "inactive_filed 5\ninactive_file x"),
    ] {
        let tree = v2("/a");
        group_v2(&tree, "sys/fs/cgroup/a", "100000000");
        let path = format!("sys/fs/cgroup/a/{file}");
        tree.file(&path, text);
        assert!(matches!(error(&tree), CgroupError::Malformed { .. }), "{file} {text:?}");
        assert_says(&tree, &[&path, text.split('\n').next().unwrap()]);
    }
    let CgroupError::Malformed { found, .. } = malformed(Path::new("x"), &"y".repeat(10_000)) else {
        panic!()
    };
    assert_eq!(found.len(), 64);
}

#[test]
fn what_is_used_is_what_the_kernel_cannot_drop_and_never_less_than_this_process_has() {
    let tree = v2("/a");
    group_v2(&tree, "sys/fs/cgroup/a", "100000000");
    let gauge = find(tree.path()).unwrap().gauge;
    assert_eq!(gauge.used(), Some(40_000_000));
    // Read anew each time; and the two numbers are not of the same moment.
    tree.file("sys/fs/cgroup/a/memory.stat", "inactive_file 60000000\n");
    assert_eq!(gauge.used(), Some(0));
    tree.file("sys/fs/cgroup/a/memory.stat", "gone\n");
    assert_eq!(gauge.used(), Some(50_000_000), "all of it then");
    tree.file("sys/fs/cgroup/a/memory.current", "gone\n");
    assert_eq!(gauge.used(), None);
    tree.file("proc/self/statm", "90000 20000 0 0 0 0 0\n");
    let gauge = Group { process: Process::open(tree.path()), ..gauge };
    assert_eq!(gauge.used(), Some(20_000 * 4_096));
    tree.file("sys/fs/cgroup/a/memory.current", "90000000\n");
    assert_eq!(gauge.used(), Some(90_000_000));
}

#[test]
fn the_pressure_is_that_of_the_group_or_else_of_the_machine() {
    let tree = v2("/a");
    group_v2(&tree, "sys/fs/cgroup/a", "100000000");
    let pressure = |tree: &Tree| find(tree.path()).unwrap().gauge.pressure();
    assert_eq!(pressure(&tree), None);
    tree.file("proc/pressure/memory", "some avg10=2.00 avg60=0.00 avg300=0.00 total=1\n");
    assert_eq!(pressure(&tree).unwrap().some.avg10_percent, 2.0);
    tree.file("sys/fs/cgroup/a/memory.pressure", "some avg10=1.00 avg60=0.00 avg300=0.00 total=1\n");
    assert_eq!(pressure(&tree).unwrap().some.avg10_percent, 1.0);
}

#[test]
fn a_budget_is_what_the_group_allows_as_far_as_that_can_be_shared_out() {
    let budget = |limit: &str| {
        let tree = v2("/a");
        group_v2(&tree, "sys/fs/cgroup/a", limit);
        MemoryBudget::from_cgroup_below(tree.path()).map(|budget| budget.snapshot())
    };
    let snapshot = budget("100000000").unwrap();
    assert_eq!((snapshot.budget, snapshot.used), (100_000_000, Some(40_000_000)));
    assert_eq!(budget("9000000000000").unwrap().budget, MemoryBudget::MAX_BYTES);
    let error = budget("4096").unwrap_err();
    assert!(matches!(error, CgroupError::TooSmall { limit_bytes: 4_096, .. }), "{error}");
    assert!(error.to_string().contains("sys/fs/cgroup/a/memory.max allows 4096 bytes"), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn this_very_system_can_be_read_or_says_why_not() {
    match find(Path::new("/")) {
        Ok(limit) => assert!(limit.gauge.used().is_some_and(|used| used > 0)),
        Err(CgroupError::Malformed { path, found }) => panic!("{}: {found}", path.display()),
        Err(other) => assert!(!other.to_string().is_empty()),
    }
}
