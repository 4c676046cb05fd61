package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/rpcerr"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/spec"
	"github.com/damask-sdn/damask/services/egress/store"
)

// netNamespace makes one NetNamespace and what its namespace wants agree.
func (a *Adapter) netNamespace(ctx context.Context, name types.NamespacedName) error {
	stored, _, err := store.NetNamespaces().Get(a.bucket, name.Name)
	if err != nil {
		return err
	}
	n := &networkv1.NetNamespace{}
	switch err := a.api.Client().Get(ctx, name, n); {
	case apierrors.IsNotFound(err):
		return a.noNetNamespace(ctx, name.Name, stored)
	case err != nil:
		return fmt.Errorf("read NetNamespace %s: %w", name.Name, err)
	}
	uid := n.Annotations[networkv1.AnnotationNamespaceUID]
	switch marked := meta.FindStatusCondition(n.Status.Conditions, ConditionEgressIPs) != nil; {
	case stored != nil && a.another(namespace(n.Name), uid):
		fresh, err := a.api.Fresh(ctx, n)
		if err != nil || !fresh {
			return err
		}
		return a.wantsNothing(ctx, n.Name, stored) // And then it is looked at again.
	case len(n.EgressIPs) == 0 && len(stored.GetEgressIps()) > 0 && !marked:
		return a.restore(ctx, n, map[string]any{"egressIPs": stored.GetEgressIps()})
	case len(n.EgressIPs) == 0 && len(stored.GetEgressIps()) == 0:
		a.waiting.set(types.NamespacedName{Name: n.Name}, nil)
		a.hosts.become(n.Name, nil)
		return a.api.RemoveCondition(ctx, n, owner, n.Status.Conditions, ConditionEgressIPs)
	}
	if err := a.remember(ctx, namespace(n.Name), uid); err != nil {
		return err
	}
	return a.wish(ctx, n, stored)
}

// noNetNamespace is for a NetNamespace that is not there.
func (a *Adapter) noNetNamespace(ctx context.Context, name string, stored *egressv1.NetNamespaceEgress) error {
	a.waiting.set(types.NamespacedName{Name: name}, nil)
	a.hosts.become(name, nil)
	if stored == nil {
		return a.forget(ctx, namespace(name))
	}
	if err := a.without(ctx, &corev1.Namespace{}, namespace(name)); err != nil {
		return err
	}
	return a.wantsNothing(ctx, name, stored)
}

// wantsNothing forgets what was wished for a namespace.
func (a *Adapter) wantsNothing(ctx context.Context, name string, stored *egressv1.NetNamespaceEgress) error {
	if _, err := a.store.SetNetNamespace(ctx, &egressv1.NetNamespaceEgress{Namespace: name, Revision: stored.GetRevision()}); err != nil {
		return fmt.Errorf("store that namespace %s wants nothing: %w", name, err)
	}
	return a.forget(ctx, namespace(name))
}

// wish stores what a NetNamespace says, and shows in it what became of that.
func (a *Adapter) wish(ctx context.Context, n *networkv1.NetNamespace, stored *egressv1.NetNamespaceEgress) error {
	wish := wishOf(n, stored)
	var v rpcerr.Violations
	if spec.CheckNetNamespace(wish, &v); !v.Empty() {
		a.waiting.set(types.NamespacedName{Name: n.Name}, nil)
		return a.say(ctx, n, n.Status.Conditions, condition(ConditionEgressIPs, metav1.ConditionFalse, reasonRefused, complaints(&v)))
	}
	if !proto.Equal(wish, stored) {
		if err := a.mark(ctx, n, n.Status.Conditions); err != nil {
			return err
		}
		// Who gives an address back while it is asked for must find us waiting.
		a.waiting.set(types.NamespacedName{Name: n.Name}, wish.GetEgressIps())
		_, err := a.store.SetNetNamespace(ctx, wish)
		var taken *store.TakenError
		switch {
		case errors.As(err, &taken):
			return a.say(ctx, n, n.Status.Conditions, condition(ConditionEgressIPs, metav1.ConditionFalse, reasonTaken, taken.Error()))
		case err != nil:
			return fmt.Errorf("store what namespace %s wants: %w", n.Name, err)
		}
	}
	a.waiting.set(types.NamespacedName{Name: n.Name}, nil)
	if len(n.EgressIPs) == 0 {
		a.hosts.become(n.Name, nil)
		return a.api.RemoveCondition(ctx, n, owner, n.Status.Conditions, ConditionEgressIPs)
	}
	return a.showAddresses(ctx, n)
}

// showAddresses says in a NetNamespace by whom its addresses are hosted.
func (a *Adapter) showAddresses(ctx context.Context, n *networkv1.NetNamespace) error {
	assignment, _, err := store.Assignments().Get(a.bucket, n.Name, spec.DefaultSelection)
	if err != nil {
		return err
	}
	want, now := addressCondition(texts(n.EgressIPs), assignment)
	if err := a.say(ctx, n, n.Status.Conditions, want); err != nil {
		return err
	}
	before, known := a.hosts.become(n.Name, now)
	if !known {
		return nil // whoever led before told of it
	}
	for _, ip := range slices.Sorted(maps.Keys(now)) {
		if node := now[ip]; node != before[ip] && node != "" {
			a.api.Event(n, corev1.EventTypeNormal, reasonHosted, moved(ip, before[ip], node))
		}
	}
	return nil
}

func moved(ip, before, now string) string {
	if before == "" {
		return fmt.Sprintf("egress IP %s is hosted by node %s", ip, now)
	}
	return fmt.Sprintf("egress IP %s is hosted by node %s, before by %s", ip, now, before)
}

// addressCondition says whether all addresses are hosted, and by whom, or why not. hosts are
// their nodes, empty for those that are not.
func addressCondition(ips []string, assignment *egressv1.EgressAssignment) (c metav1.Condition, hosts map[string]string) {
	decided := map[string]*egressv1.AssignedAddress{}
	for _, address := range assignment.GetAddresses() {
		decided[address.GetIp()] = address
	}
	hosts = map[string]string{}
	var good, bad []string
	pending := true
	for _, ip := range ips {
		address := decided[ip]
		hosts[ip] = ""
		switch address.GetState() {
		case egressv1.AddressState_ADDRESS_STATE_HOSTED:
			hosts[ip] = address.GetNode()
			good = append(good, fmt.Sprintf("%s is hosted by %s", ip, address.GetNode()))
		case egressv1.AddressState_ADDRESS_STATE_MOVING:
			bad, pending = append(bad, fmt.Sprintf("%s is given up by %s first", ip, address.GetNode())), false
		case egressv1.AddressState_ADDRESS_STATE_UNHOSTED:
			bad, pending = append(bad, fmt.Sprintf("%s is not hosted: %s", ip, address.GetDetail())), false
		default:
			bad = append(bad, ip+" is not decided upon yet")
		}
	}
	message := strings.Join(append(bad, good...), "; ")
	switch {
	case len(bad) == 0:
		return condition(ConditionEgressIPs, metav1.ConditionTrue, reasonHosted, message), hosts
	case pending:
		return condition(ConditionEgressIPs, metav1.ConditionUnknown, reasonPending, message), hosts
	}
	return condition(ConditionEgressIPs, metav1.ConditionFalse, reasonNotHosted, message), hosts
}
