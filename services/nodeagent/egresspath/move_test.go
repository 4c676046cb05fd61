package egresspath

import (
	"testing"
)

// TestAMoveNeverShowsAnotherSource moves an address from node to node, as egress does:
// nobody has it before the former host has said that it gave it up.
func TestAMoveNeverShowsAnotherSource(t *testing.T) {
	w := newWorld(t, 3)
	serve(t, w.outside, ":8080")
	const ip = "192.0.2.100"
	assign := func(node int) {
		for _, n := range w.nodes {
			n.leave(t, "red", by("red", map[string]int{ip: node}))
		}
	}
	assign(-1)
	var all []*traffic
	for i := range 3 {
		all = append(all, w.nodes[i].addPod(t, "red", 5).talk(t))
	}
	w.seen.only(t)
	for move, at := range []int{0, 1, 2, 0, 1} {
		if move > 0 {
			assign(-1)
			w.nodes[[]int{0, 1, 2, 0, 1}[move-1]].hosts(t, uint64(10*move+1))
		}
		w.nodes[at].hosts(t, uint64(10*move+2), hosted(ip, "red", 0))
		assign(at)
		for _, tr := range all {
			tr.flows(t)
		}
		from := w.seen.only(t, ip)
		t.Logf("move %d: %v packets", move, from)
	}
	// A node whose namespaces were told late leads packets where the address is no more.
	w.nodes[1].hosts(t, 100)
	w.nodes[2].hosts(t, 100, hosted(ip, "red", 0))
	for _, n := range w.nodes[:2] {
		n.leave(t, "red", by("red", map[string]int{ip: 2}))
	}
	all[0].flows(t)
	w.seen.only(t, ip)
}

// TestTheSameNodeMayGiveAnAddressToAnother hands addresses over between namespaces of one
// node, under traffic of both.
func TestTheSameNodeMayGiveAnAddressToAnother(t *testing.T) {
	w := newWorld(t, 2)
	serve(t, w.outside, ":8080")
	n := w.nodes[0]
	set := func(revision uint64, red, blue string) {
		t.Helper()
		for _, other := range w.nodes {
			other.leave(t, "red", by("red", map[string]int{red: -1}))
			other.leave(t, "blue", by("blue", map[string]int{blue: -1}))
		}
		n.hosts(t, revision)
		n.hosts(t, revision+1, hosted(red, "red", 0), hosted(blue, "blue", 0))
		for _, other := range w.nodes {
			other.leave(t, "red", by("red", map[string]int{red: 0}))
			other.leave(t, "blue", by("blue", map[string]int{blue: 0}))
		}
	}
	set(2, "192.0.2.100", "192.0.2.101")
	red, blue := n.addPod(t, "red", 5), n.addPod(t, "blue", 6)
	far := w.nodes[1].addPod(t, "blue", 6)
	red.talk(t).flows(t)
	w.seen.only(t, "192.0.2.100")
	set(4, "192.0.2.101", "192.0.2.100")
	w.seen.sources() // of the old traffic, right until the moment of the change
	red.wantSeenAs(t, "192.0.2.101")
	w.seen.only(t, "192.0.2.101")
	for _, p := range []*pod{blue, far} {
		p.wantSeenAs(t, "192.0.2.100")
	}
}

// TestATCPConnectionOutlivesAMove is what a move cuts and what not: the address is the
// same, and a node that sees the middle of a connection goes on with it if the pod is the
// first to speak, since ports are kept where they are free.
func TestATCPConnectionOutlivesAMove(t *testing.T) {
	w := newWorld(t, 3)
	serve(t, w.outside, ":8080")
	const ip = "192.0.2.100"
	assign := func(node int) {
		for _, n := range w.nodes {
			n.leave(t, "red", by("red", map[string]int{ip: node}))
		}
	}
	w.nodes[0].hosts(t, 1, hosted(ip, "red", 0))
	assign(0)
	for _, p := range []*pod{w.nodes[0].addPod(t, "red", 5), w.nodes[2].addPod(t, "red", 6)} {
		conn, err := p.dial(t, "tcp4", outsideIP+":8080", answerLimit)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if got, err := ask(conn, answerLimit); got != ip || err != nil {
			t.Fatalf("before the move: %q, %v", got, err)
		}
		defer func() {
			if got, err := ask(conn, answerLimit); got != ip || err != nil {
				t.Errorf("after the move: %q, %v", got, err)
			}
			w.seen.only(t, ip)
		}()
	}
	assign(-1)
	w.nodes[0].hosts(t, 2)
	w.nodes[1].hosts(t, 2, hosted(ip, "red", 0))
	assign(1)
}
