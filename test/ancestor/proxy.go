package ancestor

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"strings"
)

// The agent had kube-proxy in its process, in the mode iptables: local is what comes by
// tun0. Here are its chains for services of the plain kind, with names, marks and order
// as it writes them. Its jumps are on top, before those of the pod network.

// Service is a port of a service, by one protocol.
type Service struct {
	// Name is NAMESPACE/NAME:PORT.
	Name string
	// Protocol is tcp or udp.
	Protocol string
	// Address is the cluster IP and the port.
	Address netip.AddrPort
	// NodePort is the port on every node; 0: none.
	NodePort uint16
	// Backends are where it leads.
	Backends []netip.AddrPort
}

// chain is the name of one of its chains.
func (s Service) chain(kind, of string) string {
	sum := sha256.Sum256([]byte(s.Name + s.Protocol + of))
	return "KUBE-" + kind + "-" + base32.StdEncoding.EncodeToString(sum[:])[:16]
}

// proxyNAT and proxyFilter are what there is without services.
const (
	proxyNAT = `*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-PROXY-CANARY - [0:0]
-I PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x1/0x1 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x1
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --or-mark 0x1
`
	proxyFilter = `*filter
:KUBE-SERVICES - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-PROXY-CANARY - [0:0]
-I INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-I INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-I INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-I FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-I OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x1/0x1 -j ACCEPT
-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
`
	nodePortsLast = `-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
`
)

// rules are a service's in table nat.
func (s Service) rules() string {
	var text strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&text, format+"\n", args...) }
	svc, ext, p := s.chain("SVC", ""), s.chain("EXT", ""), s.Protocol
	at := fmt.Sprintf(`-d %s/32 -p %s -m comment --comment "%s cluster IP" -m %s --dport %d`, s.Address.Addr(), p, s.Name, p, s.Address.Port())
	line(":%s - [0:0]", svc)
	line("-A KUBE-SERVICES %s -j %s", at, svc)
	if s.NodePort != 0 {
		line(":%s - [0:0]", ext)
		line("-A KUBE-NODEPORTS -p %s -m comment --comment %s -m %s --dport %d -j %s", p, s.Name, p, s.NodePort, ext)
		line(`-A %s -m comment --comment "masquerade traffic for %s external destinations" -j KUBE-MARK-MASQ`, ext, s.Name)
		line("-A %s -j %s", ext, svc)
	}
	line("-A %s ! -i tun0 %s -j KUBE-MARK-MASQ", svc, at)
	for i, b := range s.Backends {
		sep := s.chain("SEP", b.String())
		random := ""
		if left := len(s.Backends) - i; left > 1 {
			random = fmt.Sprintf("-m statistic --mode random --probability %.10f ", 1/float64(left))
		}
		line(":%s - [0:0]", sep)
		line(`-A %s -m comment --comment "%s -> %s" %s-j %s`, svc, s.Name, b, random, sep)
		line("-A %s -s %s/32 -m comment --comment %s -j KUBE-MARK-MASQ", sep, b.Addr(), s.Name)
		line("-A %s -p %s -m comment --comment %s -m %s -j DNAT --to-destination %s", sep, p, s.Name, p, b)
	}
	return text.String()
}

// proxy writes the rules of all services.
func (n *node) proxy(ctx context.Context) error {
	if len(n.Services) == 0 {
		return nil
	}
	text := proxyNAT
	for _, s := range n.Services {
		text += s.rules()
	}
	_, err := command(ctx, text+nodePortsLast+"COMMIT\n"+proxyFilter, "iptables-restore", "-w", "5", "--noflush")
	return err
}
