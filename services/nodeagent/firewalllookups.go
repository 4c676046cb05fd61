package nodeagent

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/miekg/dns"
)

// resolvConf names the DNS servers of pods where the configuration does not.
const resolvConf = "/etc/resolv.conf"

// listen has the answers of the DNS servers of pods copied.
func (f *firewalls) listen() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listens = true
	f.tell(f.state.FollowLookups(f.servers))
}

// ask says whom pods ask for names from now on, as configured.
func (f *firewalls) ask(configured []netip.AddrPort) {
	servers, err := dnsServers(configured, resolvConf)
	if err != nil {
		f.log.Warn("answers of other DNS servers are not read, those of before are", "error", err)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.servers = servers; f.listens {
		f.tell(f.state.FollowLookups(servers))
	}
}

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
