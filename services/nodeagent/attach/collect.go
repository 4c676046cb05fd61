package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/bridge"
	"github.com/damask-sdn/damask/services/nodeagent/lease"
)

// collectWidth is how many attachments are detached at once: enough to overlap
// the waiting, few enough to leave the switch time for pods that are added.
const collectWidth = 8

// GarbageCollect implements cniv1.CNIServiceService. What cannot be removed is
// named in the error, after all that can be has been.
func (s *Server) GarbageCollect(ctx context.Context, r *cniv1.GarbageCollectRequest) (*cniv1.GarbageCollectResponse, error) {
	var f faults
	valid := map[lease.Key]bool{}
	for _, id := range r.GetValidAttachments() {
		f.key(id.GetContainerId(), id.GetIfname())
		valid[lease.Key{ContainerID: id.GetContainerId(), Ifname: id.GetIfname()}] = true
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	c := collection{server: s}
	c.group.SetLimit(collectWidth)
	for _, l := range s.Leases.List() {
		if key := lease.KeyOf(l.Attachment); !valid[key] {
			c.group.Go(func() error { c.detach(ctx, key); return nil })
		}
	}
	_ = c.group.Wait() // errors are collected
	c.strays(ctx, valid)
	if err := errors.Join(c.errs...); err != nil {
		return nil, refusal("collect garbage", err)
	}
	slices.SortFunc(c.removed, func(a, b *cniv1.AttachmentID) int {
		return cmp.Or(cmp.Compare(a.GetContainerId(), b.GetContainerId()), cmp.Compare(a.GetIfname(), b.GetIfname()))
	})
	return &cniv1.GarbageCollectResponse{Removed: slices.CompactFunc(c.removed, func(a, b *cniv1.AttachmentID) bool {
		return a.GetContainerId() == b.GetContainerId() && a.GetIfname() == b.GetIfname()
	})}, nil
}

// collection is one GC.
type collection struct {
	server *Server
	group  errgroup.Group

	mu      sync.Mutex
	removed []*cniv1.AttachmentID
	errs    []error
}

func (c *collection) done(key lease.Key, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.errs = append(c.errs, fmt.Errorf("%s: %w", key, err))
		return
	}
	c.removed = append(c.removed, &cniv1.AttachmentID{ContainerId: key.ContainerID, Ifname: key.Ifname})
}

// detach removes an attachment that has a lease.
func (c *collection) detach(ctx context.Context, key lease.Key) {
	unlock, err := c.server.locks.lock(ctx, key.ContainerID)
	if err != nil {
		c.done(key, err)
		return
	}
	defer unlock()
	l, ok := c.server.Leases.Lookup(key)
	if !ok {
		return // DEL came first
	}
	c.done(key, c.server.detach(ctx, l.Attachment))
}

// strays removes ports of pods that no lease knows, and veths with them.
func (c *collection) strays(ctx context.Context, valid map[lease.Key]bool) {
	all, err := c.server.Ports.Ports(ctx)
	if err != nil {
		c.errs = append(c.errs, err)
		return
	}
	for _, p := range all {
		key := keyOf(p)
		if !isPod(p) || valid[key] || isInherited(p) { // Restore says whose the last are.
			continue
		}
		unlock, err := c.server.locks.lock(ctx, key.ContainerID)
		if err != nil {
			c.done(key, err)
			continue
		}
		if c.server.isStray(p) {
			c.done(key, c.server.unplug(ctx, p.Name))
		}
		unlock()
	}
}

// isStray says whether no lease promises this port. The caller holds the lock of
// the port's container.
func (s *Server) isStray(p bridge.Port) bool {
	l, ok := s.Leases.Lookup(keyOf(p))
	return !ok || l.Attachment.GetHostVeth() != p.Name
}
