package egressnode_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/services/nodeagent/egressnode"
)

func TestAddressesAreExactlyTheWantedOnes(t *testing.T) {
	w := newWorld(t, "eth0")
	const own, mine = nodeIP + "/24 eth0", "192.0.2.77/24 eth0"
	w.node.Run(t, "ip", "address", "add", "192.0.2.77/24", "dev", "eth0") // The administrator's.
	for _, step := range []struct {
		name    string
		wanted  []string
		has     []string
		repairs int
	}{
		{"one comes", []string{"192.0.2.100"}, []string{own, mine, "192.0.2.100/24 eth0:eip"}, 1},
		{"nothing changes", []string{"192.0.2.100"}, []string{own, mine, "192.0.2.100/24 eth0:eip"}, 0},
		{"one goes, two come", []string{"192.0.2.101", "192.0.2.102"}, []string{own, mine, "192.0.2.101/24 eth0:eip", "192.0.2.102/24 eth0:eip"}, 3},
		{"the administrator's is wanted too", []string{"192.0.2.77"}, []string{own, mine}, 2},
		{"and not any more", nil, []string{own, mine}, 0},
	} {
		repairs := w.hold(t, step.wanted...)
		if got := w.has(t); !slices.Equal(got, step.has) || len(repairs) != step.repairs {
			t.Errorf("%s: %d repairs %q, want %d; the node has %q, want %q", step.name, len(repairs), repairs, step.repairs, got, step.has)
		}
	}
}

func TestAStartTakesAwayWhatMovedMeanwhile(t *testing.T) {
	w := newWorld(t, "eth0")
	w.hold(t, "192.0.2.100", "192.0.2.101")
	before := w.has(t)
	w.holder = w.open(t)
	if got := w.has(t); !slices.Equal(got, before) {
		t.Errorf("before it is told, a new process makes %q of %q", got, before)
	}
	w.hold(t, "192.0.2.101")
	if got := w.has(t); !slices.Equal(got, []string{nodeIP + "/24 eth0", "192.0.2.101/24 eth0:eip"}) {
		t.Errorf("the node has %q", got)
	}
}

func TestThePrefixIsThatOfTheNetwork(t *testing.T) {
	w := newWorld(t, "eth0")
	w.node.Run(t, "ip", "address", "add", "198.51.100.5/26", "dev", "eth0")
	w.hold(t, "198.51.100.60", "192.0.2.100")
	want := []string{nodeIP + "/24 eth0", "198.51.100.5/26 eth0", "192.0.2.100/24 eth0:eip", "198.51.100.60/26 eth0:eip"}
	got := w.has(t)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the node has %q, want %q", got, want)
	}
	networks, err := w.holder.Networks(t.Context())
	if err != nil || !slices.Equal(networks, []netip.Prefix{netip.MustParsePrefix(nodeIP + "/24"), netip.MustParsePrefix("198.51.100.5/26")}) {
		t.Errorf("networks %v, %v", networks, err)
	}
}

func TestALongNameOfTheInterface(t *testing.T) {
	w := newWorld(t, "enp175s0f1npxyz")
	w.hold(t, "192.0.2.100")
	if got := w.has(t); !slices.Contains(got, "192.0.2.100/24 enp175s0f1n:eip") {
		t.Errorf("the node has %q", got)
	}
	w.holder = w.open(t)
	if repairs := w.hold(t); len(repairs) != 1 || len(w.has(t)) != 1 {
		t.Errorf("it does not go: %q, the node has %q", repairs, w.has(t))
	}
}

func TestWhatCannotBeHeldIsNamedAndTheRestIsHeld(t *testing.T) {
	w := newWorld(t, "eth0")
	_, err := w.holder.Hold(t.Context(), parsed([]string{"192.0.2.255", "192.0.2.100", "198.51.100.1", nodeIP, "192.0.2.0"}))
	for _, part := range []string{"192.0.2.255: it is in none", "198.51.100.1: it is in none", nodeIP + ": it is the node's own", "192.0.2.0: it is in none"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
	if got := w.has(t); !slices.Equal(got, []string{nodeIP + "/24 eth0", "192.0.2.100/24 eth0:eip"}) {
		t.Errorf("the node has %q", got)
	}
}

func TestANodeWithoutItsAddressIsAnError(t *testing.T) {
	w := newWorld(t, "eth0")
	w.node.Run(t, "ip", "address", "flush", "dev", "eth0")
	if _, err := w.holder.Hold(t.Context(), parsed([]string{"192.0.2.100"})); err == nil || !strings.Contains(err.Error(), nodeIP) {
		t.Errorf("got error %v", err)
	}
	if _, err := egressnode.Open(egressnode.Config{NodeIP: netip.MustParseAddr("fd00::1")}, hclog.NewNullLogger()); err == nil {
		t.Error("a node IP of IPv6 is taken")
	}
}

func TestWhatSomebodyTakesAwayComesBack(t *testing.T) {
	w := newWorld(t, "eth0")
	w.run(t)
	w.hold(t, "192.0.2.100")
	back := func() bool { return slices.Contains(w.has(t), "192.0.2.100/24 eth0:eip") }
	w.node.Run(t, "ip", "address", "del", "192.0.2.100/24", "dev", "eth0")
	until(t, "the address comes back", back)
	// Without its first address the interface loses all of the network.
	w.node.Run(t, "ip", "address", "del", nodeIP+"/24", "dev", "eth0")
	if back() {
		t.Fatal("the kernel kept the address without the first one")
	}
	w.node.Run(t, "ip", "address", "add", nodeIP+"/24", "dev", "eth0")
	until(t, "the address comes back with the node's", back)
}

// TestAnAddressComesBackAsOftenAsItGoes takes it away more often than anybody would try
// again, for longer than anybody would wait, and tells the neighbours each time that
// another has it.
func TestAnAddressComesBackAsOftenAsItGoes(t *testing.T) {
	w := newWorld(t, "eth0")
	w.run(t)
	const ip, entry = "192.0.2.100", "192.0.2.100/24 eth0:eip"
	w.hold(t, ip)
	back := func() bool { return slices.Contains(w.has(t), entry) }
	found := func() bool { has, own := w.neighbour(t, ip, "eth0"); return has == own }
	elsewhere := func() {
		w.outside.Run(t, "ip", "neighbour", "replace", ip, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
	}
	for range 10 {
		elsewhere()
		w.node.Run(t, "ip", "address", "del", "192.0.2.100/24", "dev", "eth0")
		until(t, "the address comes back", back)
		until(t, "the neighbour finds it", found)
	}
	// Nothing can be held now, however often it is tried.
	w.node.Run(t, "ip", "address", "del", nodeIP+"/24", "dev", "eth0")
	gone := time.Now()
	until(t, "some seconds pass", func() bool {
		if back() {
			t.Fatal("the address is there without the node's")
		}
		return time.Since(gone) > 3*time.Second
	})
	elsewhere()
	w.node.Run(t, "ip", "address", "add", nodeIP+"/24", "dev", "eth0")
	until(t, "the address comes back with the node's", back)
	until(t, "the neighbour finds it again", found)
}

func TestAnAddressThatComesIsAnnounced(t *testing.T) {
	w := newWorld(t, "eth0")
	for _, ip := range []string{"192.0.2.100", "192.0.2.101"} {
		w.outside.Run(t, "ip", "neighbour", "replace", ip, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
	}
	told := func(ip string) func() bool {
		return func() bool { has, own := w.neighbour(t, ip, "eth0"); return has == own }
	}
	w.hold(t, "192.0.2.100")
	until(t, "outside hears where the address is", told("192.0.2.100"))
	if told("192.0.2.101")() {
		t.Error("what has not come was announced")
	}
	// The node that had it answers last: it is told again.
	w.run(t)
	w.outside.Run(t, "ip", "neighbour", "replace", "192.0.2.100", "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
	until(t, "outside hears it again", told("192.0.2.100"))
}
