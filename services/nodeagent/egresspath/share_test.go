package egresspath

import (
	"testing"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// pods tells all nodes the pods of a selection.
func (w *world) pods(t *testing.T, namespace, selection string, pods ...*pod) {
	t.Helper()
	list := &egressv1.EgressPods{Namespace: namespace, Selection: selection, Revision: 1}
	for _, p := range pods {
		list.PodIps = append(list.PodIps, p.ip.String())
	}
	for _, n := range w.nodes {
		change, err := n.state.SetEgressPods(list)
		if err == nil {
			err = n.program.Program(patience(t), change)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestNamespacesThatShareAVNIDLeaveEachByItsOwn joins blue and green, of which a third
// has none.
func TestNamespacesThatShareAVNIDLeaveEachByItsOwn(t *testing.T) {
	w := newWorld(t, 3)
	serve(t, w.outside, ":8080")
	blue := []*pod{w.nodes[0].addPod(t, "blue", 5), w.nodes[1].addPod(t, "blue", 6)}
	green := []*pod{w.nodes[0].addPod(t, "green", 7), w.nodes[2].addPod(t, "green", 8)}
	shared := func(ip, namespace string, slot uint32) *egressv1.HostedAddress {
		h := hosted(ip, namespace, slot)
		h.MatchPods = true
		return h
	}
	w.pods(t, "blue", "default", blue...)
	w.pods(t, "green", "default", green...)
	w.nodes[0].hosts(t, 1, shared("192.0.2.100", "blue", 0))
	w.nodes[1].hosts(t, 1, shared("192.0.2.101", "green", 0))
	for _, n := range w.nodes {
		n.leave(t, "blue", by("blue", map[string]int{"192.0.2.100": 0}))
		n.leave(t, "green", by("green", map[string]int{"192.0.2.101": 1}))
	}
	for _, p := range blue {
		p.wantSeenAs(t, "192.0.2.100")
	}
	for _, p := range green {
		p.wantSeenAs(t, "192.0.2.101")
	}
	// Both on one node: then they have slots.
	w.nodes[1].hosts(t, 2)
	w.nodes[0].hosts(t, 2, shared("192.0.2.100", "blue", 0), shared("192.0.2.101", "green", 1))
	for _, n := range w.nodes {
		n.leave(t, "green", by("green", map[string]int{"192.0.2.101": 0}))
	}
	for _, p := range green {
		p.wantSeenAs(t, "192.0.2.101")
	}
	for _, p := range blue {
		p.wantSeenAs(t, "192.0.2.100")
	}
	// One without egress IPs leaves as its node, and says nothing about the other.
	w.nodes[0].hosts(t, 3, shared("192.0.2.100", "blue", 0))
	for _, n := range w.nodes {
		n.leave(t, "green")
	}
	green[1].wantSeenAs(t, "192.0.2.3")
	for _, p := range blue {
		p.wantSeenAs(t, "192.0.2.100")
	}
}

// TestSomePodsOfANamespaceLeaveByOtherAddresses has a selection, and pods that none takes.
func TestSomePodsOfANamespaceLeaveByOtherAddresses(t *testing.T) {
	w := newWorld(t, 2)
	serve(t, w.outside, ":8080")
	db := []*pod{w.nodes[0].addPod(t, "red", 5), w.nodes[1].addPod(t, "red", 6)}
	web := []*pod{w.nodes[0].addPod(t, "red", 7), w.nodes[1].addPod(t, "red", 8)}
	selection := by("red", map[string]int{"192.0.2.100": 0})
	selection.Selection = "db"
	h := hosted("192.0.2.100", "red", 0)
	h.Selection, h.MatchPods = "db", true
	w.nodes[0].hosts(t, 1, h)
	for _, n := range w.nodes {
		n.leave(t, "red", selection)
	}
	// Which pods these are is not known yet.
	for _, p := range append(db, web...) {
		p.wantClosed(t)
	}
	w.seen.only(t)
	w.pods(t, "red", "db", db...)
	w.pods(t, "red", "default", web...)
	for _, p := range db {
		p.wantSeenAs(t, "192.0.2.100")
	}
	w.seen.only(t, "192.0.2.100")
	web[0].wantSeenAs(t, "192.0.2.1")
	web[1].wantSeenAs(t, "192.0.2.2")
}

// TestConnectionsAreSpreadOverSeveralAddresses has three, one of them on the pod's node.
func TestConnectionsAreSpreadOverSeveralAddresses(t *testing.T) {
	for _, mode := range []tenancyv1.IsolationMode{multitenant, combined} {
		t.Run(mode.String(), func(t *testing.T) { connectionsAreSpread(t, newWorldIn(t, 3, mode)) })
	}
}

func connectionsAreSpread(t *testing.T, w *world) {
	t.Helper()
	serve(t, w.outside, ":8080")
	at := map[string]int{"192.0.2.100": 0, "192.0.2.101": 1, "192.0.2.102": 2}
	for ip, node := range at {
		w.nodes[node].hosts(t, 1, hosted(ip, "red", 0))
	}
	for _, n := range w.nodes {
		n.leave(t, "red", by("red", at))
	}
	for i, n := range w.nodes[:2] {
		p, seen := n.addPod(t, "red", 5), map[string]int{}
		for try := range 60 {
			conn, err := p.dial(t, "tcp4", outsideIP+":8080", answerLimit)
			if err != nil {
				t.Fatalf("connection %d of %s: %v", try, nodeName(i), err)
			}
			first, err1 := ask(conn, answerLimit)
			again, err2 := ask(conn, answerLimit)
			_ = conn.Close()
			if err1 != nil || err2 != nil || first != again {
				t.Errorf("one connection is seen from %s and %s (%v, %v)", first, again, err1, err2)
			}
			seen[first]++
		}
		for ip := range at {
			if seen[ip] < 5 {
				t.Errorf("%s: of 60 connections %v", nodeName(i), seen)
			}
		}
	}
	w.seen.only(t, "192.0.2.100", "192.0.2.101", "192.0.2.102")
}

// TestWhatIsInsideHasNothingToDoWithEgress asks pods, the node, and its resolver, with an
// egress IP, without a host for it, and before anything is known.
func TestWhatIsInsideHasNothingToDoWithEgress(t *testing.T) {
	w := newWorld(t, 2)
	p, near, far := w.nodes[0].addPod(t, "red", 5), w.nodes[0].addPod(t, "red", 6), w.nodes[1].addPod(t, "red", 7)
	for _, server := range []*pod{near, far} {
		serve(t, server.ns, ":8080")
	}
	gateway := subnet(0).Addr().Next().String()
	serve(t, w.nodes[0].ns, gateway+":53")
	serve(t, w.nodes[0].ns, "192.0.2.1:53")
	states := map[string]func(){
		"not known": func() {},
		"no host":   func() { w.nodes[0].leave(t, "red", by("red", map[string]int{"192.0.2.100": -1})) },
		"here": func() {
			w.nodes[0].hosts(t, 1, hosted("192.0.2.100", "red", 0))
			w.nodes[0].leave(t, "red", by("red", map[string]int{"192.0.2.100": 0}))
		},
		"elsewhere": func() { w.nodes[0].leave(t, "red", by("red", map[string]int{"192.0.2.100": 1})) },
	}
	for _, state := range []string{"not known", "no host", "here", "elsewhere"} {
		states[state]()
		for address, want := range map[string]string{
			near.ip.String() + ":8080": p.ip.String(), far.ip.String() + ":8080": p.ip.String(),
			gateway + ":53": p.ip.String(), "192.0.2.1:53": p.ip.String(),
		} {
			for _, network := range []string{"tcp4", "udp4"} {
				conn, err := p.dial(t, network, address, answerLimit)
				var got string
				if err == nil {
					got, err = ask(conn, answerLimit)
					_ = conn.Close()
				}
				if err != nil || got != want {
					t.Errorf("%s: %s by %s sees %q (%v), want %s", state, address, network, got, err, want)
				}
			}
		}
	}
	w.seen.only(t)
}
