package intent

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/policy"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// judging is what policies and pods' own flows are at one moment, as one text.
func judging(fragments map[string][]openflow.Flow) string {
	var b strings.Builder
	for _, owner := range slices.Sorted(maps.Keys(fragments)) {
		if len(fragments[owner]) == 0 || !strings.HasPrefix(owner, "pod ") && !isPolicy(owner) {
			continue
		}
		fmt.Fprintln(&b, owner)
		for _, f := range fragments[owner] {
			fmt.Fprintln(&b, " ", f)
		}
	}
	return b.String()
}

func isPolicy(owner string) bool {
	return strings.HasPrefix(owner, "policy ") || strings.HasPrefix(owner, "NetworkPolicy")
}

// moments remembers what should have been judged by, since when.
type moments struct {
	mu    sync.Mutex
	state *State
	last  map[string]int
	count int
}

// change changes the state and remembers what it is then.
func (m *moments) change(do func() Change) Change {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := do()
	m.count++
	m.last[judging(m.state.CompileAll())] = m.count
	return c
}

// of answers the last moment at which the state was this; 0: never.
func (m *moments) of(fragments map[string][]openflow.Flow) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last[judging(fragments)]
}

// TestNoTransactionTakesHalfOfAPolicy changes policies, what applies to pods, pods and their
// VNID side by side. After each transaction the switch judges as the state said to at one
// moment: never by halves of two.
func TestNoTransactionTakesHalfOfAPolicy(t *testing.T) {
	n := newNode(t)
	n.know()
	if _, err := n.state.SetIsolation(&tenancyv1.Isolation{Mode: tenancyv1.IsolationMode_ISOLATION_MODE_COMBINED, Revision: 4}); err != nil {
		t.Fatal(err)
	}
	n.state.SetNetNamespace(namespace("n", 40, 1))
	key := func(name string) policy.Key { return policy.Key{Kind: "NetworkPolicy", Namespace: "n", Name: name} }
	pods := []Pod{localPod("a", "s1", "10.128.0.5", 3), localPod("b", "s2", "10.128.0.6", 4)}
	setGroup(t, n.state, 1)
	for _, p := range pods {
		n.state.AddPod(p)
		place(t, n.state, p, 2, key("p"), key("q"))
	}
	setPolicy(t, n.state, "p", "198.51.100.1/32", 3)
	setPolicy(t, n.state, "q", "198.51.100.2/32", 3)

	m := &moments{state: n.state, last: map[string]int{}}
	applied := 0
	w := &watched{switcher: n.flows, after: func(has map[string][]openflow.Flow) {
		if applied++; m.of(has) == 0 {
			t.Errorf("after transaction %d the switch judges by what never was:\n%s", applied, judging(has))
		}
	}}
	prog := NewProgrammer(n.state, w, hclog.NewNullLogger())
	m.change(func() Change { return Change{} })
	if _, err := prog.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
	var working sync.WaitGroup
	until := time.Now().Add(3 * time.Second)
	every := func(do func(i int) Change) {
		working.Go(func() {
			for i := 1; time.Now().Before(until) && !t.Failed(); i++ {
				if err := prog.Program(t.Context(), m.change(func() Change { return do(i) })); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, name := range []string{"p", "q"} {
		every(func(i int) Change {
			return setPolicy(t, n.state, name, fmt.Sprintf("198.51.100.%d/32", i%3), uint64(i+3))
		})
	}
	every(func(i int) Change {
		if i%2 == 0 {
			return place(t, n.state, pods[0], uint64(i+3), key("p"), key("q"))
		}
		return place(t, n.state, pods[0], uint64(i+3), key("q"))
	})
	every(func(i int) Change {
		if i%2 == 0 {
			return n.state.AddPod(pods[1])
		}
		return n.state.RemovePod(pods[1])
	})
	every(func(i int) Change { return n.state.SetNetNamespace(namespace("n", 40+uint32(i%2), uint64(i))) })
	working.Wait()
	if applied < 100 {
		t.Errorf("there were only %d transactions", applied)
	}
	if err := prog.Program(t.Context(), Change{Policies: true}); err != nil {
		t.Fatal(err)
	}
	if got, want := judging(w.has), judging(n.state.CompileAll()); got != want {
		t.Errorf("in the end the switch judges by\n%s\nwant\n%s", got, want)
	}
	t.Logf("%d transactions, %d changes", applied, m.count)
}
