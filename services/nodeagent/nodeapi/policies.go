package nodeapi

import (
	"context"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	"github.com/damask-sdn/damask/internal/rpcerr"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
)

// ListPolicyCounters answers what policies have let pass and stopped.
func (s *Server) ListPolicyCounters(ctx context.Context, _ *nodev1.ListPolicyCountersRequest) (*nodev1.ListPolicyCountersResponse, error) {
	installed, err := s.Switch.Dump(ctx)
	if err != nil {
		return nil, rpcerr.New(codes.Unavailable, domain, "NODE_NOT_READY", fmt.Sprintf("dump the flows of br0: %v", err), nil)
	}
	answer := &nodev1.ListPolicyCountersResponse{}
	for _, c := range s.State.PolicyCounters(installed) {
		row := &nodev1.PolicyCounter{
			Rule: uint32(c.Rule), Pod: c.Pod, Direction: c.Direction.String(), Connections: c.Connections, Packets: c.Packets,
		}
		if c.Policy != (policy.Key{}) {
			row.Policy = policywire.PolicyName(c.Policy)
		}
		answer.Counters = append(answer.Counters, row)
	}
	return answer, nil
}
