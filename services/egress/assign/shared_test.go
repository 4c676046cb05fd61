package assign

import (
	"testing"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/egress/store"
)

// TestASharedVNIDIsUsedWhenItsHostKnows joins two namespaces whose addresses one node has.
// Until the node has said that it tells them apart, it would send the packets of one
// by the address of the other: nobody is told to use them.
func TestASharedVNIDIsUsedWhenItsHostKnows(t *testing.T) {
	c := newCrowd(t, 0)
	c.put(store.HostSubnets().Key("n007"), &egressv1.HostSubnetEgress{Node: "n007", EgressIps: []string{"10.1.0.1", "10.1.0.2"}})
	c.bring(0)
	c.bring(1)
	c.decide()
	state := func(namespace string) egressv1.AddressState {
		a := c.book.Namespace(namespace).Assignments["default"].GetAddresses()
		if len(a) != 1 || a[0].GetNode() != "n007" {
			t.Fatalf("%s is told %v", namespace, a)
		}
		return a[0].GetState()
	}
	confirm := func() {
		c.book.Confirm("n007", c.book.Node("n007").Hosting.GetRevision())
		c.decide()
	}
	const hosted, moving = egressv1.AddressState_ADDRESS_STATE_HOSTED, egressv1.AddressState_ADDRESS_STATE_MOVING
	want := func(state0, state1 egressv1.AddressState) {
		t.Helper()
		if a, b := state("ns0"), state("ns1"); a != state0 || b != state1 {
			t.Fatalf("ns0 %v, ns1 %v; want %v, %v", a, b, state0, state1)
		}
	}
	want(hosted, hosted) // each has a VNID of its own
	confirm()
	c.book.SetNetNamespace("ns1", &tenancyv1.NetNamespace{Name: "ns1", Netid: 10}) // that of ns0
	c.decide()
	want(moving, moving)
	confirm()
	want(hosted, hosted)
	c.put(store.HostSubnets().Key("n008"), &egressv1.HostSubnetEgress{Node: "n008", EgressIps: []string{"10.1.0.3"}})
	c.bring(2) // something else changes
	c.decide()
	want(hosted, hosted)
	c.book.SetNetNamespace("ns1", &tenancyv1.NetNamespace{Name: "ns1", Netid: 11})
	c.decide()
	want(hosted, hosted) // alone again, nothing is to be told apart
}
