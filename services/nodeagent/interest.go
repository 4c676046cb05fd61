package nodeagent

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/damask-sdn/damask/services/nodeagent/intent"
)

// wanting is the part of a follower that interest decides about.
type wanting interface {
	Want(name string)
	Drop(name string)
}

// firstPod is how long the first pod of a namespace waits for egress, which answers in
// milliseconds or not at all.
const firstPod = 500 * time.Millisecond

// leaving is told of the namespaces of which this node has pods (egress, firewalls).
type leaving interface {
	podsWant(namespace string)
	podsDrop(namespace string)
	// known waits until it is known how a namespace leaves, or ctx ends.
	known(ctx context.Context, namespace string)
}

// interest is which namespaces the node follows, and for whom: those of its pods, and
// those of all services. One is followed as long as anybody wants
// it.
type interest struct {
	namespaces wanting
	state      *intent.State
	queue      func(intent.Change)
	leaving    []leaving // none: nobody asks how pods leave

	mu       sync.Mutex
	pods     map[string]bool
	services map[string]bool
}

func newInterest(namespaces wanting, state *intent.State, queue func(intent.Change)) *interest {
	return &interest{namespaces: namespaces, state: state, queue: queue, pods: map[string]bool{}, services: map[string]bool{}}
}

// podsWant follows a namespace for pods.
func (i *interest) podsWant(namespace string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.pods[namespace] = true
	i.namespaces.Want(namespace)
	for _, l := range i.leaving {
		l.podsWant(namespace)
	}
}

// leavingKnown waits, not long, until it is known how pods of the namespace leave.
func (i *interest) leavingKnown(ctx context.Context, namespace string) {
	ctx, cancel := context.WithTimeout(ctx, firstPod)
	defer cancel()
	for _, l := range i.leaving {
		l.known(ctx, namespace)
	}
}

// podsDrop ends that.
func (i *interest) podsDrop(namespace string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.pods, namespace)
	i.dropUnwanted(namespace)
	for _, l := range i.leaving {
		l.podsDrop(namespace)
	}
}

// servicesWant follows exactly these namespaces for services.
func (i *interest) servicesWant(namespaces []string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, namespace := range namespaces {
		if !i.services[namespace] {
			i.services[namespace] = true
			i.namespaces.Want(namespace)
		}
	}
	for namespace := range i.services {
		if _, still := slices.BinarySearch(namespaces, namespace); !still {
			delete(i.services, namespace)
			i.dropUnwanted(namespace)
		}
	}
}

// dropUnwanted stops following what nobody wants. The caller holds the lock.
func (i *interest) dropUnwanted(namespace string) {
	if i.pods[namespace] || i.services[namespace] {
		return
	}
	i.namespaces.Drop(namespace)
	i.queue(i.state.DeleteNetNamespace(namespace))
}

// Run follows for services what they need, until ctx ends.
func (i *interest) Run(ctx context.Context) error {
	for {
		i.servicesWant(i.state.ServiceNamespaces())
		select {
		case <-ctx.Done():
			return nil
		case <-i.state.ServiceNamespacesChanged():
		}
	}
}
