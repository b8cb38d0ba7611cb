//! A server's process, from within and from outside.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::CpuSet;

use super::SERVERS;

/// What the server is on; the load is on the next.
const SERVER_CORE: usize = 0;

/// Serves, until whoever started this process ends it or ends itself: `serve NAME` of each program that starts servers.
///
/// Its first line is the port, or the reason why it cannot serve.
///
/// # Panics
/// If there is no server of that name.
pub fn serve(name: &str) {
    let serving = || -> io::Result<()> {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        pin(SERVER_CORE)?;
        let (_, serve) = SERVERS.iter().find(|(known, _)| *known == name).expect("a server of that name");
        serve()
    };
    if let Err(error) = serving() {
        // Nobody may be listening any more.
        let _ = writeln!(io::stdout(), "cannot: {error}");
    }
}

/// Keeps this thread, and all that it starts, on one core; on a machine that has only one there is nothing to keep apart.
///
/// # Errors
/// The system's.
pub fn pin(core: usize) -> io::Result<()> {
    if thread::available_parallelism()?.get() > core {
        let mut cores = CpuSet::new();
        cores.set(core);
        rustix::thread::sched_setaffinity(None, &cores)?;
    }
    Ok(())
}

/// As many open files as the system allows, for this process and those that it starts.
///
/// # Errors
/// The system's.
pub fn more_files() -> io::Result<u64> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// A server in a process of its own. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Starts one.
    ///
    /// # Errors
    /// The reason why it cannot serve, or the system's.
    pub fn start(name: &str) -> io::Result<Self> {
        let mut process =
            Command::new(env::current_exe()?).args(["serve", name]).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("it is piped")).read_line(&mut line)?;
        let mut server = Self { process, port: 0 };
        match line.trim().parse() {
            Ok(port) => server.port = port,
            Err(_) => {
                let reason = line.trim().trim_start_matches("cannot: ");
                return Err(io::Error::other(if reason.is_empty() { "it ended at once" } else { reason }));
            }
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What its threads have used of the processor, those of the kernel that work for it among them. Exact while it is at
    /// rest: a thread that runs is only brought up to date now and then.
    ///
    /// # Errors
    /// The system's, or that it keeps no such account.
    pub fn cpu(&self) -> io::Result<Duration> {
        let mut nanos = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
            // A thread may end meanwhile.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            let used = text.split(' ').next().and_then(|first| first.parse::<u64>().ok());
            nanos += used.ok_or_else(|| io::Error::other("no account of processor time in schedstat"))?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Waits until it has nothing more to do ([ECHO-3]).
    ///
    /// # Errors
    /// The system's.
    pub fn rest(&self) -> io::Result<()> {
        let mut before = self.cpu()?;
        loop {
            thread::sleep(Duration::from_millis(5));
            let now = self.cpu()?;
            if now == before {
                return Ok(());
            }
            before = now;
        }
    }

    /// How many system calls it makes during `work`, as perf counts them: it costs next to nothing, and knows no names.
    ///
    /// # Errors
    /// Of perf: that it is missing, or may not count; or of the work.
    pub fn system_calls<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<(T, u64)> {
        let pid = self.pid().to_string();
        let mut perf = Tracer::start("perf", &["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &pid])?;
        // It says nothing when it is attached, but then it has an event open for each thread.
        let files = format!("/proc/{}/fd", perf.process.id());
        let counts = || -> io::Result<bool> {
            let links = fs::read_dir(&files)?.flatten().filter_map(|file| fs::read_link(file.path()).ok());
            Ok(links.into_iter().any(|link| link.to_string_lossy().contains("perf_event")))
        };
        while !counts()? {
            if perf.process.try_wait()?.is_some() {
                let words = perf.stop()?;
                return Err(io::Error::other(words.lines().next().unwrap_or("perf ended").to_owned()));
            }
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(20));
        let done = work();
        let words = perf.stop()?;
        let count = words.lines().find(|line| line.contains("raw_syscalls"));
        let count = count.and_then(|line| line.split(',').next()?.parse().ok());
        Ok((done?, count.ok_or_else(|| io::Error::other(format!("perf: {}", words.trim())))?))
    }

    /// The same by name, as `strace -c -f` counts them. It stops the server twice a call.
    ///
    /// # Errors
    /// Of strace: that it is missing, or may not attach; or of the work.
    pub fn system_calls_by_name<T>(
        &self,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<(T, Vec<(String, u64)>)> {
        let mut strace = Tracer::start("strace", &["-c", "-f", "-p", &self.pid().to_string()])?;
        let mut line = String::new();
        strace.words.read_line(&mut line)?;
        if !line.contains("attached") {
            strace.process.wait()?;
            return Err(io::Error::other(line.trim().to_owned()));
        }
        let done = work();
        Ok((done?, calls_of(&strace.stop()?)))
    }
}

/// What looks at a server from outside, and tells on its standard error when it is stopped.
struct Tracer {
    process: Child,
    words: BufReader<ChildStderr>,
}

impl Tracer {
    fn start(program: &str, arguments: &[&str]) -> io::Result<Self> {
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::other(format!("{program}: {error}")))?;
        let words = BufReader::new(process.stderr.take().expect("it is piped"));
        Ok(Self { process, words })
    }

    fn stop(&mut self) -> io::Result<String> {
        if self.process.try_wait()?.is_none() {
            rustix::process::kill_process(Pid::from_child(&self.process), Signal::INT)?;
        }
        let mut words = String::new();
        self.words.read_to_string(&mut words)?;
        self.process.wait()?;
        Ok(words)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Only where something went wrong is it still there.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads the table of `strace -c`: `% time, seconds, usecs/call, calls, errors, syscall`, where errors may be missing.
fn calls_of(table: &str) -> Vec<(String, u64)> {
    let rows = table.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [share, _, _, calls, .., name] = words[..] else { return None };
        share.parse::<f64>().ok()?;
        Some((name.to_owned(), calls.parse().ok()?))
    });
    rows.filter(|(name, _)| name != "total").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_strace_is_read_with_errors_and_without() {
        let table = "strace: Process 7 detached\n\
            % time     seconds  usecs/call     calls    errors syscall\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
             60.00    0.000600           6       100           sendto\n\
             40.00    0.000400           4       100        12 recvfrom\n\
            ------ ----------- ----------- --------- --------- ----------------\n\
            100.00    0.001000           5       200        12 total\n";
        assert_eq!(calls_of(table), [("sendto".to_owned(), 100), ("recvfrom".to_owned(), 100)]);
    }
}
