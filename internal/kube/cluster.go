package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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
func (a *Adapter) bind(ctx context.Context, b *bucket.Bucket) (string, error) {
	uid, err := a.clusterUID(ctx)
	if err != nil {
		return "", nil // The end has come.
	}
	var known string
	_, err = b.Update(ctx, func(tx *bucket.Tx) error {
		e, exists := tx.Get(ClusterKey)
		if known = string(e.Value); !exists || a.cfg.Cluster == string(uid) && known != string(uid) {
			known = string(uid)
			tx.Put(ClusterKey, []byte(uid))
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return "", nil
	case err != nil:
		return "", fmt.Errorf("remember the cluster: %w", err)
	case known != string(uid):
		return "", fmt.Errorf("%w: its kube-system has UID %s, that of this API server %s; to bring it here set kubernetes.cluster to the latter", ErrOtherCluster, known, uid)
	}
	return string(uid), nil
}

// Confirm answers nil if the cluster that the cache shows is the one that the store
// belongs to. Who means to remove something from the store, because the cluster does not
// have it, asks before: an API server whose own store was lost has nothing, and answers
// watches of before.
func (a *Adapter) Confirm(ctx context.Context, b *bucket.Bucket) error {
	system := &corev1.Namespace{}
	if err := a.client.Get(ctx, types.NamespacedName{Name: metav1.NamespaceSystem}, system); err != nil {
		return fmt.Errorf("confirm the cluster: %w", err)
	}
	if e, exists := b.Get(ClusterKey); !exists || string(e.Value) != string(system.UID) {
		return fmt.Errorf("%w: its kube-system has UID %s, that of this API server %s", ErrOtherCluster, e.Value, system.UID)
	}
	return nil
}

// clusterUID waits for the API server. An error is the context's.
func (a *Adapter) clusterUID(ctx context.Context) (types.UID, error) {
	for {
		system := &metav1.PartialObjectMetadata{}
		system.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
		err := a.direct.Get(ctx, types.NamespacedName{Name: metav1.NamespaceSystem}, system)
		if err == nil {
			return system.UID, nil
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
