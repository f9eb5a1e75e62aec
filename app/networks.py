"""Which IP addresses are the public Internet's. Used where an address is named and again where it is contacted."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_UNICAST = IPv6Network("2000::/3")  # all that is handed out; mapped, compatible and site-local ones lie outside
_TRANSLATED = IPv6Network("64:ff9b::/96")  # how a network without IPv4 reaches IPv4 addresses (RFC 6052)
# What Python counts as global although it leads elsewhere: tunnels to IPv4 (6to4, its relays), documentation, and
# Azure's address for what a virtual machine may ask its host.
_ELSEWHERE = (IPv6Network("2002::/16"), IPv6Network("3fff::/20"))
_ELSEWHERE_4 = (IPv4Network("192.88.99.0/24"), IPv4Network("192.0.0.0/24"), IPv4Network("168.63.129.16/32"))


def is_loopback(host: str) -> bool:
    """Return whether a host, by address or name, is this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_public(address: str) -> bool:
    """Return whether an IP address is globally reachable, looking through IPv4 inside IPv6; raises ValueError."""
    parsed = ip_address(address.partition("%")[0])
    if isinstance(parsed, IPv4Address):
        return _is_public_4(parsed)
    inner = _inside(parsed)
    if inner is not None:
        return _is_public_4(inner)
    return parsed in _UNICAST and parsed.is_global and not any(parsed in network for network in _ELSEWHERE)


def _is_public_4(address: IPv4Address) -> bool:
    elsewhere = any(address in network for network in _ELSEWHERE_4)
    return address.is_global and not address.is_multicast and not elsewhere


def _inside(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that is really contacted through this one."""
    if address in _TRANSLATED:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped
