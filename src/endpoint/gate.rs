//! Who may connect: places for connections, counted over all workers.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The places of an endpoint.
#[derive(Debug)]
pub(super) struct Gate {
    taken: AtomicUsize,
    places: AtomicUsize,
    /// 0: as many as there are.
    places_per_client: AtomicUsize,
    clients: Mutex<HashMap<Client, usize>>,
}

/// An IPv4 address or an IPv6 /64, which is what one subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Client(IpAddr);

impl Gate {
    pub(super) fn new(places: usize, places_per_client: usize) -> Self {
        let (places, places_per_client) = (AtomicUsize::new(places), AtomicUsize::new(places_per_client));
        Gate { taken: AtomicUsize::new(0), places, places_per_client, clients: Mutex::default() }
    }

    /// Changes the limits for those who come from now on.
    pub(super) fn resize(&self, places: usize, places_per_client: usize) {
        self.places.store(places, Relaxed);
        self.places_per_client.store(places_per_client, Relaxed);
    }

    /// Takes a place; `false` when this one is beyond the limit, and somebody should make room.
    pub(super) fn enter(&self) -> bool {
        self.taken.fetch_add(1, Relaxed) < self.places.load(Relaxed)
    }

    pub(super) fn leave(&self) {
        self.taken.fetch_sub(1, Relaxed);
    }

    /// Takes one of the client's places. `Err` when it has them all; `Ok(None)` when clients are not counted.
    pub(super) fn enter_client(&self, address: SocketAddr) -> Result<Option<Client>, ()> {
        let share = self.places_per_client.load(Relaxed);
        if share == 0 {
            return Ok(None);
        }
        let client = Client::of(address);
        let mut clients = self.clients();
        let taken = clients.entry(client).or_default();
        if *taken >= share {
            return Err(());
        }
        *taken += 1;
        Ok(Some(client))
    }

    pub(super) fn leave_client(&self, client: Client) {
        let mut clients = self.clients();
        if let Some(taken) = clients.get_mut(&client) {
            *taken = taken.saturating_sub(1);
            if *taken == 0 {
                clients.remove(&client);
            }
        }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    fn of(address: SocketAddr) -> Self {
        Client(match address.ip().to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_its_share_and_gets_it_back() {
        let gate = Gate::new(10, 2);
        let from = |text: &str| gate.enter_client(text.parse().unwrap());
        let first = from("[2001:db8::1]:1").unwrap().unwrap();
        assert!(from("[2001:db8::2]:2").is_ok(), "the same /64");
        assert!(from("[2001:db8::3]:3").is_err());
        assert!(from("[2001:db8:0:1::3]:3").is_ok(), "another /64");
        gate.leave_client(first);
        assert!(from("[2001:db8::3]:3").is_ok());
        assert!(from("192.0.2.1:1").is_ok() && from("[::ffff:192.0.2.1]:1").is_ok());
        assert!(from("192.0.2.1:1").is_err());
    }

    #[test]
    fn places_are_counted() {
        let gate = Gate::new(2, 0);
        assert!(gate.enter() && gate.enter() && !gate.enter());
        gate.leave();
        gate.leave();
        assert!(gate.enter() && !gate.enter());
        assert_eq!(gate.enter_client("192.0.2.1:1".parse().unwrap()), Ok(None));
    }
}
