//! The public endpoint over real sockets: what clients in the field send, octet by octet.

mod differential;
mod limits;
mod protocol;
mod stop;
mod util;
