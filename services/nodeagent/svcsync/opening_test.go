package svcsync

import (
	"reflect"
	"slices"
	"testing"

	"github.com/damask-sdn/damask/internal/proctest"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// The switch hears of a service's node ports when they come, change and go, also when
// its cluster IP stays as it is, and of one that two services want from its holder alone.
func TestTheSwitchHearsOfNodePorts(t *testing.T) {
	proctest.Need(t, "nft")
	r := newRig(t, "nftables")
	at := func(port uint32) func(*servicelbv1.Service) {
		return func(s *servicelbv1.Service) {
			s.Type, s.Ports[0].NodePort = servicelbv1.ServiceType_SERVICE_TYPE_NODE_PORT, port
		}
	}
	has := func(name string, want ...OpenPort) {
		t.Helper()
		open := r.board.open[nameOf(name)]
		if !slices.Equal(open.NodePorts, want) || !reflect.DeepEqual(open.Ports, []OpenPort{{proxy.TCP, 80}}) {
			t.Errorf("the switch has %+v of %s, want node ports %v", open, name, want)
		}
	}
	r.put(service("web", "172.30.0.1"))
	r.start().settled()
	has("shop/web")
	r.put(service("web", "172.30.0.1", at(30080)))
	r.settled()
	has("shop/web", OpenPort{proxy.TCP, 30080})
	r.put(service("web", "172.30.0.1", at(30081)))
	r.settled()
	has("shop/web", OpenPort{proxy.TCP, 30081})
	r.refused = map[string]bool{"shop/api": true}
	r.put(service("api", "172.30.0.2", at(30081)))
	r.settled()
	has("shop/web", OpenPort{proxy.TCP, 30081})
	has("shop/api")
	r.refused = nil
	r.put(service("web", "172.30.0.1"))
	r.settled()
	has("shop/web")
	has("shop/api", OpenPort{proxy.TCP, 30081})
	r.removeService("shop/api")
	r.settled()
	if _, open := r.board.open[nameOf("shop/api")]; open {
		t.Error("the switch still has shop/api")
	}
}

// Both policies Local make a port two entries: the cluster IP is of the one, the node
// port of the other.
func TestAnOpeningJoinsTheEntriesOfAPort(t *testing.T) {
	inside := entry("web", "172.30.0.1")
	outside := inside
	outside.PortName, outside.ClusterIPs, outside.NodePort = "http.outside", nil, 30080
	var o Opening
	o.add(inside)
	o.add(outside)
	want := Opening{ClusterIPs: inside.ClusterIPs, Ports: []OpenPort{{proxy.TCP, 80}}, NodePorts: []OpenPort{{proxy.TCP, 30080}}}
	if !o.equal(want) || o.empty() {
		t.Errorf("got %+v, want %+v", o, want)
	}
	if o.equal(Opening{ClusterIPs: want.ClusterIPs, Ports: want.Ports}) {
		t.Error("without its node port it is the same")
	}
	var alone Opening
	alone.add(outside)
	if alone.empty() {
		t.Error("a node port alone is nothing to open")
	}
}
