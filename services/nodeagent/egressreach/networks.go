package egressreach

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// callTime bounds one call of ReportNetworks.
const callTime = 5 * time.Second

// networker is what is used of egress here.
type networker interface {
	ReportNetworks(ctx context.Context, r *egressv1.ReportNetworksRequest, opts ...grpc.CallOption) (*egressv1.ReportNetworksResponse, error)
}

// Networks tells egress which networks a node is in.
type Networks struct {
	node     string
	client   networker
	networks func(ctx context.Context) ([]netip.Prefix, error)
	changed  <-chan struct{}
	log      hclog.Logger
	again    chan struct{}
}

// NewNetworks makes one that tells what networks answers: at the start of Run, and when
// changed says that this may be something else.
func NewNetworks(node string, egress grpc.ClientConnInterface, networks func(ctx context.Context) ([]netip.Prefix, error), changed <-chan struct{}, log hclog.Logger) *Networks {
	return &Networks{
		node: node, client: egressv1.NewEgressNodeServiceClient(egress), networks: networks, changed: changed, log: log,
		again: make(chan struct{}, 1),
	}
}

// Again has them told again: egress forgets the networks of a node that ipam does not
// know, so this is for when the node has registered there. It never blocks.
func (n *Networks) Again() {
	select {
	case n.again <- struct{}{}:
	default:
	}
}

// Run tells until ctx ends.
func (n *Networks) Run(ctx context.Context) error {
	var told []string // nil: nothing yet, or it may be forgotten
	pause := retryFirst
	for {
		next, err := n.tell(ctx, told)
		retry := (<-chan time.Time)(nil)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if pause == retryFirst {
				n.log.Warn("egress does not know this node's networks, trying again", "error", err)
			}
			retry = time.After(pause)
			pause = min(2*pause, retryMost)
		} else {
			told, pause = next, retryFirst
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.changed:
		case <-n.again:
			told = nil
		case <-retry:
		}
	}
}

// tell tells what is not told, and answers what is.
func (n *Networks) tell(ctx context.Context, told []string) ([]string, error) {
	networks, err := n.networks(ctx)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, p := range networks {
		list = append(list, p.String())
	}
	if told != nil && slices.Equal(list, told) {
		return told, nil
	}
	call, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if _, err := n.client.ReportNetworks(call, &egressv1.ReportNetworksRequest{Node: n.node, Networks: list}); err != nil {
		return nil, fmt.Errorf("report networks: %w", err)
	}
	n.log.Info("egress knows this node's networks", "networks", list)
	return list, nil
}
