package svcsync

import (
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

func TestWhatANodeItselfGetsAtItsNodePorts(t *testing.T) {
	known := map[string]netip.Addr{"node2": netip.MustParseAddr("192.0.2.2")}
	of := func(node string) (netip.Addr, bool) {
		host, there := known[node]
		return host, there
	}
	at := func(node, address string) serviceview.Backend {
		return serviceview.Backend{Address: netip.MustParseAddrPort(address), Node: node, Local: node == here.Name}
	}
	here, other, another := at("node1", "10.130.0.1:8080"), at("node2", "10.131.0.1:8080"), at("node2", "10.131.0.2:8080")
	unknown, host, foreign := at("node9", "10.131.0.3:8080"), at("node2", "192.0.2.2:8080"), at("", "203.0.113.7:8080")
	for _, c := range []struct {
		name     string
		anywhere []serviceview.Backend
		nodePort uint16
		want     []string
	}{
		{"what is on another node is that node's node port, once for each", []serviceview.Backend{here, other, another}, 30080,
			[]string{"10.130.0.1:8080", "192.0.2.2:30080", "192.0.2.2:30080"}},
		{"also what is no pod, since that node has it at its node port", []serviceview.Backend{other, host}, 30080, []string{"192.0.2.2:30080", "192.0.2.2:30080"}},
		{"its own pods are as for everybody", []serviceview.Backend{here}, 30080, nil},
		{"who is on a node that is not known is, too", []serviceview.Backend{here, unknown}, 30080, nil},
		{"and beside others", []serviceview.Backend{other, unknown}, 30080, []string{"192.0.2.2:30080", "10.131.0.3:8080"}},
		{"who is on no node is not behind one", []serviceview.Backend{other, foreign}, 30080, []string{"192.0.2.2:30080", "203.0.113.7:8080"}},
		{"without a node port there is no other way", []serviceview.Backend{other}, 0, nil},
		{"nobody", nil, 30080, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := serviceview.View{Namespace: "shop", Name: "web", ExternalLocal: true, ExternalIPs: []netip.Addr{netip.MustParseAddr("198.51.100.1")}}
			v.Ports = []serviceview.Port{{Protocol: servicelbv1.Protocol_PROTOCOL_TCP, Port: 80, NodePort: c.nodePort, Internal: c.anywhere, Anywhere: c.anywhere, Any: true}}
			for _, internal := range []bool{false, true} {
				v.InternalLocal = internal
				entries := translate(v, false, of).entries
				var got []string
				for _, b := range entries[len(entries)-1].OwnBackends {
					got = append(got, netip.AddrPortFrom(b.Addr, b.Port).String())
				}
				if !slices.Equal(got, c.want) {
					t.Errorf("internal policy local: %t: got %v, want %v", internal, got, c.want)
				}
			}
			v.ExternalLocal = false
			if got := translate(v, false, of).entries[0].OwnBackends; got != nil {
				t.Errorf("with the policy Cluster it gets %v", got)
			}
		})
	}
}

// TestNodesThatComeAndGoChangeWhatANodeItselfGets: services do not change then.
func TestNodesThatComeAndGoChangeWhatANodeItselfGets(t *testing.T) {
	r := newRig(t, "nftables")
	var mu sync.Mutex
	known := map[string]netip.Addr{}
	set := func(address string) {
		mu.Lock()
		defer mu.Unlock()
		delete(known, "node2")
		if address != "" {
			known["node2"] = netip.MustParseAddr(address)
		}
	}
	r.config = func(c *Config) {
		c.Hosts = func(node string) (netip.Addr, bool) {
			mu.Lock()
			defer mu.Unlock()
			host, there := known[node]
			return host, there
		}
	}
	r.put(service("web", "172.30.0.1", func(s *servicelbv1.Service) {
		s.Type, s.Ports[0].NodePort = servicelbv1.ServiceType_SERVICE_TYPE_NODE_PORT, 30080
		s.ExternalTrafficPolicy = servicelbv1.TrafficPolicy_TRAFFIC_POLICY_LOCAL
	}), service("other", "172.30.0.2"))
	r.putSlices(slice("web", "web-1", "10.131.0.5"), slice("other", "other-1", "10.131.0.6"))
	r.start().settled()
	web := entry("web", "172.30.0.1", "10.131.0.5")
	web.NodePort, web.ExternalLocal = 30080, true
	other := entry("other", "172.30.0.2", "10.131.0.6")
	for _, address := range []string{"", "192.0.2.2", "192.0.2.3", ""} {
		set(address)
		r.NodesChanged()
		if _, err := r.Audit(soon(t)); err != nil {
			t.Fatal(err)
		}
		web.OwnBackends = nil
		if address != "" {
			web.OwnBackends = []proxy.Backend{{Addr: netip.MustParseAddr(address), Port: 30080}}
		}
		r.expectState(stateOf(web, other))
	}
}
