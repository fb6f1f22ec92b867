import pytest

from api.avatars.addresses import is_public


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_public_addresses(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        # this network, private, loopback, link-local, shared
        *("0.0.0.0", "0.1.2.3", "10.0.0.1", "127.0.0.1", "127.8.8.8", "169.254.169.254"),
        *("172.16.0.1", "172.31.255.255", "192.168.0.1", "100.64.0.1", "100.127.255.255"),
        # protocol assignments, documentation, benchmarks, relays, multicast, reserved, broadcast
        *("192.0.0.1", "192.0.0.9", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1"),
        *("192.88.99.1", "224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255"),
        # the same in IPv6
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd12:3456::1"),
        *("ff02::1", "ff0e::1", "2001:db8::1", "3fff::1", "100::1", "5f00::1", "4000::1"),
        # IPv4 inside IPv6: mapped, compatible, NAT64, 6to4, Teredo
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "2002:7f00:1::1"),
        *("2002:808:808::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "::ffff:0:7f00:1"),
        # no addresses
        *("", "localhost", "2130706433", "127.1", "8.8.8.8:80", "[::1]"),
    ],
)
def test_addresses_nobody_outside_may_reach_through_us(address):
    assert not is_public(address)
