package kube

import (
	"context"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/services/egress/spec"
	"github.com/damask-sdn/damask/services/egress/store"
)

// policy makes the store have a firewall as its object says, or none where there is none.
func (a *Adapter) policy(ctx context.Context, name types.NamespacedName) error {
	stored, exists, err := store.Policies().Get(a.bucket, name.Namespace, name.Name)
	if err != nil {
		return err
	}
	p := &networkv1.EgressNetworkPolicy{}
	a.names.set(name, nil)
	switch err := a.api.Client().Get(ctx, name, p); {
	case apierrors.IsNotFound(err):
		if !exists {
			return nil
		}
		if err := a.api.Gone(ctx, p, name); err != nil {
			return err
		}
		if err := a.store.DeletePolicy(ctx, name.Namespace, name.Name); err != nil {
			return fmt.Errorf("delete egress network policy %s: %w", name, err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("read EgressNetworkPolicy %s: %w", name, err)
	}
	var unknown, wrong rpcerr.Violations
	policy := policyOf(p, &unknown)
	if spec.CheckPolicy(policy, &wrong); !unknown.Empty() || !wrong.Empty() {
		return a.say(ctx, p, p.Status.Conditions,
			condition(networkv1.ConditionAccepted, metav1.ConditionFalse, reasonRefused, complaints(&unknown, &wrong)))
	}
	names := namesIn(policy)
	a.names.set(name, names) // Before, so that no change is missed.
	if policy.Revision = stored.GetRevision(); !exists || !proto.Equal(policy, stored) {
		if _, err := a.store.PutPolicy(ctx, policy); err != nil {
			return fmt.Errorf("store egress network policy %s: %w", name, err)
		}
	}
	err = a.say(ctx, p, p.Status.Conditions,
		condition(networkv1.ConditionAccepted, metav1.ConditionTrue, reasonAccepted, "the policy is in force"))
	if err != nil {
		return err
	}
	return a.showNames(ctx, p, names)
}

// encode writes a patch.
func encode(fields map[string]any) ([]byte, error) {
	text, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("encode a patch: %w", err)
	}
	return text, nil
}
