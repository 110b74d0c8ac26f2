//! Addresses as every version of the interface spells them. The generated types of two versions
//! are alike and yet different types.

/// Conversions from and to the types of a module that `bindgen!` made.
macro_rules! conversions {
    ($types:ident) => {
        impl From<$types::IpAddressFamily> for $crate::sockets::ops::Family {
            fn from(family: $types::IpAddressFamily) -> Self {
                match family {
                    $types::IpAddressFamily::Ipv4 => Self::V4,
                    $types::IpAddressFamily::Ipv6 => Self::V6,
                }
            }
        }

        impl From<$crate::sockets::ops::Family> for $types::IpAddressFamily {
            fn from(family: $crate::sockets::ops::Family) -> Self {
                match family {
                    $crate::sockets::ops::Family::V4 => Self::Ipv4,
                    $crate::sockets::ops::Family::V6 => Self::Ipv6,
                }
            }
        }

        impl From<$types::IpSocketAddress> for std::net::SocketAddr {
            fn from(address: $types::IpSocketAddress) -> Self {
                match address {
                    $types::IpSocketAddress::Ipv4(v4) => {
                        let (a, b, c, d) = v4.address;
                        std::net::SocketAddr::from(([a, b, c, d], v4.port))
                    }
                    $types::IpSocketAddress::Ipv6(v6) => {
                        let (a, b, c, d, e, f, g, h) = v6.address;
                        let ip = [a, b, c, d, e, f, g, h].into();
                        std::net::SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id).into()
                    }
                }
            }
        }

        impl From<std::net::SocketAddr> for $types::IpSocketAddress {
            fn from(address: std::net::SocketAddr) -> Self {
                match address {
                    std::net::SocketAddr::V4(v4) => {
                        let [a, b, c, d] = v4.ip().octets();
                        let (port, address) = (v4.port(), (a, b, c, d));
                        Self::Ipv4($types::Ipv4SocketAddress { port, address })
                    }
                    std::net::SocketAddr::V6(v6) => {
                        let [a, b, c, d, e, f, g, h] = v6.ip().segments();
                        Self::Ipv6($types::Ipv6SocketAddress {
                            port: v6.port(),
                            flow_info: v6.flowinfo(),
                            address: (a, b, c, d, e, f, g, h),
                            scope_id: v6.scope_id(),
                        })
                    }
                }
            }
        }

        impl From<std::net::IpAddr> for $types::IpAddress {
            fn from(ip: std::net::IpAddr) -> Self {
                match std::net::SocketAddr::new(ip, 0).into() {
                    $types::IpSocketAddress::Ipv4(v4) => Self::Ipv4(v4.address),
                    $types::IpSocketAddress::Ipv6(v6) => Self::Ipv6(v6.address),
                }
            }
        }
    };
}

pub(super) use conversions;
