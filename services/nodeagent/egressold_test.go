package nodeagent

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/egressguard"
	"github.com/damask-sdn/damask/services/nodeagent/egressnode"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

// TestAnAgentWithoutEgressTakesAwayWhatOneWithItLeft also asks one on a node that never
// had any.
func TestAnAgentWithoutEgressTakesAwayWhatOneWithItLeft(t *testing.T) {
	proctest.Need(t, "iptables", "nft")
	ns := netnstest.New(t, "node")
	ns.Run(t, "sh", "-e", "-c", "ip link add eth0 type bridge; ip address add 192.0.2.11/24 dev eth0; ip link set eth0 up")
	node, networks := netip.MustParseAddr("192.0.2.11"), []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}
	all := func() string {
		return ns.Run(t, "iptables", "-t", "nat", "-S") + ns.Run(t, "iptables", "-S") + ns.Run(t, "ip", "-4", "address", "show", "eth0") + ns.Run(t, "nft", "list", "tables")
	}
	rules := func() (r *masquerade.Rules) {
		ns.Do(t, func() {
			var err error
			if r, err = masquerade.New(); err == nil {
				_, err = r.Ensure(t.Context(), masquerade.Config{ClusterNetworks: networks, TunnelPort: 4789})
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		return r
	}
	takeAway := func(r *masquerade.Rules) (repairs []string) {
		var err error
		ns.Do(t, func() { repairs, err = clearEgress(t.Context(), ns.Path(), node, r, hclog.NewNullLogger()) })
		if err != nil {
			t.Fatal(err)
		}
		return repairs
	}
	first := rules()
	never := all()
	if repairs := takeAway(first); len(repairs) > 0 || all() != never {
		t.Errorf("a node that never had any: %q", repairs)
	}
	ip := masquerade.EgressIP{Mark: 42, IP: netip.MustParseAddr("192.0.2.100")}
	guard, err := egressguard.Open(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	holder, err := egressnode.Open(egressnode.Config{Namespace: ns.Path(), NodeIP: node}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	ns.Do(t, func() { _, err = first.SetEgress(t.Context(), []masquerade.EgressIP{ip}) })
	if err == nil {
		_, err = guard.Ensure(t.Context(), egressguard.Config{ClusterNetworks: networks})
	}
	if err == nil {
		_, err = guard.Set(t.Context(), []masquerade.EgressIP{ip}, nil)
	}
	if err == nil {
		_, err = holder.Hold(t.Context(), []netip.Addr{ip.IP})
	}
	if err != nil || !strings.Contains(all(), "192.0.2.100") {
		t.Fatalf("%v\n%s", err, all())
	}
	second := rules()
	if repairs := takeAway(second); len(repairs) != 4 || all() != never {
		t.Errorf("repairs %q, left\n%s\nwant\n%s", repairs, all(), never)
	}
	if repairs := takeAway(second); len(repairs) > 0 {
		t.Errorf("and again %q", repairs)
	}
}

// TestConnectionsWithAnOldAddressAreForgotten has three of a pod: by the node's address, by
// its egress IP, and to another pod by the gateway's; and one of another namespace.
func TestConnectionsWithAnOldAddressAreForgotten(t *testing.T) {
	proctest.Need(t, "conntrack")
	ns := netnstest.New(t, "node")
	guard, err := egressguard.Open(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	state := complete(t)
	for namespace, vnid := range map[string]uint32{"red": 42, "blue": 43} {
		state.SetNetNamespace(&tenancyv1.NetNamespace{Name: namespace, Netid: vnid})
	}
	state.AddPod(podOfNamespace(0, "red"))
	state.AddPod(podOfNamespace(1, "blue"))
	for _, c := range []struct{ from, to, translated, port string }{
		{"10.130.0.5", "192.0.2.99", "192.0.2.11", "1000"}, {"10.130.0.5", "192.0.2.97", "192.0.2.100", "1000"},
		{"10.130.0.5", "10.131.0.7", "10.130.0.1", "1000"}, {"10.130.0.6", "192.0.2.99", "192.0.2.11", "2000"},
		{"10.130.0.5", "192.0.2.98", "10.130.0.5", "1000"},
	} {
		ns.Run(t, "conntrack", "-I", "-p", "udp", "-s", c.from, "-d", c.to, "-r", c.to, "-q", c.translated,
			"--sport", "1000", "--dport", "53", "--reply-port-src", "53", "--reply-port-dst", c.port, "--timeout", "100")
	}
	e := &egress{node: "node1", state: state, guard: guard, wait: func(context.Context, intent.Object, uint64) (bool, uint64, error) { return true, 1, nil }}
	if err := e.forgetTranslations(t.Context(), changedWay{"red", 1, []netip.Addr{netip.MustParseAddr("192.0.2.100")}}); err != nil {
		t.Fatal(err)
	}
	left := ns.Run(t, "conntrack", "-L")
	if strings.Count(left, "udp ") != 4 || strings.Contains(left, "src=10.130.0.5 dst=192.0.2.99 sport=1000 dport=53 [UNREPLIED] src=192.0.2.99 dst=192.0.2.11 ") {
		t.Errorf("left are\n%s", left)
	}
}
