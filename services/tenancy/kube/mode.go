package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/damask-sdn/damask/internal/kube"
	"github.com/damask-sdn/damask/internal/kube/networkv1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/isolation"
)

// modes are the modes as the ClusterNetwork names them.
var modes = map[string]tenancyv1.IsolationMode{
	"redhat/openshift-ovs-subnet":        tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET,
	"redhat/openshift-ovs-multitenant":   tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT,
	"redhat/openshift-ovs-networkpolicy": tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY,
	"damask/combined":                    tenancyv1.IsolationMode_ISOLATION_MODE_COMBINED,
}

func pluginOf(mode tenancyv1.IsolationMode) string {
	for plugin, m := range modes {
		if m == mode {
			return plugin
		}
	}
	return ""
}

// mode brings the ClusterNetwork's pluginName and the isolation mode together.
func (a *Adapter) mode() kube.Controller {
	return kube.Controller{
		Name: "isolation", Kinds: []client.Object{&networkv1.ClusterNetwork{}}, Stored: a.stored.mode, Reconcile: a.reconcileMode,
	}
}

func (a *Adapter) reconcileMode(ctx context.Context, name types.NamespacedName) error {
	object := &networkv1.ClusterNetwork{}
	if err := a.kube.Client().Get(ctx, name, object); err != nil {
		if apierrors.IsNotFound(err) {
			return nil // It is ipam's to make; the mode stays.
		}
		return fmt.Errorf("read the ClusterNetwork: %w", err)
	}
	now, err := isolation.Read(a.store.Bucket)
	if err != nil {
		return err
	}
	if object.PluginName == "" {
		return a.nameMode(ctx, object, now)
	}
	c := metav1.Condition{Type: networkv1.ConditionIsolationMode, Status: metav1.ConditionFalse}
	wanted, known := modes[object.PluginName]
	if !known {
		c.Reason, c.Message = "UnknownPlugin", fmt.Sprintf("pluginName %q is no mode; %s stays in force", object.PluginName, pluginOf(now.GetMode()))
		return a.kube.SetCondition(ctx, object, manager, object.Status.Conditions, c)
	}
	if now.GetRevision() == 0 || now.GetMode() != wanted {
		if now, err = isolation.Set(ctx, a.store.Bucket, wanted); err != nil {
			return err
		}
		a.log.Info("isolation mode set as the ClusterNetwork says", "plugin", object.PluginName, "revision", now.GetRevision())
	}
	c.Status, c.Reason, c.Message = metav1.ConditionTrue, "Set", object.PluginName+" is in force"
	return a.kube.SetCondition(ctx, object, manager, object.Status.Conditions, c)
}

// nameMode writes the mode into a ClusterNetwork that names none: it was made anew, or the
// cluster is new.
func (a *Adapter) nameMode(ctx context.Context, object *networkv1.ClusterNetwork, now *tenancyv1.Isolation) error {
	if now.GetRevision() == 0 {
		if a.initial == tenancyv1.IsolationMode_ISOLATION_MODE_UNSPECIFIED {
			return nil // Nobody ever said anything.
		}
		var err error
		if now, err = isolation.Begin(ctx, a.store.Bucket, a.initial); err != nil {
			return err
		}
	}
	return a.kube.Apply(ctx, object, manager, map[string]any{"pluginName": pluginOf(now.GetMode())})
}
