package egressnode_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/services/nodeagent/egressnode"
)

const (
	nodeIP    = "192.0.2.10"
	outsideIP = "192.0.2.99"
)

// world is a node and a host outside, on one network, and pods behind the node's tun0.
type world struct {
	node, outside *netnstest.Namespace
	holder        *egressnode.Holder
}

// newWorld makes them; the node's interface has the given name.
func newWorld(t *testing.T, device string) *world {
	t.Helper()
	w := &world{node: netnstest.New(t, "node"), outside: netnstest.New(t, "outside")}
	w.node.Connect(t, device, w.outside, "eth0")
	// A neighbour that hears two answers takes the second at once, not after a second.
	w.outside.Run(t, "sysctl", "-q", "-w", "net.ipv4.neigh.eth0.locktime=0")
	for _, end := range []struct {
		ns         *netnstest.Namespace
		device, ip string
	}{{w.node, device, nodeIP}, {w.outside, "eth0", outsideIP}} {
		end.ns.Run(t, "ip", "address", "add", end.ip+"/24", "dev", end.device)
		end.ns.Run(t, "ip", "link", "set", end.device, "up")
	}
	w.holder = w.open(t)
	return w
}

// open makes a holder, as a new process does.
func (w *world) open(t *testing.T) *egressnode.Holder {
	t.Helper()
	h, err := egressnode.Open(egressnode.Config{Namespace: w.node.Path(), NodeIP: netip.MustParseAddr(nodeIP)}, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// run runs the holder until the test ends.
func (w *world) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.holder.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// hold holds what must work.
func (w *world) hold(t *testing.T, ips ...string) []string {
	t.Helper()
	repairs, err := w.holder.Hold(t.Context(), parsed(ips))
	if err != nil {
		t.Fatalf("Hold: %v (after %q)", err, repairs)
	}
	return repairs
}

func parsed(ips []string) []netip.Addr {
	var all []netip.Addr
	for _, ip := range ips {
		all = append(all, netip.MustParseAddr(ip))
	}
	return all
}

// has answers the node's addresses, "192.0.2.10/24 eth0", in the kernel's order.
func (w *world) has(t *testing.T) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(w.node.Run(t, "ip", "-4", "address", "show", "scope", "global")) {
		if words := strings.Fields(line); len(words) > 0 && words[0] == "inet" {
			all = append(all, words[1]+" "+words[len(words)-1])
		}
	}
	return all
}

// until waits for a condition that only the kernel can make true.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// neighbour answers the MAC address that outside has of an address, and the node's own.
func (w *world) neighbour(t *testing.T, ip, device string) (has, own string) {
	t.Helper()
	if _, text, found := strings.Cut(w.outside.Run(t, "ip", "neighbour", "show", ip), "lladdr "); found {
		has = strings.Fields(text)[0]
	}
	_, text, _ := strings.Cut(w.node.Run(t, "ip", "link", "show", device), "link/ether ")
	return has, strings.Fields(text)[0]
}
