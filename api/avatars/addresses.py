"""Which addresses are the public internet's."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

_UNICAST = IPv6Network("2000::/3")
"""All of IPv6 that is routed in public."""
_NAT64 = IPv6Network("64:ff9b::/96")
_REFUSED4 = (
    # A relay that unwraps packets for anyone who asks (RFC 7526), and what is_global lets through.
    IPv4Network("192.88.99.0/24"),
    IPv4Network("192.0.0.0/24"),
)
_REFUSED6 = (
    # Tunnels: the address inside is reached from somewhere else, through somebody's relay.
    IPv6Network("2002::/16"),
    IPv6Network("2001::/23"),
    # Documentation.
    IPv6Network("2001:db8::/32"),
    IPv6Network("3fff::/20"),
)


def is_public(address: str) -> bool:
    """Whether ``address`` (IPv4 or IPv6, as ``getaddrinfo`` writes it) belongs to the public
    internet: not private, loopback, link-local, shared, reserved, multicast or unspecified, nor an
    IPv6 address that stands for such an IPv4 address. False for what is no address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, IPv6Address):
        inner = _inside(ip)
        if inner is None:
            return (
                ip in _UNICAST
                and ip.is_global
                and not ip.is_multicast
                and not any(ip in network for network in _REFUSED6)
            )
        ip = inner
    return (
        ip.is_global
        and not ip.is_multicast
        and not ip.is_reserved
        and not any(ip in network for network in _REFUSED4)
    )


def _inside(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that is reached by this IPv6 address."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return None
