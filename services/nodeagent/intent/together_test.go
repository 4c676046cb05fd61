package intent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/egressmark"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// watched is a switch of which it is known what it has after each transaction.
type watched struct {
	switcher
	mu    sync.Mutex
	has   map[string][]openflow.Flow
	after func(has map[string][]openflow.Flow)
}

func (w *watched) Apply(ctx context.Context, changes ...flowsync.Change) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.switcher.Apply(ctx, changes...); err != nil {
		return err
	}
	for _, c := range changes {
		w.has[c.Owner] = c.Flows
	}
	w.after(w.has)
	return nil
}

func (w *watched) Reconcile(ctx context.Context, want map[string][]openflow.Flow) (flowsync.Diff, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	diff, err := w.switcher.Reconcile(ctx, want)
	w.has = maps.Clone(want)
	return diff, err
}

// TestNoTransactionLetsAPodOutByItsNode joins a namespace and isolates it again, again and
// again, while egress says what that means for it, and the node's own addresses come and
// go. Whatever comes when, after no transaction do the flows lead its pods out by the node, and
// after each there are flows for the VNID that they have.
func TestNoTransactionLetsAPodOutByItsNode(t *testing.T) {
	n := newNode(t)
	n.state.FollowEgress(egressmark.Reserved{})
	n.know()
	pods := []Pod{podNumber(1, "red"), podNumber(2, "red"), podNumber(3, "red")}
	for _, p := range pods {
		n.state.AddPod(p)
	}
	n.state.SetNetNamespace(namespace("red", 40, 1))
	if _, err := n.state.SetEgress("red", 1, []*egressv1.EgressAssignment{assignment("red", "default", 40, 0, "192.0.2.100@n2")}); err != nil {
		t.Fatal(err)
	}
	applied := 0
	w := &watched{switcher: n.flows}
	w.after = func(has map[string][]openflow.Flow) {
		applied++
		var all, ways []openflow.Flow
		for owner, flows := range has {
			all = append(all, flows...)
			if strings.HasPrefix(owner, egressOwnerPrefix) {
				ways = append(ways, flows...)
			}
		}
		for _, p := range pods {
			if len(has[p.Owner()]) == 0 {
				continue // it is gone
			}
			for _, vnid := range []uint32{40, 41} {
				// A packet may bear either: connection tracking gives some back later.
				if got := leaves(all, int(p.Port), p.IP, vnid); len(got) == 0 || slices.Contains(got, "node") {
					t.Errorf("after transaction %d %s, with VNID %d, leaves by %q", applied, p.Name, vnid, got)
				}
				bears := slices.ContainsFunc(has[p.Owner()], func(f openflow.Flow) bool {
					return f.Table == 20 && strings.Contains(f.String(), fmt.Sprintf("%#x->NXM_NX_REG0", vnid))
				})
				if bears && len(leaves(ways, int(p.Port), p.IP, vnid)) == 0 {
					t.Errorf("after transaction %d no flow says how %s leaves, with VNID %d", applied, p.Name, vnid)
				}
			}
		}
	}
	prog := NewProgrammer(n.state, w, hclog.NewNullLogger())
	if _, err := prog.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 3*time.Second)
	defer stop()
	var working sync.WaitGroup
	every := func(do func(i int) Change, send func(Change)) {
		working.Go(func() {
			for i := 1; ctx.Err() == nil && !t.Failed(); i++ {
				send(do(i))
			}
		})
	}
	now := func(c Change) { _ = prog.Program(t.Context(), c) }
	working.Go(func() { _ = prog.Run(ctx) })
	paced := func(c Change) { prog.Queue(c); time.Sleep(time.Millisecond) }
	every(func(i int) Change { return n.state.SetNetNamespace(namespace("red", 40+uint32(i%2), uint64(i))) }, paced)
	every(func(i int) Change {
		c, err := n.state.SetEgress("red", uint64(i), []*egressv1.EgressAssignment{assignment("red", "default", 40+uint32(i%2), 0, "192.0.2.100@n2")})
		if err != nil {
			t.Error(err)
		}
		return c
	}, paced)
	every(func(i int) Change {
		var held []*egressv1.HostedAddress
		if i%2 == 0 {
			held = []*egressv1.HostedAddress{{Ip: "192.0.2.101", Namespace: "red", Selection: "default", Netid: 40 + uint32(i/2%2)}}
		}
		c, err := n.state.SetEgressHosting(uint64(i), held)
		if err != nil {
			t.Error(err)
		}
		return c
	}, now)
	every(func(i int) Change {
		if i%2 == 0 {
			return n.state.RemovePod(pods[2])
		}
		return n.state.AddPod(pods[2])
	}, now)
	working.Wait()
	if applied < 100 {
		t.Errorf("there were only %d transactions", applied)
	}
	t.Logf("%d transactions", applied)
}
