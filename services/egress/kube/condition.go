package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube"
)

// ConditionEgressIPs is the type of the condition that HostSubnets and NetNamespaces have
// which say anything of egress IPs. On a NetNamespace it is True when each of its addresses
// is hosted; on a HostSubnet when the node can host. Whoever has it was stored once: an
// object without it that says nothing was made anew.
const ConditionEgressIPs = "EgressIPs"

// Reasons of the conditions.
const (
	reasonPending        = "Pending"        // nothing is decided yet
	reasonRefused        = "Refused"        // it is wrong by itself; what was before holds
	reasonTaken          = "Taken"          // others have addresses of it; what was before holds
	reasonHosted         = "Hosted"         // of a namespace: all of it
	reasonNotHosted      = "NotHosted"      // of a namespace: some of it is not
	reasonReady          = "Ready"          // of a node
	reasonDrained        = "Drained"        // of a node
	reasonDown           = "NodeDown"       // of a node
	reasonReturning      = "NodeReturning"  // of a node
	reasonNetworkUnknown = "NetworkUnknown" // of a node
	reasonAccepted       = "Accepted"       // of a policy
)

// lookAgain is when an object is looked for again that is gone while what it stands for is
// there: whoever makes it may be away.
const lookAgain = time.Minute

func condition(kind string, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

// say makes an object have a condition, and tells of it when it turned true or false.
func (a *Adapter) say(ctx context.Context, object client.Object, has []metav1.Condition, want metav1.Condition) error {
	return a.sayAs(ctx, owner, object, has, want)
}

// sayAs is say with another field manager: each condition of an object has its own.
func (a *Adapter) sayAs(ctx context.Context, owner string, object client.Object, has []metav1.Condition, want metav1.Condition) error {
	if _, changed := kube.NextCondition(object, has, want); !changed {
		return nil
	}
	if err := a.api.SetCondition(ctx, object, owner, has, want); err != nil {
		return err
	}
	was := meta.FindStatusCondition(has, want.Type)
	switch {
	case want.Status == metav1.ConditionFalse && (was == nil || was.Status != want.Status || was.Reason != want.Reason):
		a.api.Event(object, corev1.EventTypeWarning, want.Reason, want.Message)
	case want.Status == metav1.ConditionTrue && was != nil && was.Status == metav1.ConditionFalse:
		a.api.Event(object, corev1.EventTypeNormal, want.Reason, want.Message)
	}
	return nil
}

// mark gives an object the condition before anything of it is stored. So an object that
// has it not, and says nothing, never took anything back: see ConditionEgressIPs.
func (a *Adapter) mark(ctx context.Context, object client.Object, has []metav1.Condition) error {
	if meta.FindStatusCondition(has, ConditionEgressIPs) != nil {
		return nil
	}
	return a.api.SetCondition(ctx, object, owner, has, condition(ConditionEgressIPs, metav1.ConditionUnknown, reasonPending, "it is being stored"))
}

// without answers nil if what an object stands for is gone, or on its way out, or another one
// has its name. While it is there, the object will be again, and gets back what was wished.
func (a *Adapter) without(ctx context.Context, kind client.Object, w whose) error {
	found, err := a.api.Find(ctx, kind, types.NamespacedName{Name: w.name})
	if err == nil && found != nil && found.DeletionTimestamp == nil && !a.another(w, string(found.UID)) {
		return kube.Later(lookAgain)
	}
	return err
}

// restore writes what was wished into an object that was made anew, unless somebody changed
// it meanwhile.
func (a *Adapter) restore(ctx context.Context, object client.Object, fields map[string]any) error {
	fields["metadata"] = map[string]any{"resourceVersion": object.GetResourceVersion()}
	patch, err := encode(fields)
	if err != nil {
		return err
	}
	into := object.DeepCopyObject().(client.Object) //nolint:forcetypeassert // a copy of what it is
	if err := a.api.Client().Patch(ctx, into, client.RawPatch(types.MergePatchType, patch), client.FieldOwner(owner)); err != nil {
		return fmt.Errorf("restore %s: %w", object.GetName(), err)
	}
	a.log.Info("an object that was made anew has again what was wished in it", "name", object.GetName())
	return nil
}
