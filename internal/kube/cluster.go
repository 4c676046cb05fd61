package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/bucket"
)

// ErrOtherCluster says that the store belongs to another cluster's objects: reconciling
// would take from every node what this cluster has never heard of.
var ErrOtherCluster = errors.New("the store belongs to another cluster")

// ClusterKey is the key of a service's bucket that says whose objects the store belongs
// to: the UID of the namespace kube-system, which lives as long as its cluster's etcd.
const ClusterKey = "kube.cluster"

// How often an API server is asked that does not answer.
const askAgain = 2 * time.Second

// bind answers, with its UID, when the API server has said which cluster it is, and the store
// is that cluster's. When ctx ends it answers nothing.
func (a *Adapter) bind(ctx context.Context) (string, error) {
	uid, err := a.clusterUID(ctx)
	if err != nil {
		return "", nil // The end has come.
	}
	for {
		known, err := a.claim(ctx, uid)
		switch {
		case ctx.Err() != nil:
			return "", nil
		case err == nil && known == uid:
			return string(uid), nil
		case err == nil:
			return "", fmt.Errorf("%w: its kube-system has UID %s, that of this API server %s; to bring it here set kubernetes.cluster to the latter", ErrOtherCluster, known, uid)
		}
		a.log.Warn("the store does not say whose cluster it belongs to, trying again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(askAgain):
		}
	}
}

// claim has the store belong to a cluster if it belongs to none, or a person said so, and
// answers to which it does.
func (a *Adapter) claim(ctx context.Context, uid types.UID) (known types.UID, err error) {
	_, err = a.bucket.Update(ctx, func(tx *bucket.Tx) error {
		e, exists := tx.Get(ClusterKey)
		if known = types.UID(e.Value); !exists || a.cfg.Cluster == string(uid) && known != uid {
			known = uid
			tx.Put(ClusterKey, []byte(uid))
		}
		return nil
	})
	return known, err
}

// Gone answers nil if an object is not there, as the API server itself says now, and this is
// the cluster that the store belongs to. Who means to remove something from the store because
// the cache does not show its object asks before: an API server whose own store was
// lost shows nothing either.
func (a *Adapter) Gone(ctx context.Context, kind client.Object, name types.NamespacedName) error {
	switch found, err := a.Find(ctx, kind, name); {
	case err != nil:
		return err
	case found != nil:
		return fmt.Errorf("%s %s is there, and not in the cache yet", found.Kind, name)
	}
	return nil
}

// Fresh says whether the objects that the cache has are still those that the API server has
// under their names. Who means to forget something because two objects do not belong together
// asks before: what the cache has of two kinds is not of one moment. If they are not, the
// cache will show it.
func (a *Adapter) Fresh(ctx context.Context, objects ...client.Object) (bool, error) {
	for _, o := range objects {
		found, err := a.Find(ctx, o, client.ObjectKeyFromObject(o))
		if err != nil || found == nil || found.UID != o.GetUID() {
			return false, err
		}
	}
	return true, nil
}

// Find asks the API server itself for an object, of which it answers the metadata; nil if it
// is not there, as this cluster says, to which the store belongs.
func (a *Adapter) Find(ctx context.Context, kind client.Object, name types.NamespacedName) (*metav1.PartialObjectMetadata, error) {
	what, err := a.client.GroupVersionKindFor(kind)
	if err != nil {
		return nil, fmt.Errorf("look for %s: %w", name, err)
	}
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(what)
	switch err := a.direct.Get(ctx, name, o); {
	case err == nil:
		o.SetGroupVersionKind(what)
		return o, nil
	case !apierrors.IsNotFound(err):
		return nil, fmt.Errorf("look for %s %s: %w", what.Kind, name, err)
	}
	return nil, a.confirm(ctx)
}

// confirm answers nil if the API server is that of the cluster that the store belongs to.
func (a *Adapter) confirm(ctx context.Context) error {
	uid, err := a.systemUID(ctx)
	if err != nil {
		return fmt.Errorf("confirm the cluster: %w", err)
	}
	if e, exists := a.bucket.Get(ClusterKey); !exists || types.UID(e.Value) != uid {
		return fmt.Errorf("%w: its kube-system has UID %s, that of this API server %s", ErrOtherCluster, e.Value, uid)
	}
	return nil
}

// systemUID answers the UID of kube-system.
func (a *Adapter) systemUID(ctx context.Context) (types.UID, error) {
	system := &metav1.PartialObjectMetadata{}
	system.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	err := a.direct.Get(ctx, types.NamespacedName{Name: metav1.NamespaceSystem}, system)
	return system.UID, err
}

// clusterUID waits for the API server. An error is the context's.
func (a *Adapter) clusterUID(ctx context.Context) (types.UID, error) {
	for {
		uid, err := a.systemUID(ctx)
		if err == nil {
			return uid, nil
		}
		if ctx.Err() == nil {
			a.log.Debug("the API server does not say which cluster it is", "error", err)
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(askAgain):
		}
	}
}
