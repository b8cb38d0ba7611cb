//! The crawler from outside: the built example, run on small sites, judged by its figures and its exit code.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use tempfile::TempDir;

/// The example's binary, built from what is here now.
///
/// Cargo builds an example that has unit tests as a test only, and does not tell where its program would be.
/// So this asks for it, in the profile and the target directory of this test.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // target/<profile>/deps/this-test
        let this = env::current_exe().unwrap();
        let profile = this.ancestors().nth(2).unwrap();
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--example", "crawl", "--target-dir"]).arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
        profile.join("examples").join("crawl").with_extension(env::consts::EXE_EXTENSION)
    })
}

fn crawl(words: &[&str]) -> Output {
    Command::new(binary()).args(words).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The value of `name` in the JSON object on the last line.
fn figure(output: &Output, name: &str) -> f64 {
    let stdout = text(&output.stdout);
    let json = stdout.lines().last().unwrap();
    assert!(json.starts_with('{') && json.ends_with('}'), "no object at the end of\n{stdout}");
    let (_, value) =
        json.split_once(&format!("\"{name}\":")).unwrap_or_else(|| panic!("no {name} in {json}"));
    value[..value.find([',', '}']).unwrap()].parse().unwrap()
}

fn write(site: &TempDir, name: &str, content: impl AsRef<[u8]>) {
    let path = site.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A site with everything in it that can be wrong with one. See [`COUNTS`].
fn site() -> TempDir {
    let site = tempfile::tempdir().unwrap();
    let index = "<a href=a.html>1</a><a href='./a.html#x'>2</a><a href=/sub>3</a><a href=gone.html>4</a>\
        <a href=garbage.html>5</a><a href=loop.html>6</a><a href=notes.txt>7</a><a href=tag.html>8</a>\
        <a href=%ff.html>malformed</a><a href=https://example.com/>elsewhere</a><a href=#top>here</a>";
    write(&site, "index.html", index);
    // A circle, and a second link to what is not there.
    write(&site, "a.html", "<a href=index.html>1</a><a href=a.html>2</a><a href='gone.html?again'>3</a>");
    // Reached as /sub, which the server redirects: what it links to is in it.
    write(&site, "sub/index.html", "<a href=deep%20er.html>1</a><a href=../>2</a>");
    write(&site, "sub/deep er.html", format!("<p>{}<a href=..>1</a>", "text ".repeat(100_000)));
    let garbage: Vec<u8> = (0..50_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    write(&site, "garbage.html", garbage.map_free_of_links());
    write(&site, "notes.txt", "<a href=not-a-link.html>");
    // More than a parser may hold.
    write(&site, "tag.html", format!("<a href=a.html>1</a><a href='{}'>", "a".repeat(300_000)));
    #[cfg(unix)]
    std::os::unix::fs::symlink("loop.html", site.path().join("loop.html")).unwrap();
    #[cfg(not(unix))]
    write(&site, "loop.html", "");
    site
}

trait FreeOfLinks {
    fn map_free_of_links(self) -> Self;
}

impl FreeOfLinks for Vec<u8> {
    /// The same bytes, but nothing in them begins a link, so that the counts are known.
    fn map_free_of_links(mut self) -> Self {
        for pair in 1..self.len() {
            if self[pair - 1] == b'<'
                && matches!(self[pair], b'a' | b'A' | b'i' | b'I' | b'f' | b'F' | b'b' | b'B')
            {
                self[pair] = b'!';
            }
        }
        self
    }
}

/// What a crawl of [`site`] counts. Pages: index, a, sub/index, sub/deep er, garbage, notes. Links: 8 on the
/// index, 3 on a, 2 on sub/index, 1 on deep er, 1 on tag, and the redirect of /sub. Broken: gone.html, from
/// two pages. Errors: the malformed link, the file that cannot be opened, the tag that is too long.
#[cfg(unix)]
const COUNTS: [(&str, f64); 4] = [("pages", 6.0), ("links", 16.0), ("broken_links", 2.0), ("errors", 3.0)];

#[cfg(unix)]
#[test]
fn every_page_link_and_error_is_counted_whatever_the_limit() {
    let site = site();
    let folder = site.path().to_str().unwrap();
    let bytes: u64 =
        ["index.html", "a.html", "sub/index.html", "sub/deep er.html", "garbage.html", "notes.txt"]
            .iter()
            .map(|name| fs::metadata(site.path().join(name)).unwrap().len())
            .sum();
    for limit in [&["--max-tasks", "1"][..], &["--max-tasks", "2"], &[], &["--unbounded"]] {
        let output = crawl(&[&["--site", folder, "--json"], limit].concat());
        assert_eq!(output.status.code(), Some(0), "{limit:?}: {}", text(&output.stderr));
        for (name, expected) in COUNTS {
            assert_eq!(figure(&output, name), expected, "{name} with {limit:?}\n{}", text(&output.stdout));
        }
        assert_eq!(figure(&output, "bytes"), bytes as f64);
        if let [_, max] = limit {
            assert!(figure(&output, "live_tasks_peak") <= max.parse().unwrap());
        }
        assert!(figure(&output, "wall_s") > 0.0);
        #[cfg(target_os = "linux")]
        assert!(figure(&output, "memory_peak_bytes") > 100_000.0);
        // Piped, so no live line: no carriage return, no escape.
        assert!(!text(&output.stderr).contains(['\r', '\x1b']));
    }
}

#[cfg(unix)]
#[test]
fn a_file_without_permission_is_an_error_and_not_a_page() {
    use std::os::unix::fs::PermissionsExt;
    let site = tempfile::tempdir().unwrap();
    write(&site, "index.html", "<a href=secret.html>");
    write(&site, "secret.html", "secret");
    let secret = site.path().join("secret.html");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let readable_all_the_same = fs::read(&secret).is_ok();
    let output = crawl(&["--site", site.path().to_str().unwrap(), "--json"]);
    let expected = if readable_all_the_same { (2.0, 0.0) } else { (1.0, 1.0) };
    assert_eq!((figure(&output, "pages"), figure(&output, "errors")), expected);
}

#[test]
fn an_impossible_request_is_named_and_exits_with_2() {
    let site = site();
    let folder = site.path().to_str().unwrap();
    let no_folder = format!("{folder}/no");
    let in_use = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = in_use.local_addr().unwrap().port().to_string();
    let port_in_use = format!("crawl: --port {port}: 127.0.0.1:{port}: already in use\n");
    for (words, expected) in [
        (&["--max-tasks", "0"][..], "crawl: --max-tasks 0: at least one task must fit\n"),
        (&["--max-tasks", "x"], "crawl: --max-tasks x: not a number of tasks\n"),
        (
            &["--memory", "1MiB", "--max-tasks", "5"],
            "crawl: --memory 1048576 and --max-tasks 5: either memory bounds the crawl, or a number\n",
        ),
        (
            &["--site", folder, "--memory", "4kB"],
            "crawl: --memory 4000: less than 4096 bytes of a budget could be promised\n",
        ),
        (&["--frob"], "crawl: --frob: no such option (--help lists them)\n"),
        (&["--site", &no_folder], &format!("crawl: --site {no_folder}: no such folder\n")),
        (&["--site", folder, "--port", &port], &port_in_use),
    ] {
        let output = crawl(words);
        assert_eq!(text(&output.stderr), expected);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn help_is_complete_and_no_error() {
    let output = crawl(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for option in [
        "--site",
        "--port",
        "--max-tasks",
        "--unbounded",
        "--jobs",
        "--spawners",
        "--work-us",
        "--workers",
        "--serve",
        "--json",
        "--connect",
        "--whole",
        "--keep",
        "--memory",
        "--rate",
        "--per-host",
        "--linger",
    ] {
        assert!(text(&output.stdout).contains(option), "{option}");
    }
}

/// A crawl that never ends by itself: one file is a terabyte of nothing.
#[cfg(unix)]
struct Endless {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    server: u32,
    _site: TempDir,
}

#[cfg(unix)]
fn endless() -> Endless {
    let site = tempfile::tempdir().unwrap();
    write(&site, "index.html", "<a href=endless.bin>");
    fs::File::create(site.path().join("endless.bin")).unwrap().set_len(1 << 40).unwrap();
    let mut child = Command::new(binary())
        .args(["--site", site.path().to_str().unwrap(), "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("pages at once") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended: {said}");
    }
    let (_, server) = said.split_once("served by process ").unwrap();
    let server = server.split(' ').next().unwrap().parse().unwrap();
    Endless { child, stderr, server, _site: site }
}

#[cfg(unix)]
fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// Gone, or dead and waiting for a parent that reaps it.
#[cfg(target_os = "linux")]
fn has_ended(process: u32) -> bool {
    match fs::read_to_string(format!("/proc/{process}/stat")) {
        Ok(stat) => stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'),
        Err(_) => true,
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_prints_the_table_so_far_and_takes_the_server_along() {
    for (name, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut crawl = endless();
        signal(&crawl.child, name);
        let mut rest = String::new();
        crawl.stderr.read_to_string(&mut rest).unwrap();
        let output = crawl.child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{rest}");
        assert!(text(&output.stdout).contains("interrupted"), "{}", text(&output.stdout));
        assert!(text(&output.stdout).contains("peak memory"));
        assert!(figure(&output, "pages") <= 1.0);
        assert_eq!(figure(&output, "errors"), 0.0);
        #[cfg(target_os = "linux")]
        assert!(has_ended(crawl.server));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_server_ends_even_if_the_crawler_is_killed() {
    let mut crawl = endless();
    crawl.child.kill().unwrap();
    crawl.child.wait().unwrap();
    let give_up = Instant::now() + Duration::from_secs(20);
    while !has_ended(crawl.server) {
        assert!(Instant::now() < give_up, "the server of a killed crawler lives on");
        thread::yield_now();
    }
}

/// A server by itself, and a way to talk to it.
struct Served {
    child: Child,
    address: String,
}

fn serve(site: &TempDir) -> Served {
    let mut child = Command::new(binary())
        .args(["--serve", "--max-tasks", "4", "--site", site.path().to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening ").unwrap().split(' ').next().unwrap().to_owned();
    Served { child, address }
}

impl Served {
    /// Sends `request` and returns all that comes back until the server closes.
    fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_server_keeps_a_connection_and_closes_it_when_asked() {
    let site = site();
    let server = serve(&site);
    // Three at once on one connection, and the last asks for its end.
    let answer = server.ask(
        "GET /a.html HTTP/1.1\r\nhost: x\r\n\r\nHEAD /a.html HTTP/1.1\r\nhost: x\r\n\r\n\
         GET /gone HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 2, "{answer}");
    assert_eq!(answer.matches("connection: keep-alive\r\n").count(), 2);
    assert_eq!(answer.matches("<a href=a.html>").count(), 1, "a body for GET, none for HEAD");
    assert!(answer.contains("HTTP/1.1 404 Not Found\r\n") && answer.contains("<h1>404"));
}

#[test]
fn the_server_refuses_what_it_should_not_answer() {
    let site = site();
    let server = serve(&site);
    let status = |request: &str| server.ask(request).split(' ').nth(1).map(str::to_owned).unwrap();
    let get = |target: &str| status(&format!("GET {target} HTTP/1.1\r\nconnection: close\r\n\r\n"));
    for target in ["/../etc/passwd", "/%2e%2e/etc/passwd", "/sub/..%2f..%2fetc/passwd", "//../x", "*"] {
        assert_eq!(get(target), "400", "{target}");
    }
    assert_eq!(get("//etc/passwd"), "404");
    assert_eq!(status("POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"), "405");
    assert_eq!(status("nonsense\r\n\r\n"), "400");
    assert_eq!(status(&format!("GET /{} HTTP/1.1\r\n", "a".repeat(9_000))), "431");
    // After all that it still serves more connections than its limit, one after the other.
    for _ in 0..8 {
        assert_eq!(get("/"), "200");
    }
}

#[test]
fn the_server_ends_with_its_standard_input() {
    let site = site();
    let mut server = serve(&site);
    drop(server.child.stdin.take());
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn without_documentation_a_site_is_generated_and_crawled_whole() {
    let output = Command::new(binary())
        .arg("--json")
        .env("RUSTC", "no-such-compiler")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(text(&output.stderr).contains("generated"), "{}", text(&output.stderr));
    // 2,000 pages, the index and the notes; one link in a hundred pages is broken.
    assert_eq!(figure(&output, "pages"), 2_002.0);
    assert_eq!((figure(&output, "broken_links"), figure(&output, "errors")), (20.0, 0.0));
    assert!(figure(&output, "live_tasks_peak") <= 1_000.0);
}

#[test]
fn jobs_stay_within_the_limit_and_are_compared_with_none() {
    for spawners in ["1", "7"] {
        let output = crawl(&["--jobs", "20000", "--max-tasks", "100", "--spawners", spawners, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        // The first of the two objects inside is the bounded run.
        assert!(figure(&output, "live_tasks_peak") <= 100.0);
        let stdout = text(&output.stdout);
        assert!(stdout.contains("--max-tasks 100") && stdout.contains("--unbounded"), "{stdout}");
        assert!(stdout.lines().last().unwrap().starts_with("{\"jobs\":20000,"), "{stdout}");
    }
}

#[test]
fn jobs_stay_within_the_limit_on_several_workers_too() {
    let jobs = ["--jobs", "20000", "--max-tasks", "100", "--spawners", "3", "--json"];
    let output = crawl(&[&jobs[..], &["--work-us", "1", "--workers", "2"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(figure(&output, "live_tasks_peak") <= 100.0);
    let stdout = text(&output.stdout);
    assert!(
        stdout.starts_with("20,000 jobs of 256 bytes, spawned by 3 tasks, each 1 µs of work, on 2 workers\n")
    );
    assert!(stdout.contains("\"spawners\":3,\"work_us\":1,\"workers\":2,\"max_tasks\":100,"), "{stdout}");

    let output = crawl(&["--jobs", "1", "--workers", "100000", "--alone"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--workers 100000: "), "{}", text(&output.stderr));
}

/// Pages of `kib`, all linked from the index.
fn pages_of(kib: &[usize]) -> TempDir {
    let site = tempfile::tempdir().unwrap();
    let mut index = String::new();
    for n in 0..kib.len() {
        index += &format!("<a href={n}.html>{n}</a>");
        let name = |n: usize| format!("{n}.html");
        // The same as the one before: no more of the disk.
        if n > 0 && kib[n - 1] == kib[n] {
            fs::hard_link(site.path().join(name(n - 1)), site.path().join(name(n))).unwrap();
        } else {
            let text = "page ".repeat(kib[n] * 1_024 / 5);
            write(&site, &name(n), format!("<a href=index.html>0</a>{text}"));
        }
    }
    write(&site, "index.html", index);
    site
}

#[cfg(unix)]
#[test]
fn pages_that_are_read_whole_count_the_same_by_number_and_by_memory() {
    let site = site();
    let folder = site.path().to_str().unwrap();
    let ways: [&[&str]; 4] = [
        &["--whole"],
        &["--whole", "--keep", "20", "--max-tasks", "2"],
        &["--whole", "--keep", "20", "--memory", "64MiB"],
        &["--memory", "64MiB"],
    ];
    for way in ways {
        let output = crawl(&[&["--site", folder, "--json"], way].concat());
        assert_eq!(output.status.code(), Some(0), "{way:?}: {}", text(&output.stderr));
        for (name, expected) in COUNTS {
            assert_eq!(figure(&output, name), expected, "{name} with {way:?}\n{}", text(&output.stdout));
        }
    }
}

/// The index is small, so all that it links to are let in as if they were, before the first of them shows its length.
#[test]
fn pages_that_are_longer_than_those_before_wait_and_are_no_debt() {
    const PAGE: u32 = 400 << 10;
    let site = pages_of(&[400; 300]);
    let folder = site.path().to_str().unwrap();
    let budget = ["--whole", "--keep", "50", "--memory", "48MiB", "--json", "--linger", "1"];
    let output = crawl(&[&["--site", folder], &budget[..]].concat());
    assert_eq!(figure(&output, "pages"), 301.0, "{}", text(&output.stderr));
    assert_eq!((figure(&output, "errors"), figure(&output, "budget_bytes")), (0.0, f64::from(48 << 20)));
    let soft = figure(&output, "soft_bytes");
    assert_eq!(soft, (f64::from(48 << 20) * 0.8).floor());
    // As much as there is, and no more, though all of them would be three times that.
    let in_use = figure(&output, "in_use_peak_bytes");
    assert!(in_use > soft / 2.0 && in_use <= soft, "{in_use} of {soft}");
    let typical = figure(&output, "typical_page_bytes");
    assert!((f64::from(PAGE)..f64::from(PAGE) * 1.3).contains(&typical), "{typical}");
    let peak = figure(&output, "memory_peak_bytes");
    assert!(peak < f64::from(48 << 20), "{peak}");
    assert!(text(&output.stdout).contains("memory left") && text(&output.stdout).contains("typical page"));
}

#[test]
fn a_page_that_is_too_long_for_the_budget_is_an_error_that_says_so() {
    let site = pages_of(&[1, 1_100]);
    let folder = site.path().to_str().unwrap();
    let output = crawl(&["--site", folder, "--whole", "--memory", "4MiB", "--json"]);
    assert_eq!((figure(&output, "pages"), figure(&output, "errors")), (2.0, 1.0));
    let long = fs::metadata(site.path().join("1.html")).unwrap().len();
    let error = format!("/1.html: {long} bytes long: at most {} may be read whole", (4 << 20) / 4);
    assert!(text(&output.stdout).contains(&error), "{error} in\n{}", text(&output.stdout));
}

/// A server of one page that links to `pages` others, and of those, which notes when each request came.
struct Clocked {
    listener: TcpListener,
    pages: usize,
}

/// When a connection came: after the one, when nobody had come yet, and before the other.
type Came = (Instant, Instant);

impl Clocked {
    fn bind(pages: usize) -> (Clocked, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (Clocked { listener, pages }, address)
    }

    /// Serves until `crawler` has ended.
    fn serve(self, crawler: &mut Child) -> Vec<Came> {
        let mut came = Vec::new();
        let mut nobody = Instant::now();
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    came.push((nobody, Instant::now()));
                    stream.set_nonblocking(false).unwrap();
                    self.answer(stream);
                }
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                    nobody = Instant::now();
                    if crawler.try_wait().unwrap().is_some() {
                        return came;
                    }
                    // How precisely it is known when they come.
                    thread::sleep(Duration::from_millis(1));
                }
            }
        }
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut head = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        head.read_line(&mut line).unwrap();
        let mut rest = String::new();
        while rest != "\r\n" {
            rest.clear();
            head.read_line(&mut rest).unwrap();
        }
        let body: String = match line.contains("/index.html") {
            true => (1..self.pages).map(|n| format!("<a href={n}.html>{n}</a>")).collect(),
            false => "<p>".into(),
        };
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all((head + &body).as_bytes()).unwrap();
    }
}

#[test]
fn no_second_sees_more_requests_than_the_rate() {
    const RATE: usize = 50;
    const PAGES: usize = 100;
    let (server, address) = Clocked::bind(PAGES);
    let mut crawler = Command::new(binary())
        .args(["--connect", &address, "--rate", &RATE.to_string(), "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let came = server.serve(&mut crawler);
    let output = crawler.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!((figure(&output, "pages"), came.len()), (PAGES as f64, PAGES));
    assert!(figure(&output, "wall_s") >= 1.9, "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains("at most 50 in 1s requests over all"), "{}", text(&output.stderr));
    // One more than the rate in a second, the burst, may be; two more are a violation if the first of them came at the
    // earliest, and the last at the latest, that this thread knows of: however late it looked, it accuses nobody falsely.
    for window in came.windows(RATE + 2) {
        let ((earliest, _), (_, latest)) = (window[0], window[RATE + 1]);
        assert!(
            latest - earliest >= Duration::from_secs(1),
            "{:?}: {} requests",
            latest - earliest,
            RATE + 2
        );
    }
}

#[test]
fn each_address_has_a_rate_of_its_own_and_none_waits_for_another() {
    let site = pages_of(&[1; 20]);
    let (first, second) = (serve(&site), serve(&site));
    let both = format!("{},{}", first.address, second.address);
    // 21 requests, 11 to one and 10 to the other. The first of each is at once.
    for (addresses, requests) in [(&first.address, 21), (&both, 11)] {
        let output = crawl(&["--connect", addresses, "--per-host", "40", "--json"]);
        assert_eq!((figure(&output, "pages"), figure(&output, "errors")), (21.0, 0.0));
        let least = f64::from(requests - 1) / 40.0;
        assert!(figure(&output, "wall_s") >= least, "{}", text(&output.stdout));
    }
}
