package proxytest

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// Maker makes a new engine value, as the start of an agent does. It is called in the
// node's network namespace, and may be called several times for one node.
type Maker func(t testing.TB, node proxy.Node) proxy.Engine

// Addresses of the rig.
const (
	nodeOnTun0   = "10.130.0.1"
	nodeOutside  = "192.0.2.1"
	webAddress   = "10.130.0.10"
	apiAddress   = "10.130.0.11"
	clientAddr   = "10.130.0.20"
	outsideAddr  = "192.0.2.10"
	strangerAddr = "192.0.2.11"
	clusterIP    = "172.30.0.10"
	externalIP   = "198.51.100.7"
	balancerIP   = "198.51.100.9"
)

// rig is one node with two pods that serve, a pod that asks, and a host outside with
// two addresses.
type rig struct {
	node, web, api, client, outside *netnstest.Namespace
	settings                        proxy.Node
	make                            Maker
	engine                          proxy.Engine
}

// settings are those of the node that the rig models.
func settings() proxy.Node {
	return proxy.Node{ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}, Pods: netip.MustParsePrefix("10.130.0.0/23")}
}

// newRig makes the network and an engine that has done nothing yet.
func newRig(t *testing.T, maker Maker) *rig {
	t.Helper()
	proctest.Need(t, "ip", "nft", "iptables-nft", "iptables-legacy", "sysctl")
	r := &rig{
		node: netnstest.New(t, "node"), web: netnstest.New(t, "web"), api: netnstest.New(t, "api"),
		client: netnstest.New(t, "client"), outside: netnstest.New(t, "outside"),
		settings: settings(), make: maker,
	}
	// No limit for ICMP: a test counts refusals, faster than a node sends them.
	script(t, r.node, `
		ip link add tun0 type bridge
		ip address add 10.130.0.1/23 dev tun0
		ip link set tun0 up
		ip route add 172.30.0.0/16 dev tun0
		for s in ip_forward=1 conf.all.rp_filter=0 conf.default.rp_filter=0 conf.all.send_redirects=0 \
			conf.default.send_redirects=0 conf.tun0.send_redirects=0 conf.tun0.rp_filter=0 icmp_ratelimit=0; do
			sysctl -q -w net.ipv4.$s
		done
		if test -e /proc/sys/net/bridge/bridge-nf-call-iptables; then sysctl -q -w net.bridge.bridge-nf-call-iptables=0; fi`)
	r.pod(t, r.web, "web", webAddress)
	r.pod(t, r.api, "api", apiAddress)
	r.pod(t, r.client, "client", clientAddr)
	r.node.Connect(t, "eth0", r.outside, "eth0")
	// The way to all other networks leads to nobody: what no service takes is lost.
	script(t, r.node, "ip address add 192.0.2.1/24 dev eth0; ip link set eth0 up; ip route add default via 192.0.2.254")
	script(t, r.outside, `
		ip address add 192.0.2.10/24 dev eth0
		ip address add 192.0.2.11/24 dev eth0
		ip link set eth0 up
		ip route add default via 192.0.2.1`)
	r.serve(t, r.web, "web", 8080)
	r.serve(t, r.web, "web-2", 8081)
	r.serve(t, r.api, "api", 8080)
	r.restart(t)
	return r
}

// pod connects a namespace to tun0. Its address is a /32, so that what it sends to
// another pod passes the node's hooks.
func (r *rig) pod(t *testing.T, ns *netnstest.Namespace, name, address string) {
	t.Helper()
	r.node.Connect(t, "veth-"+name, ns, "eth0")
	script(t, r.node, "ip link set veth-"+name+" master tun0 up")
	script(t, ns, "ip address add "+address+`/32 dev eth0
		ip link set eth0 up
		ip route add 10.130.0.1 dev eth0
		ip route add default via 10.130.0.1`)
}

// script runs shell lines in a namespace; the first that fails, fails the test.
func script(t testing.TB, ns *netnstest.Namespace, lines string) {
	t.Helper()
	ns.Run(t, "sh", "-e", "-c", lines)
}

// restart makes a new engine, as a restarted agent does.
func (r *rig) restart(t *testing.T) {
	t.Helper()
	r.node.Do(t, func() { r.engine = r.make(t, r.settings) })
}

// sync runs Sync on the node.
func (r *rig) sync(t *testing.T, services ...proxy.Service) proxy.Changes {
	t.Helper()
	var changes proxy.Changes
	var err error
	r.node.Do(t, func() { changes, err = r.engine.Sync(t.Context(), stateOf(services...)) })
	if err != nil {
		t.Fatalf("Sync: %v", err)
	}
	return changes
}

// apply runs Apply on the node: the services shall be so.
func (r *rig) apply(t *testing.T, services ...proxy.Service) {
	t.Helper()
	var changes []proxy.Change
	for _, s := range services {
		changes = append(changes, proxy.Change{Key: s.Key, Service: &s})
	}
	r.change(t, changes...)
}

// change runs Apply on the node.
func (r *rig) change(t *testing.T, changes ...proxy.Change) {
	t.Helper()
	var err error
	r.node.Do(t, func() { err = r.engine.Apply(t.Context(), changes...) })
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
}

// cleanup runs Cleanup on the node.
func (r *rig) cleanup(t *testing.T) {
	t.Helper()
	var err error
	r.node.Do(t, func() { err = r.engine.Cleanup(t.Context()) })
	if err != nil {
		t.Fatalf("Cleanup: %v", err)
	}
}

// ruleset answers every rule on the node, of nftables and of both kinds of iptables,
// without counters.
func (r *rig) ruleset(t *testing.T) string {
	t.Helper()
	var text strings.Builder
	text.WriteString(r.node.Run(t, "nft", "--stateless", "list", "ruleset"))
	for _, line := range strings.Split(r.node.Run(t, "iptables-legacy-save"), "\n") {
		if strings.HasPrefix(line, "#") {
			continue // it holds the time of day
		}
		line, _, _ = strings.Cut(line, " [") // counters of a chain
		text.WriteString(line + "\n")
	}
	return text.String()
}

// handles answers the nftables ruleset with the handles of its rules: a rule that was
// written again has a new one.
func (r *rig) handles(t *testing.T) string {
	t.Helper()
	return r.node.Run(t, "nft", "--stateless", "--handle", "list", "ruleset")
}

// stateOf files services under their keys.
func stateOf(services ...proxy.Service) proxy.State {
	state := proxy.State{}
	for _, s := range services {
		state[s.Key] = s
	}
	return state
}

// addrs parses addresses.
func addrs(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

// backends parses "10.130.0.10:8080". Those of the rig's pods are local.
func backends(texts ...string) []proxy.Backend {
	pods := netip.MustParsePrefix("10.130.0.0/23")
	var all []proxy.Backend
	for _, text := range texts {
		a := netip.MustParseAddrPort(text)
		all = append(all, proxy.Backend{Addr: a.Addr(), Port: a.Port(), Local: pods.Contains(a.Addr())})
	}
	return all
}

// service is a service that has each kind of address, with the backends in both lists.
func service(protocol proxy.Protocol, to ...string) proxy.Service {
	return proxy.Service{
		Key:             proxy.Key{Namespace: "shop", Name: "web", PortName: "http", Protocol: protocol},
		ClusterIPs:      addrs(clusterIP),
		Port:            80,
		NodePort:        30080,
		ExternalIPs:     addrs(externalIP),
		LoadBalancerIPs: addrs(balancerIP),
		ClusterBackends: backends(to...), ExternalBackends: backends(to...),
	}
}

// The backends of the rig's servers.
const (
	toWeb  = webAddress + ":8080"
	toWeb2 = webAddress + ":8081"
	toAPI  = apiAddress + ":8080"
)
