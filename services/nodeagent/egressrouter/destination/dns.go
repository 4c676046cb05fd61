package destination

import (
	"net/netip"
	"strconv"
	"strings"
)

// Forward leads one TCP port of a pod to a destination.
type Forward struct {
	// Port of the pod, 1 to 65535.
	Port uint16
	// Addr is the destination's address, Name its name if that is how it is given.
	Addr netip.Addr
	Name string
	// ToPort is the destination's port.
	ToPort uint16
}

// ParseDNS reads EGRESS_DNS_PROXY_DESTINATION: lines PORT NAME [PORT], with an IPv4 address for
// the name if wanted. No two may have the same port of the pod. Empty lines and those
// that begin with # are left out.
func ParseDNS(text string) ([]Forward, Problems) {
	var forwards []Forward
	var p Problems
	taken := map[uint16]line{}
	for _, l := range lines(text, &p) {
		fields := strings.Fields(l.text)
		if len(fields) < 2 || len(fields) > 3 {
			p.addf("%v: %q is not PORT DESTINATION, with or without a port of the destination", l, l.text)
			continue
		}
		f := Forward{Port: p.port(l, fields[0])}
		if addr, err := netip.ParseAddr(fields[1]); err == nil && addr.Is4() && !addr.IsUnspecified() && !addr.IsLoopback() && !addr.IsMulticast() {
			f.Addr = addr
		} else if f.Name = HostName(fields[1]); f.Name == "" {
			p.addf("%v: %q is no name and no IPv4 address of a host", l, fields[1])
		}
		if f.ToPort = f.Port; len(fields) == 3 {
			f.ToPort = p.port(l, fields[2])
		}
		if first, again := taken[f.Port]; again && f.Port != 0 {
			p.addf("%v: port %d is that of %v already", l, f.Port, first)
		}
		taken[f.Port] = l
		forwards = append(forwards, f)
	}
	if len(p) > 0 {
		return nil, p
	}
	return forwards, nil
}

func (p *Problems) port(l line, text string) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		p.addf("%v: %q is not a port: 1 to 65535", l, text)
		return 0
	}
	return uint16(n)
}
