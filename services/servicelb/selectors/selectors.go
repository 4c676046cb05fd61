// Package selectors keeps the endpoints of services that select pods by their
// labels, where no Kubernetes does.
//
// It owns the EndpointSlices with managed_by "servicelb.damask". It follows
// tenancy's pod registry and the services of its own store. It promises that the
// slices converge to what services and pods are, whatever is missed: a service
// is looked at when it or a pod of its changed, and all are now and then. Looking
// twice writes nothing, so any number of replicas may look; one whose copy of
// the registry lags leaves alone what another wrote of later pods. A service
// that is gone leaves no slice behind, however its end and a look cross, and one
// that was left behind by anything else is found when all are looked at. Nothing
// is written before the registry is known, nor while tenancy is away does
// anything vanish. It must not touch slices of others.
package selectors

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/nats-io/nats.go"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/damask-sdn/damask/internal/follow"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

const (
	// lookEvery is how often all services are looked at without any event. It
	// heals what a lagging replica wrote and what a crash left undone; the
	// comparison is in memory.
	lookEvery = 30 * time.Second
	// retryAfter is the pause after a look that did not work.
	retryAfter = 2 * time.Second
	// writeTime bounds what is written for one service.
	writeTime = 10 * time.Second
	// atOnce is how many services are written at once: they share commits.
	atOnce = 16
	// pageSize is how many pods are asked for at once.
	pageSize = 1000
)

// store is the part of the catalog that is needed here.
type store interface {
	Get(name catalog.Name) (*servicelbv1.Service, error)
	Manage(ctx context.Context, service catalog.Name, revision uint64, want func(stored []*servicelbv1.EndpointSlice) []*servicelbv1.EndpointSlice, asOf uint64) (written bool, occupied []catalog.Name, err error)
	ServicesWithSlices() []catalog.Name
	Reach(ctx context.Context, revision uint64) error
}

// loop keeps slices.
type loop struct {
	store store
	board *board
	dirty *Dirty
	log   hclog.Logger

	mu    sync.Mutex
	wrong map[catalog.Name]string // what is wrong with endpoints, as it was said
}

func newLoop(s store, dirty *Dirty, log hclog.Logger) *loop {
	return &loop{store: s, board: newBoard(), dirty: dirty, log: log, wrong: map[catalog.Name]string{}}
}

// Run follows the pod registry and keeps slices until ctx ends. The store's
// view has caught up before. An error means that the connection to NATS is
// closed for good.
func Run(ctx context.Context, nc *nats.Conn, tenancy grpc.ClientConnInterface, s store, dirty *Dirty, log hclog.Logger) error {
	l := newLoop(s, dirty, log.Named("selectors"))
	client := tenancyv1.NewPodRegistryServiceClient(tenancy)
	var follower *follow.Follower[*tenancyv1.Pod]
	var listed atomic.Uint64
	take := func(full string, revision uint64) {
		namespace, name, _ := strings.Cut(full, "/")
		dirty.add(false, l.board.setPod(namespace, name, revision, func() *tenancyv1.Pod {
			pod, _ := follower.Get(full)
			return pod
		})...)
	}
	follower = follow.New(nc, follow.Source[*tenancyv1.Pod]{
		Service: "tenancy", Kind: "pod", Nested: true,
		List: func(ctx context.Context, _ []string) ([]*tenancyv1.Pod, uint64, error) {
			pods, sequence, err := list(ctx, client)
			if err == nil {
				listed.CompareAndSwap(0, sequence) // the first one, which the board starts from
			}
			return pods, sequence, err
		},
		Name:     fullName,
		Revision: (*tenancyv1.Pod).GetRevision,
	}, follow.Options[*tenancyv1.Pod]{All: true, Log: log, OnChange: func(e follow.Event[*tenancyv1.Pod]) { take(e.Name, e.Revision) }})
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return follower.Run(ctx) })
	group.Go(func() error {
		if follower.Synced(ctx) != nil {
			return nil // ctx has ended
		}
		// The copy is complete, but its changes may not all have been told yet.
		for name, pod := range follower.Snapshot() {
			take(name, pod.GetRevision())
		}
		l.board.reached(listed.Load())
		l.keep(ctx)
		return nil
	})
	return group.Wait()
}

func fullName(pod *tenancyv1.Pod) string { return pod.GetNamespace() + "/" + pod.GetName() }

// keep looks at services until ctx ends.
func (l *loop) keep(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	failing := false
	l.all()
	for {
		err := l.once(ctx)
		if ctx.Err() != nil {
			return
		}
		retry := (<-chan time.Time)(nil)
		if err != nil {
			retry = time.After(retryAfter)
			if !failing && !errors.Is(err, catalog.ErrServiceChanged) { // whose change wakes the loop
				l.log.Warn("endpoints stay as they are for now, trying again", "error", err)
			}
		}
		failing = err != nil && !errors.Is(err, catalog.ErrServiceChanged)
		select {
		case <-ctx.Done():
			return
		case <-l.dirty.wake:
		case <-tick.C:
			l.all()
		case <-retry:
		}
	}
}

// all names all services that have a selector, or slices.
func (l *loop) all() {
	l.dirty.add(true, l.board.services()...)
	l.dirty.add(true, l.store.ServicesWithSlices()...)
}

// once looks at the services that were named. Those for which it did not work
// are named again.
func (l *loop) once(ctx context.Context) error {
	var group errgroup.Group
	group.SetLimit(atOnce)
	names, revision := l.dirty.take()
	if err := l.store.Reach(ctx, revision); err != nil {
		return err // ctx has ended
	}
	for name, force := range names {
		group.Go(func() error {
			err := l.look(ctx, name, force)
			if err != nil {
				l.dirty.again(name, force)
			}
			return err
		})
	}
	return group.Wait()
}

// look makes the slices of a service what they should be; with force also those
// that seem to reflect later pods: the registry may have been replaced.
func (l *loop) look(ctx context.Context, name catalog.Name, force bool) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	service, err := l.store.Get(name)
	var notFound *catalog.NotFoundError
	if err != nil && !errors.As(err, &notFound) {
		return err
	}
	if err != nil || !spec.Selects(service) {
		service = nil
	}
	pods, asOf := l.board.setService(name, service)
	var out outcome
	reflects := asOf
	if force {
		asOf = 0
	}
	written, occupied, err := l.store.Manage(ctx, name, service.GetRevision(), func(stored []*servicelbv1.EndpointSlice) []*servicelbv1.EndpointSlice {
		out = compile(service, pods, stored)
		for _, slice := range out.slices {
			slice.PodsRevision = reflects
		}
		return out.slices
	}, asOf)
	if err != nil {
		return err
	}
	l.say(name, out.problem(occupied))
	if written {
		l.log.Debug("endpoints follow pods", "namespace", name.Namespace, "service", name.Name, "slices", len(out.slices))
	}
	return nil
}

// problem says what keeps pods from being endpoints, empty if nothing does.
func (o outcome) problem(occupied []catalog.Name) string {
	var list []string
	if len(occupied) > 0 {
		list = append(list, "an EndpointSlice of somebody else has the name "+occupied[0].Name)
	}
	if len(o.unnamed) > 0 {
		list = append(list, "no pod has a container port of the name "+strings.Join(o.unnamed, ", "))
	}
	if o.excess > 0 {
		list = append(list, "there are more than fit the slices of one service")
	}
	return strings.Join(list, "; ")
}

// say logs what is wrong with a service's endpoints, once for as long as it is.
func (l *loop) say(name catalog.Name, problem string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wrong[name] == problem {
		return
	}
	delete(l.wrong, name)
	if problem != "" {
		l.wrong[name] = problem
		l.log.Warn("endpoints are missing", "namespace", name.Namespace, "service", name.Name, "problem", problem)
	}
}

// list answers all pods. The sequence is the first page's, the lowest: what
// changed while the later ones were read comes on the bus too.
func list(ctx context.Context, client tenancyv1.PodRegistryServiceClient) (all []*tenancyv1.Pod, sequence uint64, err error) {
	for token := ""; ; {
		page, err := client.ListPods(ctx, &tenancyv1.ListPodsRequest{PageSize: pageSize, PageToken: token})
		if err != nil {
			return nil, 0, err
		}
		if token == "" {
			sequence = page.GetSequence()
		}
		all = append(all, page.GetPods()...)
		switch page.GetNextPageToken() {
		case "":
			return all, sequence, nil
		case token:
			return nil, 0, errors.New("tenancy answers the same page again and again")
		}
		token = page.GetNextPageToken()
	}
}
