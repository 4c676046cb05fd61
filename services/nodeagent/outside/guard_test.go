package outside

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/firewallguard"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
)

// slice is an EndpointSlice with these addresses at port 80.
func slice(addresses ...string) *servicelbv1.EndpointSlice {
	return &servicelbv1.EndpointSlice{
		Endpoints: []*servicelbv1.Endpoint{{Addresses: addresses}},
		Ports:     []*servicelbv1.EndpointPort{{Protocol: servicelbv1.Protocol_PROTOCOL_TCP, Port: 80}},
	}
}

// complete is a state in multitenant mode, of which nothing is missing.
func complete(t *testing.T) *intent.State {
	t.Helper()
	state := intent.NewState("node1", true)
	_, err1 := state.SetClusterNetwork(&ipamv1.ClusterNetwork{
		Name: "default", Networks: []*ipamv1.ClusterNetworkEntry{{Cidr: "10.128.0.0/14"}}, ServiceNetworks: []string{"172.30.0.0/16"},
	})
	_, err2 := state.SetHostSubnet(&ipamv1.HostSubnet{Name: "node1", HostIps: []string{"192.0.2.11"}, Subnets: []string{"10.130.0.0/23"}})
	_, err3 := state.SetIsolation(&tenancyv1.Isolation{Mode: tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT})
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return state
}

// guarded is a node with one pod, red/a, and a guard of its services.
func guarded(t *testing.T) (*netnstest.Namespace, *intent.State, *Guard) {
	t.Helper()
	proctest.Need(t, "nft")
	ns := netnstest.New(t, "node")
	guard, err := firewallguard.Open(ns.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = guard.Close() })
	if _, err := guard.Ensure(t.Context(), firewallguard.Config{Pods: netip.MustParsePrefix("10.130.0.0/23")}); err != nil {
		t.Fatal(err)
	}
	state := complete(t)
	state.FollowFirewalls()
	state.SetNetNamespace(&tenancyv1.NetNamespace{Name: "red", Netid: 42, Revision: 1})
	state.AddPod(intent.Pod{Namespace: "red", Name: "a", Sandbox: "a", Ifname: "eth0", IP: netip.MustParseAddr("10.130.0.5"), Port: 3})
	return ns, state, NewGuard(state, guard)
}

// TestTheGuardOfServicesFollowsTheRules changes rules, names and slices, and reads in the
// kernel which endpoints outside the namespace's pod may reach.
func TestTheGuardOfServicesFollowsTheRules(t *testing.T) {
	ns, state, g := guarded(t)
	revision := uint64(0)
	firewall := func(denied ...*egressv1.EgressRule) {
		t.Helper()
		for _, r := range denied {
			r.Type = egressv1.RuleType_RULE_TYPE_DENY
		}
		revision++
		if _, err := state.SetFirewall("red", revision, []*egressv1.EgressNetworkPolicy{{Namespace: "red", Name: "a", Rules: denied}}); err != nil {
			t.Fatal(err)
		}
	}
	resolved := func(address string) {
		t.Helper()
		revision++
		name := &egressv1.DNSName{Name: "a.example", Addresses: []string{address}, State: egressv1.NameState_NAME_STATE_RESOLVED, Revision: revision}
		if _, err := state.SetDNSName(name); err != nil {
			t.Fatal(err)
		}
	}
	network := func(cidr string) *egressv1.EgressRule { return &egressv1.EgressRule{CidrSelector: cidr} }
	const seven, eight, nine = "203.0.113.7", "203.0.113.8", "203.0.113.9"
	for _, step := range []struct {
		name   string
		change func()
		may    string // the last numbers of whom the pod may reach, or "free"
	}{
		{"rules that are not known yet", func() { g.SliceChanged("s", slice(seven, eight)) }, ""},
		{"one is denied", func() { firewall(network(eight + "/32")) }, "7"},
		{"the other is", func() { firewall(network(seven + "/32")) }, "8"},
		{"an endpoint comes", func() { g.SliceChanged("s", slice(seven, eight, nine)) }, "89"},
		{"both, by two rules", func() { firewall(network(seven+"/32"), network(eight+"/32")) }, "9"},
		{"a name is denied", func() { firewall(&egressv1.EgressRule{DnsName: "a.example"}); resolved(seven) }, "89"},
		{"the name has another address", func() { resolved(nine) }, "78"},
		{"an endpoint goes", func() { g.SliceChanged("s", slice(eight)) }, "8"},
		{"no rules", func() { firewall() }, "free"},
		{"all is denied", func() { firewall(network("0.0.0.0/0")) }, ""},
		{"nobody has endpoints outside", func() { firewall(network(eight + "/32")); g.SliceChanged("s", nil) }, ""},
	} {
		step.change()
		for range 2 { // The second time nothing has changed.
			if err := g.Sync(t.Context()); err != nil {
				t.Fatal(err)
			}
			if may := reachable(t, ns); may != step.may {
				t.Errorf("%s: the pod may reach %q, want %q", step.name, may, step.may)
			}
		}
	}
}

// reachable reads from the kernel whom the pod 10.130.0.5 may reach.
func reachable(t *testing.T, ns *netnstest.Namespace) string {
	t.Helper()
	if strings.Contains(ns.Run(t, "nft", "list set ip damask_firewall free"), "10.130.0.5") {
		return "free"
	}
	if !strings.Contains(ns.Run(t, "nft", "list map ip damask_firewall pods"), "10.130.0.5 : goto fw-red") {
		return "not judged"
	}
	allowed, may := ns.Run(t, "nft", "list set ip damask_firewall allowed-red"), ""
	for _, last := range []string{"7", "8", "9"} {
		if strings.Contains(allowed, "203.0.113."+last+" ") {
			may += last
		}
	}
	return may
}

// TestNodePortsThatLeadOutsideAreJudgedByWhereTheyLead changes a service, what it leads to and
// nodes, and reads in the kernel which node ports of other nodes the namespace's pod may reach.
func TestNodePortsThatLeadOutsideAreJudgedByWhereTheyLead(t *testing.T) {
	ns, state, g := guarded(t)
	denied := []*egressv1.EgressRule{{Type: egressv1.RuleType_RULE_TYPE_DENY, CidrSelector: "203.0.113.8/32"}}
	if _, err := state.SetFirewall("red", 1, []*egressv1.EgressNetworkPolicy{{Namespace: "red", Name: "a", Rules: denied}}); err != nil {
		t.Fatal(err)
	}
	node := func(name, ip, subnet string) {
		t.Helper()
		if _, err := state.SetHostSubnet(&ipamv1.HostSubnet{Name: name, HostIps: []string{ip}, Subnets: []string{subnet}}); err != nil {
			t.Fatal(err)
		}
	}
	leads := func(addresses ...string) {
		s := slice(addresses...)
		s.Endpoints = nil
		for _, a := range addresses {
			s.Endpoints = append(s.Endpoints, &servicelbv1.Endpoint{Addresses: []string{a}})
		}
		s.Namespace, s.ServiceName = "default", "out"
		g.SliceChanged("default/out-1", s)
	}
	listens := func(nodePort uint32) {
		g.ServiceChanged("default/out", &servicelbv1.Service{
			Namespace: "default", Name: "out", Ports: []*servicelbv1.ServicePort{{Protocol: servicelbv1.Protocol_PROTOCOL_TCP, Port: 80, NodePort: nodePort}},
		})
	}
	for _, step := range []struct {
		name         string
		change       func()
		judged, open string // node ports that are judged, and that the pod may reach at which nodes
	}{
		{"no nodes", func() { listens(30001); leads("203.0.113.7") }, "30001", ""},
		{"a node", func() { node("infra", "192.0.2.13", "10.129.0.0/23") }, "30001", "192.0.2.13 . tcp . 30001"},
		{"a denied endpoint", func() { leads("203.0.113.8") }, "30001", ""},
		{"one of two is denied", func() { leads("203.0.113.7", "203.0.113.8") }, "30001", ""},
		{"pods and nodes", func() { leads("10.131.0.7", "192.0.2.11", "192.0.2.13") }, "", ""},
		{"another port", func() { leads("203.0.113.7"); listens(30002) }, "30002", "192.0.2.13 . tcp . 30002"},
		{"another node", func() { node("more", "192.0.2.14", "10.131.2.0/23") }, "30002", "192.0.2.13 . tcp . 30002, 192.0.2.14 . tcp . 30002"},
		{"a node less", func() { state.DeleteHostSubnet("infra") }, "30002", "192.0.2.14 . tcp . 30002"},
		{"no port", func() { listens(0) }, "", ""},
	} {
		step.change()
		if err := g.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		elements := func(set string) string {
			_, list, _ := strings.Cut(strings.Join(strings.Fields(ns.Run(t, "nft", "list set ip damask_firewall "+set)), " "), "elements = { ")
			list, _, _ = strings.Cut(list, " }")
			return list
		}
		var open []string
		for e := range strings.SplitSeq(elements("allowed-red"), ", ") {
			if strings.HasPrefix(e, "192.0.2.") && !strings.HasSuffix(e, " 80") {
				open = append(open, e)
			}
		}
		slices.Sort(open)
		if judged, may := strings.TrimPrefix(elements("ports"), "tcp . "), strings.Join(open, ", "); judged != step.judged || may != step.open {
			t.Errorf("%s: judged is %q, open %q; want %q and %q", step.name, judged, may, step.judged, step.open)
		}
	}
}
