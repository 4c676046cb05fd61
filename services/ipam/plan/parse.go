package plan

import (
	"fmt"
	"net/netip"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/ipam/subnet"
)

// Report is told of each thing that is wrong: the field's path in the message
// and a reason.
type Report func(field, format string, args ...any)

// reserved are ranges that can be no pod's and no service's.
var reserved = []struct {
	prefix netip.Prefix
	use    string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "\"this network\""},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
}

// Parse reads a plan from a message and reports everything that is wrong with
// it. The plan is to be used only if nothing was reported.
func Parse(m *ipamv1.ClusterNetwork, report Report) Plan {
	if name := m.GetName(); name != "" && name != Name {
		report("name", "%q must be %q: there is one plan", name, Name)
	}
	p := Plan{Tunnel: parseTunnel(m.GetTunnel(), report), MTU: m.GetMtu()}
	if p.MTU != 0 && (p.MTU < minMTU || p.MTU > maxMTU) {
		report("mtu", "%d is not within %d to %d, nor 0", p.MTU, minMTU, maxMTU)
	}
	var all parsedPrefixes
	if len(m.GetNetworks()) == 0 {
		report("networks", "at least one is required")
	}
	for i, entry := range m.GetNetworks() {
		p.parseRange(entry, fmt.Sprintf("networks[%d]", i), &all, report)
	}
	if len(m.GetServiceNetworks()) == 0 {
		report("service_networks", "at least one is required")
	}
	for i, text := range m.GetServiceNetworks() {
		field := fmt.Sprintf("service_networks[%d]", i)
		if prefix, ok := parsePrefix(text, field, report); ok {
			p.Services = append(p.Services, prefix)
			all.add(field, prefix)
		}
	}
	all.check(report)
	return p
}

func (p *Plan) parseRange(entry *ipamv1.ClusterNetworkEntry, field string, all *parsedPrefixes, report Report) {
	prefix, ok := parsePrefix(entry.GetCidr(), field+".cidr", report)
	length := entry.GetHostSubnetLength()
	if length < subnet.MinHostBits || length > subnet.MaxHostBits {
		report(field+".host_subnet_length", "%d is not within %d to %d", length, subnet.MinHostBits, subnet.MaxHostBits)
		ok = false
	}
	if !ok {
		return
	}
	all.add(field+".cidr", prefix)
	r, err := subnet.NewRange(prefix, int(length))
	if err != nil {
		report(field+".host_subnet_length", "%v", err)
		return
	}
	p.Ranges = append(p.Ranges, r)
}

func parsePrefix(text, field string, report Report) (netip.Prefix, bool) {
	prefix, err := netip.ParsePrefix(text)
	switch {
	case text == "":
		report(field, "required")
	case err != nil:
		report(field, "%q is not a range such as 10.128.0.0/14", text)
	case !prefix.Addr().Is4():
		report(field, "%q is not IPv4, the only family today", text)
	case prefix != prefix.Masked() || prefix.String() != text:
		report(field, "%q is not canonical: %q is", text, prefix.Masked())
	default:
		return prefix, true
	}
	return netip.Prefix{}, false
}

func parseTunnel(m *ipamv1.Tunnel, report Report) Tunnel {
	t := Tunnel{Type: m.GetType(), Port: m.GetPort()}
	defaultPort := uint32(portVXLAN)
	switch t.Type {
	case ipamv1.TunnelType_TUNNEL_TYPE_UNSPECIFIED, ipamv1.TunnelType_TUNNEL_TYPE_VXLAN:
		t.Type = ipamv1.TunnelType_TUNNEL_TYPE_VXLAN
	case ipamv1.TunnelType_TUNNEL_TYPE_GENEVE:
		defaultPort = portGeneve
	case ipamv1.TunnelType_TUNNEL_TYPE_GRE:
		if t.Port != 0 {
			report("tunnel.port", "%d: GRE has no port", t.Port)
		}
		return t
	default:
		report("tunnel.type", "%d is no tunnel type", t.Type)
	}
	if t.Port > 65535 {
		report("tunnel.port", "%d is not within 0 to 65535", t.Port)
	}
	if t.Port == 0 {
		t.Port = defaultPort
	}
	return t
}

// parsedPrefixes are all ranges of a plan with the fields that they are from.
type parsedPrefixes struct {
	fields   []string
	prefixes []netip.Prefix
}

func (a *parsedPrefixes) add(field string, prefix netip.Prefix) {
	a.fields = append(a.fields, field)
	a.prefixes = append(a.prefixes, prefix)
}

func (a *parsedPrefixes) check(report Report) {
	for _, pair := range subnet.Overlaps(a.prefixes) {
		report(a.fields[pair.Second], "%s overlaps %s of %s",
			a.prefixes[pair.Second], a.prefixes[pair.First], a.fields[pair.First])
	}
	for i, prefix := range a.prefixes {
		for _, r := range reserved {
			if prefix.Overlaps(r.prefix) {
				report(a.fields[i], "%s overlaps %s, which is for %s", prefix, r.prefix, r.use)
			}
		}
	}
}
