package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/damask-sdn/damask/internal/rpcerr"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
)

// object is something that nodes program, at a revision.
type object struct {
	kind, name string
	revision   uint64
}

// inForce returns when every node has programmed the objects, or does not
// follow them. It answers how many nodes there are, and an error that names
// each node that lags, with what the node says of it.
func (s *session) inForce(ctx context.Context, objects []object) (int, error) {
	subnets, err := s.hostSubnets(ctx)
	if err != nil {
		return 0, fmt.Errorf("the change is stored, but which nodes there are is not known: %w", explain(err))
	}
	var mu sync.Mutex
	var lagging []string
	eachAgent(subnets, func(_ int, subnet *ipamv1.HostSubnet) {
		if err := s.inForceOn(ctx, subnet, objects); err != nil {
			mu.Lock()
			defer mu.Unlock()
			lagging = append(lagging, fmt.Sprintf("  %s: %v", subnet.GetName(), err))
		}
	})
	if len(lagging) == 0 {
		return len(subnets), nil
	}
	slices.Sort(lagging)
	return len(subnets), fmt.Errorf("the change is stored, but not yet in force on %d of %d nodes:\n%s",
		len(lagging), len(subnets), strings.Join(lagging, "\n"))
}

// inForceOn waits for one node.
func (s *session) inForceOn(ctx context.Context, subnet *ipamv1.HostSubnet, objects []object) error {
	agent, done, err := s.agent(subnet)
	if err != nil {
		return err
	}
	defer done()
	for _, o := range objects {
		_, err := agent.WaitProgrammed(ctx, &nodev1.WaitProgrammedRequest{Kind: o.kind, Name: o.name, Revision: o.revision})
		if err != nil {
			return fmt.Errorf("%s %s: %s", o.kind, o.name, rpcerr.Message(err))
		}
	}
	return nil
}

// count prints "1 node", "3 nodes".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
