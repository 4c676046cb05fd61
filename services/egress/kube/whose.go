package kube

import (
	"context"
	"fmt"
	"strings"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/services/egress/store"
)

// whose is the Node or Namespace for which something is stored under a name. Its UID is kept
// beside, with its cluster's: another one of that name does not inherit what was wished for
// it.
type whose struct{ kind, name string }

func node(name string) whose      { return whose{store.KindHostSubnet, name} }
func namespace(name string) whose { return whose{store.KindNetNamespace, name} }

func (w whose) key() string { return bucket.Key("kube", "whose", w.kind, w.name) }

// another says whether a UID is that of another one than what is stored was wished for. Who
// is not known is the same one.
func (a *Adapter) another(w whose, uid string) bool {
	e, known := a.bucket.Get(w.key())
	cluster, of, _ := strings.Cut(string(e.Value), " ")
	return known && uid != "" && of != uid && cluster == a.cluster()
}

// remember has what is stored be wished for a UID, if that is known.
func (a *Adapter) remember(ctx context.Context, w whose, uid string) error {
	value := a.cluster() + " " + uid
	if e, _ := a.bucket.Get(w.key()); uid == "" || string(e.Value) == value {
		return nil
	}
	_, err := a.bucket.Update(ctx, func(tx *bucket.Tx) error {
		tx.Put(w.key(), []byte(value))
		return nil
	})
	if err != nil {
		return fmt.Errorf("store whose the wishes of %s are: %w", w.name, err)
	}
	return nil
}

// forget is for a name under which nothing is stored any more.
func (a *Adapter) forget(ctx context.Context, w whose) error {
	if _, known := a.bucket.Get(w.key()); !known {
		return nil
	}
	_, err := a.bucket.Update(ctx, func(tx *bucket.Tx) error {
		tx.Delete(w.key())
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget whose the wishes of %s were: %w", w.name, err)
	}
	return nil
}

// cluster is the UID of the cluster that the store belongs to.
func (a *Adapter) cluster() string {
	e, _ := a.bucket.Get(kube.ClusterKey)
	return string(e.Value)
}
