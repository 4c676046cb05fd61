package egresshost_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/egresshost"
	"github.com/damask-sdn/damask/services/nodeagent/egressnode"
	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

// node stands below a Host: it keeps what each part has, writes down what was done in
// which order, and fails where it is told to. Tests with the real parts are in rig_test.go.
type node struct {
	mu        sync.Mutex
	did       []string
	fails     string // the call that fails
	foreign   netip.Addr
	rules     []masquerade.EgressIP
	addresses []netip.Addr
	open      []masquerade.EgressIP
	led       []netip.Addr
	compared  bool
	confirmed uint64
	failed    error
	during    func(call string) // is called when addresses are about to be held
}

var errTold = errors.New("as told")

// note writes a call down, and answers whether it fails.
func (n *node) note(call string, what any) error {
	line := strings.TrimSpace(fmt.Sprintf("%s %v", call, what))
	n.did = append(n.did, line)
	if n.fails == call {
		return errTold
	}
	return nil
}

func (n *node) SetEgress(_ context.Context, ips []masquerade.EgressIP) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.note("rules", ipsOf(ips)); err != nil {
		return nil, err
	}
	n.rules = ips
	return nil, nil
}

func (n *node) Hold(_ context.Context, wanted []netip.Addr) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.addresses, wanted) {
		if n.during != nil {
			n.mu.Unlock()
			n.during("hold")
			n.mu.Lock()
		}
		if err := n.note("hold", wanted); err != nil {
			return nil, err
		}
	}
	n.addresses = slices.Clone(wanted)
	if slices.Contains(wanted, n.foreign) {
		n.addresses = slices.DeleteFunc(n.addresses, func(ip netip.Addr) bool { return ip == n.foreign })
		return nil, errors.Join(&egressnode.AddressError{IP: n.foreign, Err: errTold})
	}
	return nil, nil
}

func (n *node) Release(_ context.Context, keep []netip.Addr) (gone []netip.Addr, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, ip := range n.addresses {
		if !slices.Contains(keep, ip) {
			gone = append(gone, ip)
		}
	}
	if len(gone) == 0 {
		return nil, nil
	}
	if err := n.note("release", gone); err != nil {
		return nil, err
	}
	n.addresses = slices.DeleteFunc(n.addresses, func(ip netip.Addr) bool { return slices.Contains(gone, ip) })
	return gone, nil
}

func (n *node) Translated(context.Context) ([]masquerade.EgressIP, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.open, nil
}

func (n *node) Narrow(_ context.Context, keep []masquerade.EgressIP) (closed []masquerade.EgressIP, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range n.open {
		if !slices.Contains(keep, e) {
			closed = append(closed, e)
		}
	}
	if len(closed) == 0 {
		return nil, nil
	}
	if err := n.note("close", ipsOf(closed)); err != nil {
		return nil, err
	}
	n.open = slices.DeleteFunc(slices.Clone(n.open), func(e masquerade.EgressIP) bool { return slices.Contains(closed, e) })
	return closed, nil
}

func (n *node) Set(_ context.Context, all []masquerade.EgressIP, _ []netip.Addr) ([]string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.open, all) {
		if err := n.note("open", ipsOf(all)); err != nil {
			return nil, err
		}
	}
	n.open = all
	return nil, nil
}

func (n *node) Forget(context.Context, func(from, translated netip.Addr) bool) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return 0, n.note("forget", "")
}

func (n *node) Lead(_ context.Context, _ uint64, ready []*egressv1.HostedAddress) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var ips []netip.Addr
	for _, h := range ready {
		ips = append(ips, netip.MustParseAddr(h.GetIp()))
	}
	if !n.compared {
		n.led = ips
		n.did = append(n.did, fmt.Sprintf("told %v", ips))
		return egresshost.ErrSwitchAway
	}
	if !slices.Equal(n.led, ips) {
		if err := n.note("lead", ips); err != nil {
			return err
		}
	}
	n.led = ips
	return nil
}

func (n *node) Failed(_ uint64, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failed = err
}

func (n *node) confirm(revision uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.confirmed != revision {
		n.did = append(n.did, fmt.Sprintf("confirm %d", revision))
	}
	n.confirmed = revision
}

// took answers what was done since it was last asked.
func (n *node) took() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	did := n.did
	n.did = nil
	return did
}

func (n *node) host() *egresshost.Host {
	return egresshost.New(egresshost.Config{
		Rules: n, Addresses: n, Guard: n, Flows: n, Confirm: n.confirm, Log: hclog.NewNullLogger(),
	})
}

func ipsOf(all []masquerade.EgressIP) []netip.Addr {
	var ips []netip.Addr
	for _, e := range all {
		ips = append(ips, e.IP)
	}
	return ips
}

// hosting is addresses "IP VNID SLOT".
func hosting(revision uint64, addresses ...string) *egressv1.EgressHosting {
	h := &egressv1.EgressHosting{Node: "n1", Revision: revision}
	for _, text := range addresses {
		a := &egressv1.HostedAddress{Selection: "default"}
		if _, err := fmt.Sscan(text, &a.Ip, &a.Netid, &a.Slot); err != nil {
			panic(err)
		}
		a.Namespace = fmt.Sprintf("ns%d", a.GetNetid())
		h.Addresses = append(h.Addresses, a)
	}
	return h
}

// pass makes one pass, which tests can only by an audit.
func pass(t *testing.T, h *egresshost.Host, wantErr bool) {
	t.Helper()
	if _, err := h.Audit(t.Context()); (err != nil) != wantErr {
		t.Fatalf("pass: %v", err)
	}
}

func expect(t *testing.T, n *node, want ...string) {
	t.Helper()
	// An audit compares rules each time.
	got := n.took()
	if !slices.Equal(got, want) {
		t.Errorf("did %q, want %q", got, want)
	}
}

// TestWhatComesIsReadyBeforePacketsAreLedToIt is the order of taking.
func TestWhatComesIsReadyBeforePacketsAreLedToIt(t *testing.T) {
	n := &node{compared: true}
	h := n.host()
	h.Want(hosting(5, "192.0.2.100 42 0"))
	pass(t, h, false)
	expect(t, n, "rules [192.0.2.100]", "hold [192.0.2.100]", "open [192.0.2.100]", "lead [192.0.2.100]", "confirm 5")
	h.Want(hosting(6, "192.0.2.100 42 0", "192.0.2.101 43 0"))
	pass(t, h, false)
	expect(t, n, "rules [192.0.2.100 192.0.2.101]", "hold [192.0.2.100 192.0.2.101]", "open [192.0.2.100 192.0.2.101]",
		"lead [192.0.2.100 192.0.2.101]", "confirm 6")
}

// TestWhatGoesIsGoneBeforeEgressHearsOfIt is the order of giving up.
func TestWhatGoesIsGoneBeforeEgressHearsOfIt(t *testing.T) {
	n := &node{compared: true}
	h := n.host()
	h.Want(hosting(5, "192.0.2.100 42 0", "192.0.2.101 43 0"))
	pass(t, h, false)
	n.took()
	h.Want(hosting(6, "192.0.2.101 43 0"))
	pass(t, h, false)
	expect(t, n, "lead [192.0.2.101]", "close [192.0.2.100]", "release [192.0.2.100]", "rules [192.0.2.101]", "confirm 6", "forget")
	// One that changes hands goes and comes, though the node keeps it.
	h.Want(hosting(7, "192.0.2.101 44 0"))
	pass(t, h, false)
	expect(t, n, "lead []", "close [192.0.2.101]", "rules [192.0.2.101]", "open [192.0.2.101]", "lead [192.0.2.101]", "confirm 7", "forget")
}

// TestAfterAFailureNothingIsDoneThatDependsOnIt fails each step in turn, and then lets it
// work.
func TestAfterAFailureNothingIsDoneThatDependsOnIt(t *testing.T) {
	for step, before := range map[string][]string{
		"lead":    {"lead [192.0.2.101]"},
		"close":   {"lead [192.0.2.101]", "close [192.0.2.100]"},
		"release": {"lead [192.0.2.101]", "close [192.0.2.100]", "release [192.0.2.100]"},
		"rules":   {"lead [192.0.2.101]", "close [192.0.2.100]", "release [192.0.2.100]", "rules [192.0.2.101 192.0.2.102]"},
		"hold":    {"lead [192.0.2.101]", "close [192.0.2.100]", "release [192.0.2.100]", "rules [192.0.2.101 192.0.2.102]", "hold [192.0.2.101 192.0.2.102]"},
		"open":    {"lead [192.0.2.101]", "close [192.0.2.100]", "release [192.0.2.100]", "rules [192.0.2.101 192.0.2.102]", "hold [192.0.2.101 192.0.2.102]", "open [192.0.2.101 192.0.2.102]"},
	} {
		t.Run(step, func(t *testing.T) {
			n := &node{compared: true}
			h := n.host()
			h.Want(hosting(5, "192.0.2.100 42 0", "192.0.2.101 43 0"))
			pass(t, h, false)
			n.took()
			h.Want(hosting(6, "192.0.2.101 43 0", "192.0.2.102 44 0"))
			n.fails = step
			pass(t, h, true)
			expect(t, n, before...)
			n.fails = ""
			pass(t, h, false)
			if did := n.took(); n.confirmed != 6 || !slices.Equal(n.led, n.addresses) || !slices.Equal(n.led, ipsOf(n.open)) || len(n.led) != 2 {
				t.Errorf("then it did %q: confirmed %d, led to %v, holds %v", did, n.confirmed, n.led, n.addresses)
			}
		})
	}
}

// TestAnAddressThatCannotBeHeldStopsNoOther has one of a foreign network.
func TestAnAddressThatCannotBeHeldStopsNoOther(t *testing.T) {
	n := &node{compared: true, foreign: netip.MustParseAddr("198.51.100.1")}
	h := n.host()
	h.Want(hosting(5, "192.0.2.100 42 0", "198.51.100.1 43 0", "192.0.2.101 16777216 0", "192.0.2.100 44 0"))
	pass(t, h, true)
	if !slices.Equal(n.led, []netip.Addr{netip.MustParseAddr("192.0.2.100")}) || n.confirmed != 5 {
		t.Errorf("led to %v, confirmed %d", n.led, n.confirmed)
	}
	for _, part := range []string{"198.51.100.1", "VNID 16777216", "has the mark or the address"} {
		if n.failed == nil || !strings.Contains(n.failed.Error(), part) {
			t.Errorf("the error %v does not say %q", n.failed, part)
		}
	}
}

// TestAStartTellsTheFlowsWhatIsOpenAndWaitsForTheSwitch is a new process.
func TestAStartTellsTheFlowsWhatIsOpenAndWaitsForTheSwitch(t *testing.T) {
	n := &node{compared: true}
	first := n.host()
	first.Want(hosting(5, "192.0.2.100 42 0", "192.0.2.101 43 0"))
	pass(t, first, false)
	n.took()
	n.compared = false

	h := n.host()
	pass(t, h, false) // nothing is known, nothing is touched
	expect(t, n)
	h.Want(hosting(6, "192.0.2.101 43 0", "192.0.2.102 44 0"))
	pass(t, h, false)
	select {
	case <-h.Begun():
	default:
		t.Fatal("the flows were not told")
	}
	expect(t, n, "told [192.0.2.101]", "told [192.0.2.101]")
	n.compared = true
	pass(t, h, false)
	expect(t, n, "close [192.0.2.100]", "release [192.0.2.100]", "rules [192.0.2.101 192.0.2.102]", "hold [192.0.2.101 192.0.2.102]",
		"open [192.0.2.101 192.0.2.102]", "lead [192.0.2.101 192.0.2.102]", "confirm 6", "forget")
	// And where nothing has changed, nothing is done.
	again := n.host()
	again.Want(hosting(6, "192.0.2.101 43 0", "192.0.2.102 44 0"))
	pass(t, again, false)
	expect(t, n, "rules [192.0.2.101 192.0.2.102]")
}
