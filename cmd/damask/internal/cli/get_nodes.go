package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
)

const (
	// agentsAtOnce is how many agents are talked to at the same time.
	agentsAtOnce = 64
	// statusTime is how long an agent may take to tell its state. A node that is
	// off must not hold up the list of the others.
	statusTime = 3 * time.Second
)

func nodes() resource[*nodev1.NodeStatus] {
	type node = *nodev1.NodeStatus
	return resource[node]{
		plural: "nodes", aliases: []string{"node"},
		short: "show the nodes and what their agents say",
		fetch: func(ctx context.Context, s *session, name string) ([]node, error) {
			subnets, err := s.hostSubnets(ctx)
			if err != nil {
				return nil, err
			}
			return s.nodeStatuses(ctx, only(subnets, name, (*ipamv1.HostSubnet).GetName)), nil
		},
		name: node.GetNode,
		columns: []column[node]{
			{title: "NAME", cell: node.GetNode},
			{title: "READY", cell: func(n node) string {
				if n.GetReady() {
					return "yes"
				}
				return "no"
			}},
			{title: "HOST IP", cell: node.GetHostIp},
			{title: "SUBNET", cell: func(n node) string { return orDash(n.GetSubnet()) }},
			{title: "DATAPATH", cell: func(n node) string { return orDash(n.GetDatapathType()) }},
			{title: "PODS", cell: func(n node) string { return strconv.FormatUint(uint64(n.GetPods()), 10) }},
			{title: "FLOWS", cell: func(n node) string { return strconv.FormatUint(uint64(n.GetFlows()), 10) }},
			{title: "WHY NOT READY", cell: func(n node) string { return orDash(n.GetNotReadyReason()) }},
			{title: "MTU", wide: true, cell: func(n node) string { return strconv.FormatUint(uint64(n.GetMtu()), 10) }},
			{title: "WRITTEN", wide: true, cell: func(n node) string { return strconv.FormatUint(n.GetFlowsWritten(), 10) }},
			{title: "DELETED", wide: true, cell: func(n node) string { return strconv.FormatUint(n.GetFlowsDeleted(), 10) }},
			{title: "REPAIRS", wide: true, cell: func(n node) string { return strconv.FormatUint(n.GetRepairs(), 10) }},
			{title: "STARTED", wide: true, cell: func(n node) string {
				if n.GetStartTime() == nil {
					return "-"
				}
				return n.GetStartTime().AsTime().Format(time.RFC3339)
			}},
			{title: "VERSION", wide: true, cell: func(n node) string { return orDash(n.GetVersion()) }},
		},
	}
}

// nodeStatuses asks the agents, all at once. For one that does not answer it
// says so in the node's place.
func (s *session) nodeStatuses(ctx context.Context, subnets []*ipamv1.HostSubnet) []*nodev1.NodeStatus {
	statuses := make([]*nodev1.NodeStatus, len(subnets))
	eachAgent(subnets, func(i int, subnet *ipamv1.HostSubnet) {
		state, err := s.nodeStatus(ctx, subnet)
		if err != nil {
			state = &nodev1.NodeStatus{
				Node: subnet.GetName(), HostIp: strings.Join(subnet.GetHostIps(), ","), Subnet: strings.Join(subnet.GetSubnets(), ","),
				NotReadyReason: silence(err),
			}
		}
		statuses[i] = state
	})
	return statuses
}

// silence says why an agent did not tell its state.
func silence(err error) string {
	switch status.Code(err) {
	case codes.DeadlineExceeded, codes.Unavailable:
		return "the agent does not answer"
	default:
		return fmt.Sprintf("the agent does not tell: %v", explain(err))
	}
}

func (s *session) nodeStatus(ctx context.Context, subnet *ipamv1.HostSubnet) (*nodev1.NodeStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	agent, done, err := s.agent(subnet)
	if err != nil {
		return nil, err
	}
	defer done()
	answer, err := agent.GetNodeStatus(ctx, &nodev1.GetNodeStatusRequest{})
	return answer.GetStatus(), err
}

// eachAgent calls do for each node, some at once, and returns when all are done.
func eachAgent(subnets []*ipamv1.HostSubnet, do func(i int, subnet *ipamv1.HostSubnet)) {
	var working sync.WaitGroup
	places := make(chan struct{}, agentsAtOnce)
	for i, subnet := range subnets {
		places <- struct{}{}
		working.Go(func() {
			defer func() { <-places }()
			do(i, subnet)
		})
	}
	working.Wait()
}
