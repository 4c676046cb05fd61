package egress

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/replicatest"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// TestTheReplicaThatDecidesIsReplacedWhenItIsKilled kills each of two replicas
// in turn, so that one of them was deciding, while a node dies at the same
// moment.
func TestTheReplicaThatDecidesIsReplacedWhenItIsKilled(t *testing.T) {
	sys, f := newSystem(t), newFabric(t)
	tls := sys.ca.Files(t, identitytest.Service(t, serviceName))
	var processes []*replicatest.Replica
	for i := range 2 {
		p, address := startProcess(t, i+1, tls, sys)
		processes, sys.replica = append(processes, p), append(sys.replica, address)
	}
	op := sys.as(identity.Operator("ann"))
	sys.ipam.register(6)
	kill := map[string]func(){}
	for n := 1; n <= 6; n++ {
		name := fmt.Sprintf("n%d", n)
		kill[name] = sys.startAgent(f, name, fmt.Sprintf("192.0.2.%d/24", 100+n))
		again(t, func(ctx context.Context) error {
			_, err := op.SetHostSubnetEgress(ctx, &egressv1.SetHostSubnetEgressRequest{HostSubnetEgress: &egressv1.HostSubnetEgress{Node: name, EgressIps: []string{"192.0.2.7"}}})
			return err
		})
	}
	sys.tenancy.netid("shop", 42)
	op.want(t, "shop", "192.0.2.7")
	f.until("n1", "192.0.2.7")
	var took []time.Duration
	for i, p := range processes {
		at, next := fmt.Sprintf("n%d", i+1), fmt.Sprintf("n%d", i+2)
		sys.told("shop", "hosted by "+at, hostedBy(at))
		p.Kill()
		kill[at]()
		took = append(took, f.until(next, "192.0.2.7"))
		p.Restart()
	}
	slices.Sort(took)
	t.Logf("a node dies, and a replica with it: the next node holds the address after %v", took)
	if took[1] > 8*time.Second {
		t.Errorf("the slowest took %v", took[1])
	}
	// A node that is released, and comes back, begins anew.
	sys.ipam.release("n1")
	for ctx := soon(t); ; {
		page, err := op.ListEgressNodes(ctx, &egressv1.ListEgressNodesRequest{Nodes: []string{"n1"}})
		if err != nil {
			t.Fatalf("n1 is still known: %v", err)
		}
		if len(page.GetEgressNodes()) == 0 {
			break
		}
	}
}
