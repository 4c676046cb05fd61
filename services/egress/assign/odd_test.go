package assign

import (
	"testing"
	"time"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/egress/store"
)

// hostedAt checks which node has the only address of a namespace.
func (c *crowd) hostedAt(namespace, node string) {
	c.t.Helper()
	a := c.book.Namespace(namespace).Assignments["default"].GetAddresses()
	if len(a) != 1 || a[0].GetState() != egressv1.AddressState_ADDRESS_STATE_HOSTED || a[0].GetNode() != node {
		c.t.Errorf("%s is told %v, want it on %s", namespace, a, node)
	}
}

// TestAStoredOfferThatMakesNoSenseHarmsNobody has one that the API refuses: it is an older
// release's, or somebody else's. It is read when it comes, and when a replica begins.
func TestAStoredOfferThatMakesNoSenseHarmsNobody(t *testing.T) {
	c := newCrowd(t, 0)
	c.put(store.HostSubnets().Key("n007"), &egressv1.HostSubnetEgress{
		Node: "n007", EgressIps: []string{"y", "10.1.0.1"}, EgressCidrs: []string{"x", "10.0.0.0/33", "10.0.0.0", ""},
	})
	c.put(store.HostSubnets().Key("n008"), &egressv1.HostSubnetEgress{Node: "n008", EgressIps: []string{"10.1.0.2"}})
	c.bring(0)
	c.bring(1)
	c.decide()
	c.hostedAt("ns0", "n007") // what makes sense of it counts
	c.hostedAt("ns1", "n008")
	c.desk = newDesk(c.book, time.Now)
	all := c.book.TakeAll()
	c.desk.inherit(all)
	if writes := c.desk.step(all); len(writes) > 0 {
		t.Errorf("at a start %d keys are written, %s first", len(writes), writes[0].key)
	}
	c.put(store.HostSubnets().Key("n009"), &egressv1.HostSubnetEgress{Node: "n009", EgressIps: []string{"10.1.0.3"}})
	c.bring(2)
	c.decide()
	c.hostedAt("ns2", "n009")
}

// TestAGlobalNamespaceHasEgressIPsLikeAnother has two namespaces with VNID 0.
func TestAGlobalNamespaceHasEgressIPsLikeAnother(t *testing.T) {
	c := newCrowd(t, 0)
	c.put(store.HostSubnets().Key("n007"), &egressv1.HostSubnetEgress{Node: "n007", EgressIps: []string{"10.1.0.1"}})
	c.put(store.HostSubnets().Key("n008"), &egressv1.HostSubnetEgress{Node: "n008", EgressIps: []string{"10.1.0.2"}})
	for i, name := range []string{"ns0", "ns1"} {
		c.book.SetNetNamespace(name, &tenancyv1.NetNamespace{Name: name})
		c.want(i, i+1)
	}
	c.decide()
	for _, node := range []string{"n007", "n008"} {
		c.book.Confirm(node, c.book.Node(node).Hosting.GetRevision())
	}
	c.decide()
	c.hostedAt("ns0", "n007")
	c.hostedAt("ns1", "n008")
	for i, node := range []string{"n007", "n008"} {
		a := c.book.Node(node).Hosting.GetAddresses()
		if len(a) != 1 || a[0].GetNetid() != 0 || !a[0].GetMatchPods() {
			t.Errorf("%s has to hold %v, want one of VNID 0 that is shared", node, a)
		}
		if told := c.book.Namespace([]string{"ns0", "ns1"}[i]).Assignments["default"]; told.Netid == nil {
			t.Errorf("told %v, VNID 0 is one", told)
		}
	}
}
