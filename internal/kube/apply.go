package kube

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// maxMessage is how long a condition's message may be, in bytes: the API server refuses
// more.
const maxMessage = 32768

// Apply makes fields of an object what they are said to be, by server-side apply as owner,
// who takes them from anybody else. What the same owner applied before and leaves out now is
// removed. The object is never created: one that is gone meanwhile is an error.
func (a *Adapter) Apply(ctx context.Context, object client.Object, owner string, fields map[string]any) error {
	u, err := a.part(object, fields)
	if err != nil {
		return err
	}
	err = a.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(owner), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("apply to %s %s: %w", u.GetKind(), client.ObjectKeyFromObject(object), err)
	}
	return nil
}

// ApplyStatus is Apply of fields of the status.
func (a *Adapter) ApplyStatus(ctx context.Context, object client.Object, owner string, status map[string]any) error {
	u, err := a.part(object, map[string]any{"status": status})
	if err != nil {
		return err
	}
	err = a.client.Status().Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(owner), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("apply to the status of %s %s: %w", u.GetKind(), client.ObjectKeyFromObject(object), err)
	}
	return nil
}

// part is an object with nothing but some fields. The UID keeps an object of the same name
// that came later from being taken for it.
func (a *Adapter) part(object client.Object, fields map[string]any) (*unstructured.Unstructured, error) {
	kind, err := a.client.GroupVersionKindFor(object)
	if err != nil {
		return nil, fmt.Errorf("apply to %s: %w", client.ObjectKeyFromObject(object), err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{}}
	for name, value := range fields {
		u.Object[name] = value
	}
	u.SetGroupVersionKind(kind)
	u.SetNamespace(object.GetNamespace())
	u.SetName(object.GetName())
	u.SetUID(object.GetUID())
	return u, nil
}

// NextCondition answers what a condition of an object becomes, and whether it is another
// than the object has.
func NextCondition(object client.Object, has []metav1.Condition, want metav1.Condition) (next metav1.Condition, changed bool) {
	if len(want.Message) > maxMessage {
		want.Message = want.Message[:maxMessage-3] + "..."
	}
	want.ObservedGeneration, want.LastTransitionTime = object.GetGeneration(), metav1.Now()
	was := meta.FindStatusCondition(has, want.Type)
	if was == nil {
		return want, true
	}
	if was.Status == want.Status {
		want.LastTransitionTime = was.LastTransitionTime
	}
	return want, !equality.Semantic.DeepEqual(*was, want)
}

// SetCondition makes an object have a condition, and writes only if it has not. owner is
// the field manager of this condition, and of nothing else in the object's status.
func (a *Adapter) SetCondition(ctx context.Context, object client.Object, owner string, has []metav1.Condition, want metav1.Condition) error {
	next, changed := NextCondition(object, has, want)
	if !changed {
		return nil
	}
	c, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&next)
	if err != nil {
		return fmt.Errorf("encode condition %s: %w", want.Type, err)
	}
	return a.ApplyStatus(ctx, object, owner, map[string]any{"conditions": []any{c}})
}

// RemoveCondition takes from an object what SetCondition gave it, if it has it.
func (a *Adapter) RemoveCondition(ctx context.Context, object client.Object, owner string, has []metav1.Condition, conditionType string) error {
	if meta.FindStatusCondition(has, conditionType) == nil {
		return nil
	}
	return a.ApplyStatus(ctx, object, owner, map[string]any{})
}
