package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	toolscache "k8s.io/client-go/tools/cache"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
)

// kept follows which VNIDs are in NetNamespaces, whether or not the store knows them.
type kept struct {
	mu     sync.Mutex
	number map[string]uint32 // by name
	users  map[uint32]int
	made   map[string]time.Time // when we made one of which nothing was told yet, by name
}

func newKept() *kept {
	return &kept{number: map[string]uint32{}, users: map[uint32]int{}, made: map[string]time.Time{}}
}

// Known fails until what the store did not know was taken over.
func (k *kept) Known(r bucket.Reader) error {
	if err := kube.Adopted(r); err != nil {
		return fmt.Errorf("%w: %w", netnamespace.ErrKeptUnknown, err)
	}
	return nil
}

// Has says whether a NetNamespace has a VNID.
func (k *kept) Has(number uint32) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.users[number] > 0
}

// toldWithin is how long a NetNamespace that we made may take until the cache tells of it. It
// only matters when it was deleted again while the cache could not hear of either.
const toldWithin = 5 * time.Second

// telling is how long the cache may take from having an object to telling of it.
const telling = 50 * time.Millisecond

// making notes that a NetNamespace is being made, before it is, for the cache may tell of it
// before the API server answers. Until it does there is none to be seen, and none to make.
// When that was noted not long ago, or the cache has told of it since the caller looked, or
// has not told yet that it is gone, it answers when to look again; else 0.
func (k *kept) making(name string) (again time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, told := k.number[name]; told {
		return telling
	}
	if at, noted := k.made[name]; noted && time.Since(at) < toldWithin {
		return toldWithin
	}
	k.made[name] = time.Now()
	return 0
}

// notMade takes back what making noted.
func (k *kept) notMade(name string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.made, name)
}

func (k *kept) follow(ctx context.Context, from *kube.Adapter) error {
	_, err := from.Follow(ctx, &networkv1.NetNamespace{}, toolscache.ResourceEventHandlerFuncs{
		AddFunc:    k.seen,
		UpdateFunc: func(_, obj any) { k.seen(obj) },
		DeleteFunc: k.gone,
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (k *kept) seen(obj any) {
	if n, ok := obj.(*networkv1.NetNamespace); ok {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.forget(n.Name)
		k.number[n.Name] = n.NetID
		k.users[n.NetID]++
	}
}

func (k *kept) gone(obj any) {
	if missed, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
		obj = missed.Obj
	}
	if n, ok := obj.(*networkv1.NetNamespace); ok {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.forget(n.Name)
	}
}

func (k *kept) forget(name string) {
	delete(k.made, name)
	number, known := k.number[name]
	if !known {
		return
	}
	delete(k.number, name)
	if k.users[number]--; k.users[number] == 0 {
		delete(k.users, number)
	}
}
