package kube

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
)

var netNamespace = networkv1.GroupVersion.WithKind("NetNamespace")

// bringOut makes the object say what the store has.
func (a *Adapter) bringOut(ctx context.Context, t *tenant) error {
	switch {
	case t.stored == nil:
		a.kube.Event(t.namespace, corev1.EventTypeWarning, t.refused.reason(), t.refused.message())
		return nil
	case t.object == nil:
		return a.restore(ctx, t)
	case t.object.DeletionTimestamp != nil:
		return nil // It comes back when it is gone.
	}
	if err := a.correct(ctx, t); err != nil {
		return err
	}
	c := metav1.Condition{
		Type: networkv1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: networkv1.ConditionAccepted, Message: "everything is as it is wanted",
	}
	if len(t.refused) > 0 {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, t.refused.reason(), t.refused.message()
	} else if meta.FindStatusCondition(t.object.Status.Conditions, c.Type) == nil {
		return nil // Nothing was ever refused: that need not be said of each.
	}
	return a.kube.SetCondition(ctx, t.object, manager, t.object.Status.Conditions, c)
}

// restore makes the object. What the store has that people want by annotations comes back
// with it.
func (a *Adapter) restore(ctx context.Context, t *tenant) error {
	if again := a.kept.making(t.name); again > 0 {
		return kube.Later(again) // The store told of what we did; the cache will, too.
	}
	made := &networkv1.NetNamespace{
		ObjectMeta: metav1.ObjectMeta{Name: t.name, Annotations: map[string]string{networkv1.AnnotationNamespaceUID: string(t.namespace.UID)}},
		NetName:    t.name, NetID: t.stored.GetNetid(),
	}
	if t.stored.GetMulticastEnabled() {
		made.Annotations[networkv1.AnnotationMulticast] = "true"
	}
	// One that is there is looked at when the cache shows it.
	if err := a.kube.Client().Create(ctx, made, client.FieldOwner(manager)); client.IgnoreAlreadyExists(err) != nil {
		a.kept.notMade(t.name)
		return fmt.Errorf("create NetNamespace %s: %w", t.name, err)
	}
	return nil
}

// correct writes what differs.
func (a *Adapter) correct(ctx context.Context, t *tenant) error {
	uid := string(t.namespace.UID)
	if t.moved {
		return a.moved(ctx, t, uid)
	}
	sameID := t.object.NetID == t.stored.GetNetid()
	if sameID && t.object.NetName == t.name && t.object.Annotations[networkv1.AnnotationNamespaceUID] == uid {
		return nil
	}
	byHand := false
	if !sameID {
		var err error
		if byHand, err = a.numberedByHand(ctx, t.name); err != nil {
			return err
		}
	}
	err := a.kube.Apply(ctx, t.object, manager, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{networkv1.AnnotationNamespaceUID: uid}},
		"netname":  t.name, "netid": int64(t.stored.GetNetid()),
	})
	if err != nil {
		return err
	}
	if byHand {
		a.kube.Event(t.object, corev1.EventTypeWarning, "NetIDRestored", fmt.Sprintf(
			"netid %d was written, and is %d again: to change it, annotate %s=join:NAMESPACE, isolate or global",
			t.object.NetID, t.stored.GetNetid(), networkv1.AnnotationChange))
	}
	return nil
}

// moved writes the new VNID and removes the annotation that asked for it, in one update,
// unless the object is another meanwhile.
func (a *Adapter) moved(ctx context.Context, t *tenant, uid string) error {
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{
			"resourceVersion": t.object.ResourceVersion,
			"annotations":     map[string]any{networkv1.AnnotationChange: nil, networkv1.AnnotationNamespaceUID: uid},
		},
		"netname": t.name, "netid": t.stored.GetNetid(),
	})
	if err != nil {
		return fmt.Errorf("encode a change of NetNamespace %s: %w", t.name, err)
	}
	err = a.kube.Client().Patch(ctx, t.object.DeepCopy(), client.RawPatch(types.MergePatchType, patch), client.FieldOwner(manager))
	if err != nil && !apierrors.IsConflict(err) { // Else it is looked at when the cache shows what it is.
		return fmt.Errorf("change NetNamespace %s: %w", t.name, err)
	}
	return nil
}

// numberedByHand says whether somebody else wrote the object's netid.
func (a *Adapter) numberedByHand(ctx context.Context, name string) (bool, error) {
	whole := &metav1.PartialObjectMetadata{}
	whole.SetGroupVersionKind(netNamespace)
	if err := a.kube.Direct().Get(ctx, client.ObjectKey{Name: name}, whole); err != nil {
		return false, fmt.Errorf("read NetNamespace %s: %w", name, err)
	}
	for _, entry := range whole.ManagedFields {
		if entry.Manager == manager || entry.FieldsV1 == nil {
			continue
		}
		fields := map[string]json.RawMessage{}
		if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields); err != nil {
			return false, fmt.Errorf("read the owners of NetNamespace %s: %w", name, err)
		}
		if _, owns := fields["f:netid"]; owns {
			return true, nil
		}
	}
	return false, nil
}
