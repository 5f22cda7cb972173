//! Options of UDP sockets: broadcast, hop limit and multicast.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use socket2::SockRef;

use super::UdpSocket;
use crate::units;

impl UdpSocket {
    /// Sets whether the socket may send to broadcast addresses (`SO_BROADCAST`).
    pub fn set_broadcast(&self, broadcast: bool) -> io::Result<()> {
        self.fd.get_ref().set_broadcast(broadcast)
    }

    /// Returns whether the socket may send to broadcast addresses.
    pub fn broadcast(&self) -> io::Result<bool> {
        self.fd.get_ref().broadcast()
    }

    /// Sets the time to live of IPv4 packets: the maximum number of hops.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for more than 255.
    pub fn set_ttl(&self, ttl: u32) -> io::Result<()> {
        self.fd.get_ref().set_ttl(units::octet(ttl)?)
    }

    /// Returns the time to live of IPv4 packets.
    pub fn ttl(&self) -> io::Result<u32> {
        self.fd.get_ref().ttl()
    }

    /// Joins an IPv4 multicast group on the interface with the address `interface`.
    ///
    /// With an unspecified address, the system chooses the interface.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if `group` is no multicast address.
    ///
    /// # References
    /// `IP_ADD_MEMBERSHIP` in [ip(7)](https://man7.org/linux/man-pages/man7/ip.7.html).
    pub fn join_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.fd.get_ref().join_multicast_v4(&group, &interface)
    }

    /// Leaves an IPv4 multicast group.
    ///
    /// # Errors
    /// [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable) if the socket is not a member.
    pub fn leave_multicast_v4(&self, group: Ipv4Addr, interface: Ipv4Addr) -> io::Result<()> {
        self.fd.get_ref().leave_multicast_v4(&group, &interface)
    }

    /// Joins an IPv6 multicast group on the interface with the index `interface`.
    ///
    /// With index zero, the system chooses the interface.
    ///
    /// # References
    /// `IPV6_ADD_MEMBERSHIP` in [ipv6(7)](https://man7.org/linux/man-pages/man7/ipv6.7.html).
    pub fn join_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.fd.get_ref().join_multicast_v6(&group, interface)
    }

    /// Leaves an IPv6 multicast group.
    ///
    /// # Errors
    /// [`AddrNotAvailable`](io::ErrorKind::AddrNotAvailable) if the socket is not a member.
    pub fn leave_multicast_v6(&self, group: Ipv6Addr, interface: u32) -> io::Result<()> {
        self.fd.get_ref().leave_multicast_v6(&group, interface)
    }

    /// Sets the interface, by its address, through which IPv4 multicast packets are sent.
    pub fn set_multicast_interface_v4(&self, interface: Ipv4Addr) -> io::Result<()> {
        SockRef::from(self).set_multicast_if_v4(&interface)
    }

    /// Sets whether IPv4 multicast packets are delivered to this host as well.
    pub fn set_multicast_loop_v4(&self, enabled: bool) -> io::Result<()> {
        self.fd.get_ref().set_multicast_loop_v4(enabled)
    }

    /// Sets whether IPv6 multicast packets are delivered to this host as well.
    pub fn set_multicast_loop_v6(&self, enabled: bool) -> io::Result<()> {
        self.fd.get_ref().set_multicast_loop_v6(enabled)
    }

    /// Sets the time to live of IPv4 multicast packets. The default, 1, keeps them in the local
    /// network.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for more than 255.
    pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> {
        self.fd.get_ref().set_multicast_ttl_v4(units::octet(ttl)?)
    }
}
