package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
)

// namespaceWorkers is how many namespaces are compared at once: each may wait for the API
// server.
const namespaceWorkers = 4

// namespaces brings Namespaces, NetNamespaces and the store together.
func (a *Adapter) namespaces() kube.Controller {
	return kube.Controller{
		Name: "namespaces", Kinds: []client.Object{&corev1.Namespace{}, &networkv1.NetNamespace{}},
		Stored: a.stored.namespaces, Reconcile: a.reconcileNamespace, Workers: namespaceWorkers,
	}
}

// tenant is all that is known of a namespace; nil: it is not there.
type tenant struct {
	name      string
	namespace *corev1.Namespace
	object    *networkv1.NetNamespace
	stored    *tenancyv1.NetNamespace
	refused   refusals
	moved     bool // The object's annotation was carried out.
}

func (a *Adapter) reconcileNamespace(ctx context.Context, name types.NamespacedName) error {
	a.stored.waiting.Set(name, true)
	t, err := a.tenant(ctx, name.Name)
	if err != nil {
		return err
	}
	if t.namespace == nil {
		return a.withoutNamespace(ctx, t)
	}
	if t.another() {
		return a.renew(ctx, t)
	}
	err = a.bringIn(ctx, t)
	if t.stored != nil || len(t.refused) > 0 { // What was refused is said, whatever else failed.
		err = errors.Join(err, a.bringOut(ctx, t))
	}
	if err != nil {
		return err
	}
	if len(t.refused) == 0 {
		a.stored.waiting.Set(name, false)
	}
	return nil
}

// tenant collects what there is.
func (a *Adapter) tenant(ctx context.Context, name string) (*tenant, error) {
	t := &tenant{name: name, namespace: &corev1.Namespace{}, object: &networkv1.NetNamespace{}}
	key := types.NamespacedName{Name: name}
	if err := a.kube.Client().Get(ctx, key, t.namespace); apierrors.IsNotFound(err) {
		t.namespace = nil
	} else if err != nil {
		return nil, fmt.Errorf("read Namespace %s: %w", name, err)
	}
	if err := a.kube.Client().Get(ctx, key, t.object); apierrors.IsNotFound(err) {
		t.object = nil
	} else if err != nil {
		return nil, fmt.Errorf("read NetNamespace %s: %w", name, err)
	}
	var err error
	var notFound *netnamespace.NotFoundError
	if t.stored, err = a.store.Namespaces.Get(name); errors.As(err, &notFound) {
		t.stored, err = nil, nil
	}
	return t, err
}

// withoutNamespace removes what is left of a Namespace. A NetNamespace that was never made
// for one waits for it.
func (a *Adapter) withoutNamespace(ctx context.Context, t *tenant) error {
	name := types.NamespacedName{Name: t.name}
	ours := t.object != nil && t.object.Annotations[networkv1.AnnotationNamespaceUID] != ""
	if t.stored == nil && !ours || t.name == netnamespace.Default {
		a.stored.waiting.Set(name, false)
		return nil
	}
	if err := a.kube.Gone(ctx, &corev1.Namespace{}, name); err != nil {
		return err
	}
	var pods *netnamespace.PodsError
	switch err := a.store.Namespaces.Delete(ctx, t.name); {
	case errors.As(err, &pods):
		a.log.Debug("a namespace that is gone has pods", "namespace", t.name, "error", err)
		return nil // It is looked at again when a pod of it goes.
	case err != nil:
		return fmt.Errorf("delete namespace %s: %w", t.name, err)
	}
	a.stored.waiting.Set(name, false)
	if !ours {
		return nil
	}
	return a.removeObject(ctx, t)
}

// bringIn makes the store what the objects want.
func (a *Adapter) bringIn(ctx context.Context, t *tenant) error {
	if t.stored == nil {
		if err := a.create(ctx, t); err != nil || t.stored == nil {
			return err
		}
	}
	if change, any := labelChange(t.stored.GetLabels(), labelsOf(t.namespace)); any {
		if err := t.take(a.store.Namespaces.UpdateLabels(ctx, t.name, change))("labels of the Namespace"); err != nil {
			return err
		}
	}
	if t.object == nil {
		return nil // What it had wanted is what the store has.
	}
	if err := a.changeNetwork(ctx, t); err != nil {
		return err
	}
	if wanted := t.object.Annotations[networkv1.AnnotationMulticast] == "true"; wanted != t.stored.GetMulticastEnabled() {
		return t.take(a.store.Namespaces.SetMulticast(ctx, t.name, wanted))(networkv1.AnnotationMulticast)
	}
	return nil
}

// take keeps what the store answered, or why it refused. Any other error is answered.
func (t *tenant) take(ns *tenancyv1.NetNamespace, err error) func(what string) error {
	if err == nil {
		t.stored = ns
	}
	return func(what string) error { return t.refused.add(what, err) }
}

// labelsOf are a Namespace's labels, with the one that all have.
func labelsOf(ns *corev1.Namespace) map[string]string {
	all := maps.Clone(ns.Labels)
	if all == nil {
		all = map[string]string{}
	}
	all[netnamespace.NameLabel] = ns.Name
	return all
}

// adopt brings into the store the VNIDs of NetNamespaces that it does not know.
func (a *Adapter) adopt(ctx context.Context) error {
	var all networkv1.NetNamespaceList
	if err := a.kube.Client().List(ctx, &all); err != nil {
		return fmt.Errorf("list NetNamespaces: %w", err)
	}
	for _, object := range all.Items {
		t, err := a.tenant(ctx, object.Name)
		if err != nil {
			return err
		}
		if t.namespace == nil || t.object == nil || t.stored != nil || t.another() {
			continue
		}
		if err := a.takeOver(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// takeOver gives a namespace the VNID that its NetNamespace has. What is refused is said
// when the namespace is looked at.
func (a *Adapter) takeOver(ctx context.Context, t *tenant) error {
	number := t.object.NetID
	if !a.store.Range.Grantable(number) {
		return t.refused.add("netid", &wrongError{"NetIDNotGrantable", fmt.Sprintf(
			"%d cannot be had: 0, 1, or %d to %d; another one was given", number, a.store.Range.First, a.store.Range.Last)})
	}
	wish := netnamespace.Wish{Name: t.name, Labels: labelsOf(t.namespace), VNID: &number, Adopt: true}
	if err := t.take(a.store.Namespaces.Create(ctx, wish))("netid"); err != nil || t.stored == nil {
		return err
	}
	a.log.Debug("VNID taken over", "namespace", t.name, "vnid", number)
	return nil
}

// create gives a namespace the VNID that its NetNamespace has, or another one.
func (a *Adapter) create(ctx context.Context, t *tenant) error {
	if t.object != nil {
		if err := a.takeOver(ctx, t); err != nil || t.stored != nil {
			return err
		}
	}
	wish := netnamespace.Wish{Name: t.name, Labels: labelsOf(t.namespace)}
	return t.take(a.store.Namespaces.Create(ctx, wish))("VNID of the Namespace")
}

// changeNetwork does what the annotation asks for.
func (a *Adapter) changeNetwork(ctx context.Context, t *tenant) error {
	text, asked := t.object.Annotations[networkv1.AnnotationChange]
	if !asked {
		return nil
	}
	wanted, err := parseChange(text)
	if err != nil {
		return t.refused.add(networkv1.AnnotationChange, err)
	}
	ns, err := wanted.carryOut(ctx, a.store.Namespaces, t.name)
	if err == nil {
		t.stored, t.moved = ns, true
		a.log.Info("VNID changed as annotated", "namespace", t.name, "annotation", text, "vnid", ns.GetNetid())
		return nil
	}
	return t.refused.add(networkv1.AnnotationChange, err)
}
