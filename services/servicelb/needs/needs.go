// Package needs takes back what is stored of idled services' need for pods once they
// have it no more.
//
// It owns the end of the objects needpods.<namespace>.<name>; package catalog stores
// them. It promises that such an object goes when its service has an endpoint that
// takes connections, lost the annotation, or is gone, whatever was committed at the
// same time. Looking twice writes nothing, so every replica looks. A service that
// nobody needs costs nothing here. It must not make such objects, nor start pods.
package needs

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
)

const (
	// retryAfter is the pause after a look that did not work.
	retryAfter = 2 * time.Second
	// lookTime bounds a look.
	lookTime = 10 * time.Second
)

// Needed is the services that need pods, and which of them have to be looked at. It
// is safe for concurrent use.
type Needed struct {
	mu       sync.Mutex
	needed   map[catalog.Name]bool
	look     map[catalog.Name]bool
	revision uint64 // of the newest change that made a service be looked at
	wake     chan struct{}
}

// New returns an empty set.
func New() *Needed {
	return &Needed{needed: map[catalog.Name]bool{}, look: map[catalog.Name]bool{}, wake: make(chan struct{}, 1)}
}

// Count is how many services need pods.
func (n *Needed) Count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.needed)
}

// Observe takes over changes of the bucket; after a reset they are all there is.
func (n *Needed) Observe(changes []bucket.Change, reset bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if reset {
		clear(n.needed)
		n.revision = 0 // it may be another store
	}
	for _, c := range changes {
		if name, ok := catalog.NameOfKey(c.Key, "needpods"); ok {
			if c.Deleted {
				delete(n.needed, name)
				continue
			}
			n.needed[name] = true
			n.mark(name, c.Revision)
			continue
		}
		if len(n.needed) == 0 {
			continue // a need that comes later is looked at then
		}
		if name, ok := n.concerned(c); ok && n.needed[name] {
			n.mark(name, c.Revision)
		}
	}
}

// concerned answers the service whose need a change may end. The end of a slice ends
// no need.
func (n *Needed) concerned(c bucket.Change) (catalog.Name, bool) {
	if name, ok := catalog.NameOfKey(c.Key, "service"); ok {
		return name, true
	}
	name, ok := catalog.NameOfKey(c.Key, "endpointslice")
	slice := &servicelbv1.EndpointSlice{}
	if !ok || c.Deleted || proto.Unmarshal(c.Value, slice) != nil {
		return catalog.Name{}, false
	}
	return catalog.Name{Namespace: name.Namespace, Name: slice.GetServiceName()}, true
}

// mark names a service that has to be looked at.
func (n *Needed) mark(name catalog.Name, revision uint64) {
	n.look[name] = true
	n.revision = max(n.revision, revision)
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// take answers what has to be looked at, once the view has reached the revision.
func (n *Needed) take() (names []catalog.Name, revision uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	names = slices.Collect(maps.Keys(n.look))
	clear(n.look)
	return names, n.revision
}

// again names services without waking anybody: whoever failed pauses first.
func (n *Needed) again(names []catalog.Name) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range names {
		n.look[name] = true
	}
}

// store is the part of the catalog that is needed here.
type store interface {
	SettleNeed(ctx context.Context, name catalog.Name) (settled bool, err error)
	Reach(ctx context.Context, revision uint64) error
}

// Run looks until ctx ends. The store's view has caught up before.
func Run(ctx context.Context, s store, needed *Needed, log hclog.Logger) {
	log = log.Named("needs")
	failing := false
	for {
		err := once(ctx, s, needed, log)
		if ctx.Err() != nil {
			return
		}
		retry := (<-chan time.Time)(nil)
		if err != nil {
			retry = time.After(retryAfter)
			if !failing {
				log.Warn("needs for pods stay for now, trying again", "error", err)
			}
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-needed.wake:
		case <-retry:
		}
	}
}

// once looks at what has to be looked at. Where that does not work, it is looked at
// again.
func once(ctx context.Context, s store, needed *Needed, log hclog.Logger) error {
	names, revision := needed.take()
	if len(names) == 0 {
		return nil
	}
	if err := s.Reach(ctx, revision); err != nil {
		return err // ctx has ended
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	for i, name := range names {
		settled, err := s.SettleNeed(ctx, name)
		if err != nil {
			needed.again(names[i:])
			return err
		}
		if settled {
			log.Info("service needs no pods any more", "namespace", name.Namespace, "service", name.Name)
		}
	}
	return nil
}
