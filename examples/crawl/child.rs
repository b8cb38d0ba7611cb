//! The second process: this same binary, started with other words.
//!
//! # Invariants
//!
//! No server outlives its crawler. The crawler kills it when it is done, however it ends ([`Server`]'s drop);
//! and if the crawler itself is killed, the server's standard input ends, which is its sign to go. It stands
//! in a process group of its own, so that Ctrl-C at the terminal reaches the crawler alone, and the pages in
//! flight do not fail for it.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A server that runs, and where.
pub(crate) struct Server {
    child: Child,
    /// Never written to: its end is the message.
    _stdin: Option<ChildStdin>,
    addresses: Vec<SocketAddr>,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum ServerError {
    /// It said why on standard error, and this is its exit code.
    Refused(u8),
    Io(io::Error),
}

impl From<io::Error> for ServerError {
    fn from(error: io::Error) -> Self {
        ServerError::Io(error)
    }
}

/// This binary again, with a standard input that ends with this process.
pub(crate) fn this_program() -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    Ok(command)
}

impl Server {
    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or ends instead of saying where it listens.
    pub(crate) fn start(folder: &Path, port: u16, max_tasks: usize) -> Result<Server, ServerError> {
        let mut child = this_program()?
            .arg("--serve")
            .arg("--site")
            .arg(folder)
            .args(["--port", &port.to_string(), "--max-tasks", &max_tasks.to_string()])
            .spawn()?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("it was piped");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        let mut server = Server { child, _stdin: stdin, addresses: Vec::new() };
        read?;
        match parse_ready(&line) {
            Some(addresses) => server.addresses = addresses,
            None => {
                let status = server.child.wait()?;
                return Err(ServerError::Refused(
                    status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1),
                ));
            }
        }
        Ok(server)
    }

    /// Where it listens; never empty.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did before it was told to.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line that says where a server listens.
pub(crate) fn ready_line(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    format!("listening {}", addresses.join(" "))
}

fn parse_ready(line: &str) -> Option<Vec<SocketAddr>> {
    let words = line.trim().strip_prefix("listening ")?;
    words.split(' ').map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ready_line_is_read_back() {
        let addresses: Vec<SocketAddr> =
            vec!["127.0.0.1:80".parse().unwrap(), "127.0.0.2:80".parse().unwrap()];
        assert_eq!(parse_ready(&(ready_line(&addresses) + "\n")), Some(addresses));
        assert_eq!(parse_ready(""), None);
        assert_eq!(parse_ready("listening \n"), None);
    }
}
