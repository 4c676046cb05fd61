package egress

import (
	"fmt"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/identity"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/names/zonetest"
)

// TestSilentNamesDelayNoOther has more names of which no server says anything than are
// looked up at once, and then one that is answered: before any of the others has failed, while they
// are asked for again, and when another namespace brings as many new ones.
func TestSilentNamesDelayNoOther(t *testing.T) {
	const silent = 1000
	zone, sys := zonetest.Start(t), newSystem(t)
	sys.dns = []string{zone.Address}
	sys.startReplica()
	op := sys.operator()
	mute := func(namespace string) {
		p := &egressv1.EgressNetworkPolicy{Namespace: namespace, Name: "out"}
		for i := range silent {
			name := fmt.Sprintf("w%d.%s.example.com", i, namespace)
			zone.Silence(name)
			p.Rules = append(p.Rules, allow(name))
		}
		op.put(t, p)
	}
	good := func(when string, number int) {
		t.Helper()
		name, address := fmt.Sprintf("www%d.example.org", number), fmt.Sprintf("192.0.2.%d", number)
		zone.Set(name, fmt.Sprintf("%s 300 A %s", name, address))
		began := time.Now()
		op.put(t, &egressv1.EgressNetworkPolicy{Namespace: fmt.Sprintf("good%d", number), Name: "out", Rules: []*egressv1.EgressRule{allow(name)}})
		sys.resolves(name, "RESOLVED "+address)
		took := time.Since(began)
		t.Logf("%s: resolved after %v", when, took.Round(time.Millisecond))
		if took > 2*time.Second { // the time for which a silent server is waited for
			t.Errorf("%s, a name whose server answers was resolved after %v", when, took)
		}
	}
	const late = "late.example.net"
	good("alone", 1)
	zone.Silence(late)
	op.put(t, &egressv1.EgressNetworkPolicy{Namespace: "late", Name: "out", Rules: []*egressv1.EgressRule{allow(late)}})
	mute("mute")
	good("all silent names are new", 2)
	sys.resolves("w0.mute.example.com", "UNRESOLVED  ask "+zone.Address+": no answer within 2s")
	good("some have failed", 3)
	zone.Set(late, late+" 300 A 192.0.2.9") // of its like it does not wait for those of others first
	sys.resolves(late, "RESOLVED 192.0.2.9")
	mute("dumb")
	good("as many new ones", 4)
}

// TestAllReplicasTellTheAnswerThatOneWasGiven has a name of which every question is answered
// differently: nodes that ask different replicas hear the same all the same.
func TestAllReplicasTellTheAnswerThatOneWasGiven(t *testing.T) {
	zone, sys := zonetest.Start(t), newSystem(t)
	sys.dns = []string{zone.Address}
	sys.startReplica()
	sys.startReplica()
	const name = "www.example.com"
	zone.Rotate(name, "192.0.2.1", "192.0.2.2", "192.0.2.3")
	sys.operator().put(t, &egressv1.EgressNetworkPolicy{Namespace: "shop", Name: "out", Rules: []*egressv1.EgressRule{allow(name)}})
	for _, replica := range sys.replica {
		sys.resolves(name, "RESOLVED 192.0.2.2", replica)
	}
	for _, node := range []string{"n1", "n2"} {
		for _, replica := range sys.replica {
			page, err := sys.as(identity.Node(node), replica).ListDNSNames(soon(t), &egressv1.ListDNSNamesRequest{Names: []string{name}})
			if err != nil || len(page.GetDnsNames()) != 1 || len(page.GetDnsNames()[0].GetAddresses()) != 1 {
				t.Errorf("%s hears %v, %v", node, page, err)
			}
		}
	}
	if n := zone.Count(name); n != 1 {
		t.Errorf("%d questions were asked for what all shall know", n)
	}
}
