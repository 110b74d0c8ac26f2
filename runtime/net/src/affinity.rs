//! With which endpoint of a service a connection begins: anyone, so that callers spread, or always
//! the same for a client where the service asks for that (`sessionAffinity: ClientIP`). A client's
//! endpoint is computed and not remembered: the one whose hash with the client's address is the
//! highest. So an endpoint that comes or goes moves only its own clients, and affinity never ends.

use std::net::{IpAddr, SocketAddr};

use crate::podnet::PodNet;

impl PodNet {
    /// The place in the list where to begin; `client` where the service keeps clients together.
    pub(crate) fn begin(&self, client: Option<IpAddr>, endpoints: &[SocketAddr]) -> usize {
        match client {
            None => self.draw(endpoints.len()),
            Some(client) => favourite(client, endpoints),
        }
    }
}

/// The endpoint of a client; 0 where there are none.
fn favourite(client: IpAddr, endpoints: &[SocketAddr]) -> usize {
    let score = |(_, endpoint): &(usize, &SocketAddr)| hash(client, **endpoint);
    endpoints.iter().enumerate().max_by_key(score).map_or(0, |(at, _)| at)
}

/// FNV-1a, with a last step that spreads what differs only in its last bytes.
fn hash(client: IpAddr, endpoint: SocketAddr) -> u64 {
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let all = bytes(client).into_iter().chain(bytes(endpoint.ip()));
    let all = all.chain(endpoint.port().to_be_bytes());
    let hash = all.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_keep_their_endpoints_and_spread() {
        let endpoints: Vec<SocketAddr> = (1..=5).map(|n| ([127, 64, 0, n], 8080).into()).collect();
        let clients = || (0..1000_u32).map(|n| IpAddr::V4((0x7f40_0100 + n).into()));
        let chosen: Vec<SocketAddr> =
            clients().map(|client| endpoints[favourite(client, &endpoints)]).collect();
        for endpoint in &endpoints {
            let count = chosen.iter().filter(|one| *one == endpoint).count();
            assert!((140..260).contains(&count), "{endpoint} has {count} of 1000");
        }
        // One goes: only its clients go elsewhere.
        for (client, before) in clients().zip(&chosen) {
            let now = endpoints[..4][favourite(client, &endpoints[..4])];
            assert!(now == *before || *before == endpoints[4], "{client}");
        }
        assert_eq!(favourite([127, 64, 0, 9].into(), &[]), 0);
    }
}
