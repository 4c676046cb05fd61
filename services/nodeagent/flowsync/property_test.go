package flowsync

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// A worker has owners of its own and changes them at random; all workers run at once.
type worker struct {
	id   int
	want wanted
}

// step changes one or two owners. Some of the changes must be refused, and then change nothing.
func (w *worker) step(t *rapid.T) (changes []Change, refused bool) {
	for n := range rapid.IntRange(1, 2).Draw(t, "owners") {
		owner := fmt.Sprintf("pod w%d/%d", w.id, n*3+rapid.IntRange(0, 2).Draw(t, "owner"))
		var flows []openflow.Flow
		if rapid.IntRange(0, 3).Draw(t, "remove") > 0 {
			// Owners of one worker share addresses, so that a change that takes an address from another owner happens.
			flows = pod(w.id*10+rapid.IntRange(0, 4).Draw(t, "address"), rapid.Uint32Range(0, 2).Draw(t, "vnid"))
		}
		changes = append(changes, Change{owner, flows[:rapid.IntRange(0, len(flows)).Draw(t, "flows")]})
	}
	if rapid.IntRange(0, 5).Draw(t, "refused") == 0 {
		bad := openflow.Flow{Table: 99, Match: openflow.Any().Reg(0, uint32(w.id)), Actions: []openflow.Action{openflow.Group(77)}}
		changes[0].Flows = append(slices.Clone(changes[0].Flows), bad)
		refused = true
	}
	return changes, refused
}

// conflicting reports whether two owners would want the same flow.
func conflicting(want wanted) bool {
	seen := map[openflow.Key]bool{}
	for _, flows := range want {
		for _, f := range flows {
			if seen[f.Key()] {
				return true
			}
			seen[f.Key()] = true
		}
	}
	return false
}

// apply sends a step and keeps the model.
func (w *worker) apply(t *testing.T, s *Syncer, changes []Change, refused bool) {
	next := maps.Clone(w.want)
	for _, c := range changes {
		next[c.Owner] = c.Flows
	}
	err := s.Apply(t.Context(), changes...)
	var conflict *ConflictError
	var refusal *openflow.RefusedError
	switch {
	case conflicting(next):
		if !errors.As(err, &conflict) {
			t.Errorf("%v: got %v, want a conflict", changes, err)
		}
	case refused:
		if !errors.As(err, &refusal) {
			t.Errorf("%v: got %v, want a refusal", changes, err)
		}
	case err != nil:
		t.Errorf("%v: %v", changes, err)
	default:
		w.want = next
	}
}

// vandals are what others do to the switch behind our back.
var vandals = [][]string{
	{"del-flows", "br0"},
	{"del-flows", "br0", "table=70"},
	{"mod-flows", "br0", "table=20,actions=drop"},
	{"add-flow", "br0", "table=3,priority=3,ip,actions=NORMAL"},
	{"add-flow", "br0", "table=40,priority=100,cookie=1,arp,arp_tpa=10.128.0.11,actions=drop"},
	{"add-flow", "br0", "table=70,priority=100,ip,nw_dst=10.128.0.21,idle_timeout=600,actions=load:0x5->NXM_NX_REG7[],resubmit(,9)"},
	{"add-flow", "br0", "table=5,actions=learn(table=6,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])"},
}

func TestRandomHistoriesEndAsCompiledFromScratch(t *testing.T) {
	ovs, s := start(t)
	rounds := 0
	rapid.Check(t, func(rt *rapid.T) {
		rounds++
		reconcile(t, s, wanted{})
		history(t, rt, ovs, s)
	})
	if rounds == 0 {
		t.Error("no history was run")
	}
}

// history runs some workers, a vandal and an auditor at once, and compares when all are done.
func history(t *testing.T, rt *rapid.T, ovs *ovstest.Switch, s *Syncer) {
	type script struct {
		changes []Change
		refused bool
	}
	var wait sync.WaitGroup
	workers := make([]*worker, 3)
	for i := range workers {
		w := &worker{id: i, want: wanted{}}
		workers[i] = w
		var steps []script
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			changes, refused := w.step(rt)
			if len(changes) == 2 && changes[0].Owner == changes[1].Owner {
				changes = changes[:1]
			}
			steps = append(steps, script{changes, refused})
		}
		wait.Go(func() {
			for _, step := range steps {
				w.apply(t, s, step.changes, step.refused)
			}
		})
	}
	vandalism := rapid.SliceOfN(rapid.SampledFrom(vandals), 0, 2).Draw(rt, "vandalism")
	wait.Go(func() {
		for _, args := range vandalism {
			ovs.Ofctl(t, args...)
		}
	})
	audits := rapid.IntRange(0, 3).Draw(rt, "audits")
	wait.Go(func() {
		for range audits {
			if _, err := s.Reconcile(t.Context(), nil); err != nil {
				t.Error(err)
			}
		}
	})
	wait.Wait()
	want := wanted{}
	for _, w := range workers {
		maps.Copy(want, w.want)
	}
	reconcile(t, s, nil)
	if got, want := installed(t, s), scratch(want); got != want {
		rt.Fatalf("the switch has\n%s\nwant\n%s", got, want)
	}
	if diff := reconcile(t, s, want); !diff.Empty() {
		rt.Fatalf("then still differs: %+v", diff)
	}
	if got, lines := s.Size(), strings.Count(installed(t, s), "table="); got != lines {
		rt.Fatalf("size got %d, want %d", got, lines)
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	for key, r := range s.table.records {
		if r.busy || r.owner == nil {
			rt.Fatalf("record of %s is left over: %+v", key, *r)
		}
	}
}

func TestAuditsBesideChangesRepairNothing(t *testing.T) {
	_, s := start(t)
	base := wanted{"base": {{Table: 0}, {Table: 253}}}
	reconcile(t, s, base)
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for w := range 4 {
		wait.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				owner := fmt.Sprintf("pod w%d/%d", w, n%5)
				if err := s.Apply(t.Context(), Change{owner, pod(w*10+n%5, uint32(n))[:n%4]}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 200 {
		if diff := reconcile(t, s, nil); !diff.Empty() {
			t.Errorf("got %+v, want nothing to repair", diff)
			break
		}
	}
	close(stop)
	wait.Wait()
	if diff := reconcile(t, s, nil); !diff.Empty() {
		t.Errorf("at last got %+v", diff)
	}
}
