//! What does a request cost over TCP, beside a bare epoll loop? 64 bytes there and back; server on one core, load on the other.
//!
//! Expected: a server's processor time a request at most 1.05 of the bare loop's, by the same system calls, and at least 0.97
//! of its requests a second, and tokio's. At one connection the bare loop is no ceiling: it sleeps between two requests, and
//! whoever does not saves a wake-up.
//!
//! ```text
//! cargo run --release -p benches --features peers --bin echo -- [--quick] [--rounds N] [--ms N] [--connections N,N,..]
//!                                                               [--growth N,N,..] [--requests N] [--only NAME,NAME,..]
//! ```
//!
//! # Rules
//! Those of `echo.rs`. A round asks every server once at each number of connections, so that all of them meet the same
//! machine; a figure is the median of its rounds, which are many and short, since whoever else uses one of the two cores
//! for a moment spoils what is measured in it.
//!
//! System calls are counted in runs of their own, twice. By perf, which leaves the server as fast as it is. And by
//! `strace -c -f`, which knows their names, but stops the server twice a call: a server so slow is never out of work, so it
//! waits less often, and where it looks for events every so many microseconds, it does so many times more often.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("echo: epoll, /proc and strace are Linux's");
}

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;
    use std::time::Duration;
    use std::{env, io};

    use benches::echo::{Load, Server, more_files, names, pin, serve};
    use benches::{Figure, median_and_spread};

    /// What this process is on; the server is on the one before.
    const LOAD_CORE: usize = 1;

    /// Of each run, before it is measured.
    const WARM: Duration = Duration::from_millis(20);

    struct Options {
        rounds: usize,
        window: Duration,
        connections: Vec<usize>,
        growth: Vec<usize>,
        growth_rounds: usize,
        /// Connections at which system calls are counted, and over how many requests.
        traced: Vec<usize>,
        traced_requests: u64,
        only: Option<Vec<String>>,
    }

    fn options(arguments: &[String]) -> Options {
        let value = |name: &str| {
            let at = arguments.iter().position(|argument| argument == name)?;
            Some(arguments.get(at + 1).unwrap_or_else(|| panic!("{name} N")).as_str())
        };
        let number = |name: &str, otherwise: u64| {
            value(name).map_or(otherwise, |text| text.parse().expect("a number"))
        };
        let numbers = |name: &str, otherwise: &[usize]| match value(name) {
            None => otherwise.to_vec(),
            Some("") => Vec::new(),
            Some(text) => text.split(',').map(|text| text.parse().expect("numbers")).collect(),
        };
        let quick = arguments.iter().any(|argument| argument == "--quick");
        let connections = numbers("--connections", &[1, 50, 500]);
        let growth: &[usize] = if quick { &[1, 100, 1_000] } else { &[1, 10, 100, 1_000, 5_000] };
        Options {
            rounds: number("--rounds", if quick { 3 } else { 15 }) as usize,
            window: Duration::from_millis(number("--ms", if quick { 60 } else { 150 })),
            growth: numbers("--growth", growth),
            growth_rounds: if quick { 1 } else { 3 },
            traced: connections.clone(),
            traced_requests: number("--requests", if quick { 2_000 } else { 10_000 }),
            connections,
            only: value("--only").map(|text| text.split(',').map(str::to_owned).collect()),
        }
    }

    pub(super) fn main() -> io::Result<()> {
        let arguments: Vec<String> = env::args().skip(1).collect();
        if arguments.first().is_some_and(|command| command == "serve") {
            serve(arguments.get(1).expect("serve NAME"));
            return Ok(());
        }
        let options = options(&arguments);
        more_files()?;

        let mut servers = Vec::new();
        let asked =
            |name: &str| options.only.as_ref().is_none_or(|only| only.iter().any(|known| known == name));
        for name in names().filter(|name| asked(name)) {
            match Server::start(name) {
                Ok(server) => servers.push((name, server)),
                Err(error) => Figure::cannot("echo", "requests", name, error).print(),
            }
        }
        // Only now, so that the servers are not kept here.
        pin(LOAD_CORE)?;

        measure("echo", &servers, &options.connections, options.rounds, options.window)?;
        count_calls(&servers, &options);
        measure("echo_growth", &servers, &options.growth, options.growth_rounds, options.window)
    }

    /// Requests a second and processor time a request, round by round.
    fn measure(
        section: &str,
        servers: &[(&str, Server)],
        connections: &[usize],
        rounds: usize,
        window: Duration,
    ) -> io::Result<()> {
        /// Of one server at one number of connections: of each round, or why there are none.
        #[derive(Default)]
        struct Found {
            rates: Vec<f64>,
            nanos: Vec<f64>,
            cannot: Option<io::Error>,
        }
        let mut found: BTreeMap<(usize, usize), Found> = BTreeMap::new();
        for round in 1..=rounds {
            eprintln!("{section}: round {round} of {rounds}");
            for (case, connections) in connections.iter().enumerate() {
                for (at, (_, server)) in servers.iter().enumerate() {
                    let found = found.entry((case, at)).or_default();
                    if found.cannot.is_some() {
                        continue;
                    }
                    match ask(server, *connections, window) {
                        Ok((rate, nanos)) => {
                            found.rates.push(rate);
                            found.nanos.push(nanos);
                        }
                        Err(error) => found.cannot = Some(error),
                    }
                    server.rest()?;
                }
            }
        }
        for ((case, at), found) in found {
            let (name, x) = (servers[at].0, connections[case] as f64);
            if let Some(reason) = found.cannot {
                Figure::cannot(section, "requests", name, reason).at(x).print();
                continue;
            }
            let (rate, spread) = median_and_spread(found.rates);
            let figure = Figure::new(section, "requests", name, rate, "requests/s");
            figure.at(x).within(spread).more_is_better().print();
            let (nanos, spread) = median_and_spread(found.nanos);
            Figure::new(section, "cpu a request", name, nanos, "ns").at(x).within(spread).print();
        }
        Ok(())
    }

    /// Requests a second, and the server's nanoseconds a request.
    fn ask(server: &Server, connections: usize, window: Duration) -> io::Result<(f64, f64)> {
        let mut load = Load::connect(server.port(), connections)?;
        load.run_for(WARM)?;
        server.rest()?;
        let before = server.cpu()?;
        let ran = load.run_for(window)?;
        server.rest()?;
        let cpu = server.cpu()? - before;
        let requests = ran.requests as f64;
        Ok((requests / ran.wall.as_secs_f64(), cpu.as_nanos() as f64 / requests))
    }

    /// System calls a request. Each server in turn: counts do not depend on what else the machine does.
    fn count_calls(servers: &[(&str, Server)], options: &Options) {
        for connections in &options.traced {
            let requests = options.traced_requests;
            for (name, server) in servers {
                let connect = || -> io::Result<Load> {
                    let load = Load::connect(server.port(), *connections)?;
                    server.rest()?;
                    Ok(load)
                };
                let counted = connect().and_then(|mut load| {
                    let (ran, calls) = server.system_calls(|| load.run_requests(requests))?;
                    Ok(calls as f64 / ran.requests as f64)
                });
                print_calls("system calls a request", name, *connections, counted);

                let counted = connect().and_then(|mut load| {
                    let (ran, calls) = server.system_calls_by_name(|| load.run_requests(requests))?;
                    let each: Vec<_> = calls
                        .into_iter()
                        .map(|(call, count)| (call, count as f64 / ran.requests as f64))
                        .collect();
                    let list: Vec<_> =
                        each.iter().map(|(call, count)| format!("{call} {count:.3}")).collect();
                    eprintln!("{name} at {connections}, under strace: {}", list.join(", "));
                    Ok(each.into_iter().map(|(_, count)| count).sum())
                });
                print_calls("system calls a request, under strace", name, *connections, counted);
            }
        }
    }

    fn print_calls(workload: &str, name: &str, connections: usize, counted: io::Result<f64>) {
        let figure = match counted {
            Ok(calls) => Figure::new("echo", workload, name, calls, "calls"),
            Err(reason) => Figure::cannot("echo", workload, name, reason),
        };
        figure.at(connections as f64).print();
    }
}
