package kube

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
)

// another says whether the NetNamespace was made for another Namespace of this name.
func (t *tenant) another() bool {
	if t.namespace == nil || t.object == nil || t.name == netnamespace.Default {
		return false
	}
	of := t.object.Annotations[networkv1.AnnotationNamespaceUID]
	return of != "" && of != string(t.namespace.UID)
}

// renew forgets the Namespace that was there before under this name, whose end nobody saw: who
// had joined it, that it was global, and what people wished in its NetNamespace, which is
// removed. What there is now is made when the cache shows that.
func (a *Adapter) renew(ctx context.Context, t *tenant) error {
	if fresh, err := a.kube.Fresh(ctx, t.namespace, t.object); err != nil || !fresh {
		return err
	}
	if t.stored != nil {
		ns, err := a.store.Namespaces.Renew(ctx, t.name, labelsOf(t.namespace))
		if err != nil {
			return fmt.Errorf("renew namespace %s: %w", t.name, err)
		}
		a.log.Info("a namespace has another VNID, as it is another one of that name", "namespace", t.name, "vnid", ns.GetNetid(), "before", t.stored.GetNetid())
	}
	return a.removeObject(ctx, t)
}

func (a *Adapter) removeObject(ctx context.Context, t *tenant) error {
	err := a.kube.Client().Delete(ctx, t.object, client.Preconditions{UID: &t.object.UID})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("delete NetNamespace %s: %w", t.name, err)
	}
	return nil
}
