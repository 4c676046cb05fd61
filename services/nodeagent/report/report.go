// Package report tells the tenancy service which pods run on this node.
//
// It owns what the pod registry has been told. It promises that the registry
// comes to hold exactly the node's pods, however long the service was away,
// that it is told nothing before this node's agent knows them, and that no pod
// ever waits for it. It must not be on any path of a packet or of a CNI call.
package report

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

const (
	// callTimeout bounds one call to the service.
	callTimeout = 5 * time.Second
	// retryFirst and retryMost bound the pause before a failed report is
	// repeated; it doubles in between.
	retryFirst = 200 * time.Millisecond
	retryMost  = 10 * time.Second
	// many is from how many differences on all pods are reported at once: the
	// service compares faster than it is called.
	many = 16
)

// registry is the part of the service's API that an agent uses.
type registry interface {
	RegisterPod(context.Context, *tenancyv1.RegisterPodRequest, ...grpc.CallOption) (*tenancyv1.RegisterPodResponse, error)
	UnregisterPod(context.Context, *tenancyv1.UnregisterPodRequest, ...grpc.CallOption) (*tenancyv1.UnregisterPodResponse, error)
	SyncNodePods(context.Context, *tenancyv1.SyncNodePodsRequest, ...grpc.CallOption) (*tenancyv1.SyncNodePodsResponse, error)
}

// Reporter reports the pods of one node.
type Reporter struct {
	node     string
	registry registry
	pods     func() []*tenancyv1.Pod
	log      hclog.Logger
	wake     chan struct{}
	begun    chan struct{}
	begin    sync.Once
	again    atomic.Bool // what the registry was told may not be there any more
}

// New returns a reporter; pods answers what runs here at the moment.
func New(node string, r registry, pods func() []*tenancyv1.Pod, log hclog.Logger) *Reporter {
	return &Reporter{node: node, registry: r, pods: pods, log: log, wake: make(chan struct{}, 1), begun: make(chan struct{})}
}

// Begin says that the node's pods are known from now on. On a node that another network's
// agent has still, they are that one's, and known to policies by what the cluster says of
// them: a report that there are none would end that. It never blocks.
func (r *Reporter) Begin() { r.begin.Do(func() { close(r.begun) }) }

// Changed says that pods came or went. It never blocks.
func (r *Reporter) Changed() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Again has all pods reported again. The registry drops the pods of a node that
// ipam does not know, so this is for when the node has registered there: see
// PodRegistryService. It never blocks.
func (r *Reporter) Again() {
	r.again.Store(true)
	r.Changed()
}

// Run reports from Begin until ctx ends. It begins, and after every failure begins again,
// with all pods at once: only then is it known what the registry holds.
func (r *Reporter) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-r.begun:
	}
	var told map[string]*tenancyv1.Pod // by sandbox; nil: not known
	pause := retryFirst
	for {
		var err error
		if r.again.Swap(false) {
			told = nil
		}
		if told == nil {
			told, err = r.all(ctx)
		} else {
			err = r.differences(ctx, told)
		}
		retry := (<-chan time.Time)(nil)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			if pause == retryFirst {
				r.log.Warn("pods not reported, trying again", "error", err)
			}
			told = nil
			retry = time.After(pause)
			pause = min(2*pause, retryMost)
		} else {
			pause = retryFirst
		}
		select {
		case <-ctx.Done():
			return nil
		case <-retry:
		case <-r.onlyWhenWell(err):
		}
	}
}

// onlyWhenWell answers the wake-up channel, or nothing after a failure: then
// the pause must be kept, and all pods are reported in any case.
func (r *Reporter) onlyWhenWell(err error) <-chan struct{} {
	if err != nil {
		return nil
	}
	return r.wake
}

func (r *Reporter) all(ctx context.Context) (map[string]*tenancyv1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pods := r.pods()
	if _, err := r.registry.SyncNodePods(ctx, &tenancyv1.SyncNodePodsRequest{Node: r.node, Pods: pods}); err != nil {
		return nil, fmt.Errorf("report all pods: %w", err)
	}
	told := make(map[string]*tenancyv1.Pod, len(pods))
	for _, p := range pods {
		told[p.GetSandboxId()] = p
	}
	return told, nil
}

// differences reports what is not as it was told, and updates told.
func (r *Reporter) differences(ctx context.Context, told map[string]*tenancyv1.Pod) error {
	var came []*tenancyv1.Pod
	gone := maps.Clone(told)
	for _, p := range r.pods() {
		id := p.GetSandboxId()
		delete(gone, id)
		if !proto.Equal(told[id], p) {
			came = append(came, p)
		}
	}
	if len(came)+len(gone) > many {
		now, err := r.all(ctx)
		if err != nil {
			return err
		}
		clear(told)
		maps.Copy(told, now)
		return nil
	}
	for _, p := range came {
		if err := r.up(ctx, p); err != nil {
			return err
		}
		told[p.GetSandboxId()] = p
	}
	for id, p := range gone {
		if err := r.down(ctx, p); err != nil {
			return err
		}
		delete(told, id)
	}
	return nil
}

func (r *Reporter) up(ctx context.Context, p *tenancyv1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := r.registry.RegisterPod(ctx, &tenancyv1.RegisterPodRequest{Pod: p}); err != nil {
		return fmt.Errorf("report pod %s/%s: %w", p.GetNamespace(), p.GetName(), err)
	}
	return nil
}

func (r *Reporter) down(ctx context.Context, p *tenancyv1.Pod) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	request := &tenancyv1.UnregisterPodRequest{Namespace: p.GetNamespace(), Name: p.GetName(), Node: r.node, SandboxId: p.GetSandboxId()}
	if _, err := r.registry.UnregisterPod(ctx, request); err != nil {
		return fmt.Errorf("report the end of pod %s/%s: %w", p.GetNamespace(), p.GetName(), err)
	}
	return nil
}
