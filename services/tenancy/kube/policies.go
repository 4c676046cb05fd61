package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/policyspec"
	"github.com/damask-sdn/damask/services/tenancy/policystore"
)

// policyKind is a kind of policies. Their objects are read as they are, not as a type that
// this version knows: a field that it does not know is refused, and never lost.
type policyKind struct {
	schema.GroupVersionKind
	hasStatus bool
}

const policyGroup = "policy.networking.k8s.io"

var (
	networkPolicy  = policyKind{networkingv1.SchemeGroupVersion.WithKind(policyspec.KindNetworkPolicy), false}
	adminPolicy    = policyKind{schema.GroupVersionKind{Group: policyGroup, Version: "v1alpha1", Kind: policyspec.KindAdminPolicy}, true}
	baselinePolicy = policyKind{schema.GroupVersionKind{Group: policyGroup, Version: "v1alpha1", Kind: policyspec.KindBaselinePolicy}, true}
	clusterPolicy  = policyKind{schema.GroupVersionKind{Group: policyGroup, Version: "v1alpha2", Kind: policyspec.KindClusterPolicy}, true}

	policyKinds = []policyKind{networkPolicy, adminPolicy, baselinePolicy, clusterPolicy}
)

func (k policyKind) object() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(k.GroupVersionKind)
	return u
}

// policies brings the policies of a kind into the store.
func (a *Adapter) policies(kind policyKind) kube.Controller {
	return kube.Controller{
		// Of policies a cluster need have none but Kubernetes' own.
		Name: kind.Kind, Kinds: []client.Object{kind.object()}, Optional: kind != networkPolicy, Stored: a.stored.policies[kind.Kind],
		Reconcile: func(ctx context.Context, name types.NamespacedName) error { return a.reconcilePolicy(ctx, kind, name) },
	}
}

func (a *Adapter) reconcilePolicy(ctx context.Context, kind policyKind, name types.NamespacedName) error {
	object, key := kind.object(), policy.Key{Kind: kind.Kind, Namespace: name.Namespace, Name: name.Name}
	err := a.kube.Client().Get(ctx, name, object)
	if apierrors.IsNotFound(err) {
		return a.removePolicy(ctx, kind, key, name)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", key, err)
	}
	manifest, err := manifestOf(object)
	if err != nil {
		return err
	}
	stored, err := a.store.Policies.Get(key)
	if err == nil && stored.GetManifest() == manifest {
		return a.judged(ctx, kind, object, nil)
	}
	_, err = a.store.Policies.Apply(ctx, manifest)
	var invalid *policystore.InvalidError
	if err != nil && !errors.As(err, &invalid) {
		return err
	}
	return a.judged(ctx, kind, object, invalid)
}

// removePolicy removes a policy that the cluster does not have.
func (a *Adapter) removePolicy(ctx context.Context, kind policyKind, key policy.Key, name types.NamespacedName) error {
	var notFound *policystore.NotFoundError
	if _, err := a.store.Policies.Get(key); errors.As(err, &notFound) {
		return nil
	}
	if err := a.kube.Gone(ctx, kind.object(), name); err != nil {
		return err
	}
	_, err := a.store.Policies.Delete(ctx, key)
	return err
}

// judged says on the object whether it was taken.
func (a *Adapter) judged(ctx context.Context, kind policyKind, object *unstructured.Unstructured, invalid *policystore.InvalidError) error {
	if invalid != nil {
		a.kube.Event(object, corev1.EventTypeWarning, "NotSupported", "refused, what was before stays in force: "+invalid.Error())
	}
	if !kind.hasStatus {
		return nil
	}
	c := metav1.Condition{
		Type: networkv1.ConditionAccepted, Status: metav1.ConditionTrue, Reason: networkv1.ConditionAccepted, Message: "every field is supported",
	}
	if invalid != nil {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, "NotSupported", invalid.Error()
	}
	return a.kube.SetCondition(ctx, object, manager, conditionsOf(object), c)
}

// conditionsOf are the conditions that an object has; those that cannot be read are not
// there.
func conditionsOf(object *unstructured.Unstructured) []metav1.Condition {
	var read struct {
		Status struct {
			Conditions []metav1.Condition `json:"conditions"`
		} `json:"status"`
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &read); err != nil {
		return nil
	}
	return read.Status.Conditions
}

// manifestOf writes an object as it was written by people: one text for one meaning, so
// that what changes nothing is not stored again.
func manifestOf(object *unstructured.Unstructured) (string, error) {
	written := map[string]any{}
	for field, value := range object.Object {
		if field != "status" && field != "metadata" {
			written[field] = value
		}
	}
	metadata := map[string]string{"name": object.GetName()}
	if object.GetNamespace() != "" {
		metadata["namespace"] = object.GetNamespace()
	}
	written["metadata"] = metadata
	text, err := json.Marshal(written)
	if err != nil {
		return "", fmt.Errorf("write %s %s as JSON: %w", object.GetKind(), object.GetName(), err)
	}
	return string(text), nil
}
