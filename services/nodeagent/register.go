package nodeagent

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/rpcerr"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
)

const (
	// registerTimeout bounds one call; ipam answers in milliseconds or not at all.
	registerTimeout = 5 * time.Second
	// firstTimeout bounds the first call. So long a node that starts while ipam
	// is away waits before it trusts what it knew when it last ran.
	firstTimeout = 2 * time.Second
)

// registration keeps this node registered with ipam: once at start, and again
// whenever its HostSubnet is released while the node lives.
//
// It also keeps pods from getting addresses of a subnet that the node has lost:
// what the node knew when it last ran may be long over, and what is followed
// may come a moment later than ipam's own answer. See Missing.
type registration struct {
	client     ipamv1.HostSubnetServiceClient
	request    *ipamv1.AllocateHostSubnetRequest
	again      chan struct{}
	wake       func() // asks for a pass: Missing answers something else
	registered func() // ipam has answered
	log        hclog.Logger

	mu       sync.Mutex
	asking   bool         // ipam has not answered yet, and may well do so soon
	answered netip.Prefix // ipam's last answer, until the state has it
}

func newRegistration(client ipamv1.HostSubnetServiceClient, cfg Config, log hclog.Logger) *registration {
	request := &ipamv1.AllocateHostSubnetRequest{Node: cfg.Node, NodeUid: cfg.NodeUID, HostIps: []string{cfg.HostIP.String()}}
	for _, subnet := range cfg.RequestedSubnets {
		request.RequestedSubnets = append(request.RequestedSubnets, subnet.String())
	}
	return &registration{client: client, request: request, again: make(chan struct{}, 1), asking: true, log: log}
}

// Missing says what has to be known before this subnet, which is the state's,
// can be trusted. Nothing when ipam is away.
func (r *registration) Missing(own netip.Prefix) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.asking:
		return []string{"ipam's answer which subnet this node has"}
	case r.answered.IsValid() && r.answered != own:
		return []string{"the change to subnet " + r.answered.String()}
	}
	r.answered = netip.Prefix{} // from here on what is followed is newer
	return nil
}

// settle notes the end of a call: with an answer, or without.
func (r *registration) settle(answer *ipamv1.HostSubnet) {
	r.mu.Lock()
	r.asking = false
	if subnets := answer.GetSubnets(); len(subnets) > 0 {
		r.answered, _ = netip.ParsePrefix(subnets[0]) // the state refuses what is no subnet
	}
	r.mu.Unlock()
	r.wake()
}

// Again asks for another registration, and stops pods from being added until
// then. It never blocks.
func (r *registration) Again() {
	r.mu.Lock()
	r.asking = true
	r.mu.Unlock()
	r.wake()
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
	pause, said, patience := retryFirst, "", firstTimeout
	for ctx.Err() == nil {
		call, cancel := context.WithTimeout(ctx, patience)
		answer, err := r.client.AllocateHostSubnet(call, r.request)
		cancel()
		patience = registerTimeout
		r.settle(answer.GetHostSubnet())
		if err == nil {
			r.registered()
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
