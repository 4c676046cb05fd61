package kube

import (
	"context"
	"fmt"
	"sync"

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
}

func newKept() *kept { return &kept{number: map[string]uint32{}, users: map[uint32]int{}} }

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
	number, known := k.number[name]
	if !known {
		return
	}
	delete(k.number, name)
	if k.users[number]--; k.users[number] == 0 {
		delete(k.users, number)
	}
}
