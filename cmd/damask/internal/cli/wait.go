package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

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
	asking, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	subnets, err := s.hostSubnets(asking)
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
	waiting, cancel := leavingTimeToAsk(ctx)
	defer cancel()
	for _, o := range objects {
		_, err := agent.WaitProgrammed(waiting, &nodev1.WaitProgrammedRequest{Kind: o.kind, Name: o.name, Revision: o.revision})
		if err != nil {
			return fmt.Errorf("%s %s: %s", o.kind, o.name, lag(ctx, agent, o, err))
		}
	}
	return nil
}

// leavingTimeToAsk ends a little before ctx: who waited in vain asks for the
// reason, because the node's own answer comes with the deadline, too late.
func leavingTimeToAsk(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Second, time.Until(deadline)/4)))
}

// lag says why a node has not programmed an object, as far as it tells.
func lag(ctx context.Context, agent nodev1.NodeServiceClient, o object, waited error) string {
	answer, err := agent.ListObjects(ctx, &nodev1.ListObjectsRequest{}, grpc.MaxCallRecvMsgSize(maxAnswer))
	if err != nil {
		return "the agent does not answer"
	}
	for _, status := range answer.GetObjects() {
		switch {
		case status.GetKind() != o.kind || status.GetName() != o.name:
		case status.GetError() != "":
			return status.GetError()
		default:
			return fmt.Sprintf("revision %d is in force, not yet %d", status.GetRevisionProgrammed(), o.revision)
		}
	}
	return explain(waited).Error()
}

// count prints "1 node", "3 nodes".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
