//! Receiving and sending on the fast path: tokio says when, and the system is called directly.
//!
//! libc's `recv` and `send` are points at which a thread can be cancelled, and in a process of several threads they pay for that with
//! several locked instructions each, 2 % of what an answer costs. Nobody cancels threads here.

use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads what has come; 0 is the client's end.
pub(super) fn poll_receive(stream: &TcpStream, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
    let room = into.len();
    loop {
        ready!(stream.poll_read_ready(cx))?;
        match attempt(stream, Interest::READABLE, room, || Ok(recv(stream, &mut *into, RecvFlags::DONTWAIT)?.0)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

/// Offers octets to the client; gives how many it takes.
pub(super) fn poll_send(stream: &TcpStream, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        ready!(stream.poll_write_ready(cx))?;
        match attempt(stream, Interest::WRITABLE, octets.len(), || Ok(send(stream, octets, flags)?)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

/// Calls the system once. Where it moved less than it could have, the next call would block until epoll says otherwise, as it
/// tells edges: tokio is told so, which saves that call.
fn attempt(
    stream: &TcpStream,
    interest: Interest,
    room: usize,
    mut call: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    let mut some = None;
    let done = stream.try_io(interest, || {
        let moved = loop {
            match call() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => break done?,
            }
        };
        if (1..room).contains(&moved) {
            some = Some(moved);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(moved)
    });
    some.map_or(done, Ok)
}
