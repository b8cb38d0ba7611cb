//! A bare epoll loop: what physics leaves.
//!
//! Level-triggered, so that a connection takes two calls a request, a read and a write, and no third that only learns that
//! there is nothing more. The token is the descriptor, which is the place in the table. What cannot be written at once is
//! waited for: the sockets block, and a message is far smaller than their buffers.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};

use rustix::event::epoll;

use super::{ANY_PORT, BUFFER, listening};

/// How many events are taken at once, as many as anteroom takes.
const EVENTS: usize = 256;

pub(super) fn serve() -> io::Result<()> {
    let listener = TcpListener::bind(ANY_PORT)?;
    let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let add = |source: &dyn AsFd, token| {
        epoll::add(&ready, source.as_fd(), epoll::EventData::new_u64(token as u64), epoll::EventFlags::IN)
    };
    let accepting = listener.as_raw_fd() as usize;
    add(&listener, accepting)?;
    listening(listener.local_addr()?);

    let mut connections: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = [0; BUFFER];
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        // Whoever attaches to count its system calls interrupts it.
        let wait = || epoll::wait(&ready, rustix::buffer::spare_capacity(&mut events), None);
        rustix::io::retry_on_intr(wait)?;
        for event in events.drain(..) {
            let at = event.data.u64() as usize;
            if at == accepting {
                let (stream, _) = listener.accept()?;
                let at = stream.as_raw_fd() as usize;
                add(&stream, at)?;
                if connections.len() <= at {
                    connections.resize_with(at + 1, || None);
                }
                connections[at] = Some(stream);
                continue;
            }
            let Some(stream) = &mut connections[at] else { continue };
            match stream.read(&mut buffer) {
                Ok(read @ 1..) if stream.write_all(&buffer[..read]).is_ok() => {}
                // Closing it takes it out of the epoll too.
                _ => connections[at] = None,
            }
        }
    }
}
