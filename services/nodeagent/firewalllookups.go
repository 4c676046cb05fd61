package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/miekg/dns"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// resolvConf names the DNS servers of pods where the configuration does not.
const resolvConf = "/etc/resolv.conf"

// dnsServers answers whom pods ask: those configured, or those of the file, which is what
// Kubernetes gives to pods with dnsPolicy Default. Those of the file that no pod can
// reach, at loopback, are left out.
func dnsServers(configured []netip.AddrPort, file string) ([]netip.AddrPort, error) {
	if len(configured) > 0 {
		return configured, nil
	}
	read, err := dns.ClientConfigFromFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the names of DNS servers: %w", err)
	}
	var servers []netip.AddrPort
	for _, text := range read.Servers {
		if addr, err := netip.ParseAddr(text); err == nil && addr.Is4() && !addr.IsLoopback() {
			servers = append(servers, netip.AddrPortFrom(addr, 53))
		}
	}
	return servers, nil
}

// followLookups has answers to look-ups copied, if the switch can bound the copies. It is
// called before the switch is compared first.
func (f *firewalls) followLookups(ctx context.Context) error {
	can, err := f.metered(ctx)
	if err != nil {
		return err
	}
	if !can {
		f.log.Error("names below wildcards are not allowed on this node: its switch has no meters, and nothing would bound the copies of answers")
		return nil
	}
	f.state.FollowLookups(f.servers)
	return nil
}

// copied takes a copy of a packet from the switch. Only flows for look-ups make any.
func (a *agent) copied(p openflow.PacketIn) {
	if a.firewalls != nil {
		a.firewalls.lookups.Answer(p.Packet)
	}
}
