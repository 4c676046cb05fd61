package nodeagent

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/rpcerr"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

// registerTimeout bounds one call; ipam answers in milliseconds or not at all.
const registerTimeout = 5 * time.Second

// registration keeps this node registered with ipam: once at start, and again
// whenever its HostSubnet is released while the node lives.
type registration struct {
	client  ipamv1.HostSubnetServiceClient
	request *ipamv1.AllocateHostSubnetRequest
	again   chan struct{}
	log     hclog.Logger
}

func newRegistration(client ipamv1.HostSubnetServiceClient, cfg Config, log hclog.Logger) *registration {
	request := &ipamv1.AllocateHostSubnetRequest{Node: cfg.Node, NodeUid: cfg.NodeUID, HostIps: []string{cfg.HostIP.String()}}
	for _, subnet := range cfg.RequestedSubnets {
		request.RequestedSubnets = append(request.RequestedSubnets, subnet.String())
	}
	return &registration{client: client, request: request, again: make(chan struct{}, 1), log: log}
}

// Again asks for another registration. It never blocks.
func (r *registration) Again() {
	select {
	case r.again <- struct{}{}:
	default:
	}
}

// Run registers until it has worked, and again when asked. What ipam answers
// reaches the agent as every other change does: by following. A refusal is
// repeated too, because what refuses (a missing plan, a full range) is mended
// by people while the node waits.
func (r *registration) Run(ctx context.Context) error {
	for {
		r.untilRegistered(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-r.again:
		}
	}
}

func (r *registration) untilRegistered(ctx context.Context) {
	pause, said := retryFirst, ""
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, registerTimeout)
		answer, err := r.client.AllocateHostSubnet(call, r.request)
		cancel()
		if err == nil {
			r.log.Info("registered", "subnets", answer.GetHostSubnet().GetSubnets(), "revision", answer.GetHostSubnet().GetRevision())
			return
		}
		if reason := rpcerr.Message(err); reason != said && ctx.Err() == nil {
			r.log.Warn("not registered, trying again", "error", err)
			said = reason
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(2*pause, retryMost)
		}
	}
}
