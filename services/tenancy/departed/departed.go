// Package departed drops the pods of nodes that left the cluster for good.
//
// It owns the decision that a node is gone: its HostSubnet was released, and
// nobody registered under its name since. It promises that no pod of a
// registered node is missing after that node's report, however many replicas
// look at once (registry.Suspicion says why), and that nothing is dropped while
// ipam does not answer. A name that another machine took over needs nothing
// from here: the first report of that machine's agent leaves only its own pods.
// It must not write to ipam.
package departed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/tenancy/registry"
)

const (
	// lookEvery is how often nodes are compared without any event: an agent that
	// does not know yet that its node was released may report pods after they
	// were dropped. The comparison is in memory.
	lookEvery = 30 * time.Second
	// retryAfter is the pause after a look that did not work.
	retryAfter = 2 * time.Second
	// callTime bounds what is asked and written for one node.
	callTime = 10 * time.Second
)

// pods is the part of the registry that drops.
type pods interface {
	Nodes() []string
	Suspect(ctx context.Context, node string) (registry.Suspicion, bool, error)
	Drop(ctx context.Context, s registry.Suspicion) (int, error)
}

// members is a copy of ipam's HostSubnets, which may lag.
type members interface {
	Synced(ctx context.Context) error
	Get(node string) (*ipamv1.HostSubnet, bool)
}

// authority is asked what is true now.
type authority interface {
	GetHostSubnet(context.Context, *ipamv1.GetHostSubnetRequest, ...grpc.CallOption) (*ipamv1.GetHostSubnetResponse, error)
}

// Collector drops the pods of nodes that are gone.
type Collector struct {
	pods    pods
	members members
	ipam    authority
	dropped func(pods int)
	log     hclog.Logger
	wake    chan struct{}
}

// left says that a node may have left. It never blocks.
func (c *Collector) left() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// look looks at all nodes whenever one may have left, until ctx ends.
func (c *Collector) look(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	failing := false
	for {
		if c.members.Synced(ctx) != nil {
			return nil // ctx has ended
		}
		err := c.once(ctx)
		if ctx.Err() != nil {
			return nil
		}
		retry := (<-chan time.Time)(nil)
		if err != nil {
			retry = time.After(retryAfter)
			if !failing {
				c.log.Warn("pods of departed nodes stay for now, trying again", "error", err)
			}
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		case <-tick.C:
		case <-retry:
		}
	}
}

// errAway is an error of ipam: there is no use in asking for the next node.
var errAway = errors.New("ipam does not tell")

// once drops the pods of each node that is not registered.
func (c *Collector) once(ctx context.Context) error {
	var problems []error
	for _, node := range c.pods.Nodes() {
		if _, registered := c.members.Get(node); registered || node == "" { // "": the record cannot be read
			continue
		}
		n, err := c.drop(ctx, node)
		if n > 0 {
			c.dropped(n)
			c.log.Info("dropped the pods of a node that is gone", "node", node, "pods", n)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("node %s: %w", node, err))
		}
		if errors.Is(err, errAway) {
			break
		}
	}
	return errors.Join(problems...)
}

// drop drops a node's pods if the node is gone. The first question keeps a node
// that is just so new that the copy lacks it from being marked; the second is
// the one that counts.
func (c *Collector) drop(ctx context.Context, node string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if gone, err := c.gone(ctx, node); err != nil || !gone {
		return 0, err
	}
	suspicion, any, err := c.pods.Suspect(ctx, node)
	if err != nil || !any {
		return 0, err
	}
	if gone, err := c.gone(ctx, node); err != nil || !gone {
		return 0, err
	}
	return c.pods.Drop(ctx, suspicion)
}

// gone asks ipam. Its NOT_FOUND is true at some moment of the call.
func (c *Collector) gone(ctx context.Context, node string) (bool, error) {
	_, err := c.ipam.GetHostSubnet(ctx, &ipamv1.GetHostSubnetRequest{Node: node})
	if status.Code(err) == codes.NotFound {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: %w", errAway, err)
	}
	return false, nil
}
