//! The load: connections that each have one message under way.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll;

use super::MESSAGE;

const EVENTS: usize = 1_024;

/// A server that says nothing for so long is broken.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// So many connections to one server.
#[derive(Debug)]
pub struct Load {
    ready: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
}

/// What a run was.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// How many echoes came back.
    pub requests: u64,
    /// In what time.
    pub wall: Duration,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    /// The number of its message.
    round: u64,
    sent: [u8; MESSAGE],
    /// How much of the echo is back.
    back: usize,
}

impl Load {
    /// Connects, one by one, and has each connection's first message echoed, so that all are known to be accepted.
    ///
    /// # Errors
    /// The system's, or that the server does not echo.
    pub fn connect(port: u16, connections: usize) -> io::Result<Self> {
        let mut load = Self {
            ready: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Vec::with_capacity(connections),
        };
        load.connect_more(port, connections)?;
        Ok(load)
    }

    /// The same, beside those that there are.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_more(&mut self, port: u16, connections: usize) -> io::Result<()> {
        for _ in 0..connections {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(PATIENCE.tv_sec as u64)))?;
            let at = self.connections.len();
            epoll::add(&self.ready, &stream, epoll::EventData::new_u64(at as u64), epoll::EventFlags::IN)?;
            let mut connection = Connection { stream, round: 0, sent: [0; MESSAGE], back: 0 };
            connection.send(at)?;
            while !connection.receive()? {}
            self.connections.push(connection);
        }
        Ok(())
    }

    /// Asks for so long.
    ///
    /// # Errors
    /// The system's, or that the server does not echo.
    pub fn run_for(&mut self, duration: Duration) -> io::Result<Ran> {
        let start = Instant::now();
        self.run(|_| start.elapsed() < duration)
    }

    /// Sends as many messages, or one a connection if that is more.
    ///
    /// # Errors
    /// The system's, or that the server does not echo.
    pub fn run_requests(&mut self, requests: u64) -> io::Result<Ran> {
        self.run(|sent| sent < requests)
    }

    /// Sends one message a connection, and the next ones while `goes_on`, which learns how many were sent and is asked once
    /// for all that are ready at once. At the end nothing is under way.
    fn run(&mut self, mut goes_on: impl FnMut(u64) -> bool) -> io::Result<Ran> {
        let start = Instant::now();
        let mut sent = 0;
        for (at, connection) in self.connections.iter_mut().enumerate() {
            connection.send(at)?;
            sent += 1;
        }
        let mut received = 0;
        let mut events = Vec::with_capacity(EVENTS);
        while received < sent {
            epoll::wait(&self.ready, rustix::buffer::spare_capacity(&mut events), Some(&PATIENCE))?;
            if events.is_empty() {
                return Err(io::Error::other(format!("no echo for {} s", PATIENCE.tv_sec)));
            }
            let goes_on = goes_on(sent);
            for event in events.drain(..) {
                let at = event.data.u64() as usize;
                let connection = &mut self.connections[at];
                if connection.receive()? {
                    received += 1;
                    if goes_on {
                        connection.send(at)?;
                        sent += 1;
                    }
                }
            }
        }
        Ok(Ran { requests: received, wall: start.elapsed() })
    }
}

impl Connection {
    fn send(&mut self, at: usize) -> io::Result<()> {
        self.round += 1;
        self.back = 0;
        for (place, word) in self.sent.chunks_exact_mut(size_of::<u64>()).enumerate() {
            // No two messages are alike, nor two words of one.
            let number = self.round << 32 | (at as u64) << 8 | place as u64;
            word.copy_from_slice(&number.to_ne_bytes());
        }
        self.stream.write_all(&self.sent)
    }

    /// Reads once; whether the whole echo is back, and is one ([ECHO-2]).
    fn receive(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 2 * MESSAGE];
        let read = self.stream.read(&mut buffer)?;
        let expected = &self.sent[self.back..];
        if read == 0 || read > expected.len() || buffer[..read] != expected[..read] {
            return Err(io::Error::other(format!("no echo, but {read} bytes of something else")));
        }
        self.back += read;
        Ok(self.back == MESSAGE)
    }
}
