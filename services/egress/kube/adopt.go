package kube

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/services/egress/spec"
	"github.com/damask-sdn/damask/services/egress/store"
)

// adopt brings into a store that was lost the wishes that were in force, before any that
// were not: an address belongs to the first that asked, also after that.
func (a *Adapter) adopt(ctx context.Context) error {
	list := &networkv1.NetNamespaceList{}
	if err := a.api.Direct().List(ctx, list); err != nil {
		return fmt.Errorf("list NetNamespaces: %w", err)
	}
	for i := range list.Items {
		n := &list.Items[i]
		stored, exists, err := store.NetNamespaces().Get(a.bucket, n.Name)
		if err != nil {
			return err
		}
		if len(stored.GetEgressIps()) > 0 || !inForce(n) {
			continue
		}
		if !exists {
			stored = nil
		}
		wish := wishOf(n, stored)
		var v rpcerr.Violations
		if spec.CheckNetNamespace(wish, &v); !v.Empty() {
			continue // it is refused, in its turn
		}
		var taken *store.TakenError
		if _, err := a.store.SetNetNamespace(ctx, wish); err != nil && !errors.As(err, &taken) {
			return fmt.Errorf("store what namespace %s wants: %w", n.Name, err)
		}
	}
	return nil
}

// inForce says whether a NetNamespace had its egress IPs when it was looked at last.
func inForce(n *networkv1.NetNamespace) bool {
	c := meta.FindStatusCondition(n.Status.Conditions, ConditionEgressIPs)
	return len(n.EgressIPs) > 0 && c != nil && c.Reason != reasonTaken && c.Reason != reasonRefused
}
