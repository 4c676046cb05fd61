package egress

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/identity"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// asks opens a node's streams to all replicas, asks on each whether it may host, and sends
// every answer to the question, and every list of observers.
func (s *system) asks(node string) (may <-chan uint64, observers <-chan []string) {
	answers, lists := make(chan uint64, 1000), make(chan []string, 1000)
	for _, address := range s.replica {
		client := s.as(identity.Node(node), address)
		background(s.t, func(ctx context.Context) error {
			stream, err := client.ReportReachability(ctx)
			if err != nil {
				return nil //nolint:nilerr // nobody is answered
			}
			go func() {
				for stream.Send(&egressv1.ReportReachabilityRequest{AsksToHost: true}) == nil {
					select {
					case <-ctx.Done():
						return
					case <-time.After(50 * time.Millisecond):
					}
				}
			}()
			for {
				r, err := stream.Recv()
				if err != nil {
					return nil //nolint:nilerr // the test is over
				}
				if fence := r.GetFence().AsDuration(); fence <= 0 || fence >= r.GetPatience().AsDuration() {
					s.t.Errorf("the fence is %s, the patience %s", fence, r.GetPatience().AsDuration())
				}
				if r.MayHost != nil {
					answers <- r.GetMayHost()
				}
				if r.GetObservers() != nil {
					var names []string
					for _, o := range r.GetObservers().GetObservers() {
						names = append(names, o.GetNode())
					}
					lists <- names
				}
			}
		})
	}
	return answers, lists
}

// next waits for what is sent and right.
func next[T any](t *testing.T, what string, from <-chan T, right func(T) bool) {
	t.Helper()
	for ctx := soon(t); ; {
		select {
		case got := <-from:
			if right(got) {
				return
			}
		case <-ctx.Done():
			t.Fatalf("never told: %s", what)
		}
	}
}

// TestANodeMayHostOnlyWhileItCountsAsAlive has a node that asks all the time, of which others say
// whether it answers.
func TestANodeMayHostOnlyWhileItCountsAsAlive(t *testing.T) {
	sys, f, _ := cluster(t, 2, 4)
	const asker = "n5"
	sys.ipam.register(5)
	op := sys.operator()
	op.offer(t, &egressv1.HostSubnetEgress{Node: asker, EgressIps: []string{"192.0.2.7"}})
	if _, err := sys.as(identity.Node(asker)).ReportNetworks(soon(t), &egressv1.ReportNetworksRequest{Node: asker, Networks: []string{"192.0.2.105/24"}}); err != nil {
		t.Fatal(err)
	}
	may, observers := sys.asks(asker)
	next(t, "it may host, and hosts nothing", may, func(revision uint64) bool { return revision == 0 })
	next(t, "its observers", observers, func(names []string) bool { return slices.Equal(names, []string{"n1", "n2", "n3", "n4"}) })
	sys.tenancy.netid("shop", 42)
	op.want(t, "shop", "192.0.2.7")
	sys.told("shop", "hosted by "+asker, hostedBy(asker))
	page, err := op.ListEgressHostings(soon(t), &egressv1.ListEgressHostingsRequest{Nodes: []string{asker}})
	if err != nil {
		t.Fatal(err)
	}
	next(t, "it may host as of that revision", may, func(revision uint64) bool { return revision >= page.GetEgressHostings()[0].GetRevision() })
	f.mu.Lock()
	f.dead[asker] = true
	f.mu.Unlock()
	health := func(want egressv1.NodeHealth) {
		t.Helper()
		for ctx := soon(t); ; {
			page, err := op.ListEgressNodes(ctx, &egressv1.ListEgressNodesRequest{Nodes: []string{asker}})
			if err != nil {
				t.Fatalf("%s is never %s: %v", asker, want, err)
			}
			if page.GetEgressNodes()[0].GetHealth() == want {
				return
			}
		}
	}
	health(egressv1.NodeHealth_NODE_HEALTH_DOWN)
	for len(may) > 0 {
		<-may // of before
	}
	f.mu.Lock()
	delete(f.dead, asker)
	f.mu.Unlock()
	health(egressv1.NodeHealth_NODE_HEALTH_RETURNING)
	if len(may) > 0 {
		t.Error("it may host and is not trusted")
	}
	health(egressv1.NodeHealth_NODE_HEALTH_UP)
	next(t, "it may host again", may, func(uint64) bool { return true })
}
