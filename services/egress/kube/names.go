package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/damask-sdn/damask/internal/kube/networkv1"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/store"
)

// ConditionNamesResolved is the type of the condition that EgressNetworkPolicies have whose
// rules have DNS names, wildcards aside: True when each was looked up with success the last time.
const ConditionNamesResolved = "NamesResolved"

// namesOwner is the field manager of that condition, as each condition has its own.
const namesOwner = owner + "-names"

// Reasons of the condition.
const (
	reasonResolved    = "Resolved"
	reasonNotResolved = "NotResolved"
)

// namesIn answers the names that a policy has looked up, each once.
func namesIn(policy *egressv1.EgressNetworkPolicy) (names []string) {
	for _, rule := range policy.GetRules() {
		if name := rule.GetDnsName(); name != "" && !strings.HasPrefix(name, "*.") && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// showNames says in a policy whether its names are resolved. The store must be looked into
// after whose names they are was noted.
func (a *Adapter) showNames(ctx context.Context, p *networkv1.EgressNetworkPolicy, names []string) error {
	if len(names) == 0 {
		return a.api.RemoveCondition(ctx, p, namesOwner, p.Status.Conditions, ConditionNamesResolved)
	}
	var known []*egressv1.DNSName
	for _, name := range names {
		d, exists, err := store.DNSNames().Get(a.bucket, name)
		if err != nil {
			return err
		}
		if !exists {
			d = &egressv1.DNSName{Name: name}
		}
		known = append(known, d)
	}
	return a.sayAs(ctx, namesOwner, p, p.Status.Conditions, namesCondition(known))
}

// namesCondition says of names whether they are resolved, and why not. Addresses are not in
// it: they come and go.
func namesCondition(names []*egressv1.DNSName) metav1.Condition {
	var bad, pending []string
	for _, name := range names {
		switch name.GetState() {
		case egressv1.NameState_NAME_STATE_RESOLVED:
		case egressv1.NameState_NAME_STATE_UNRESOLVED:
			bad = append(bad, fmt.Sprintf("%s has no address: %s", name.GetName(), name.GetError()))
		case egressv1.NameState_NAME_STATE_STALE:
			bad = append(bad, fmt.Sprintf("%s keeps the addresses that it had: %s", name.GetName(), name.GetError()))
		default:
			pending = append(pending, name.GetName()+" was not looked up yet, the rules of before hold")
		}
	}
	message := strings.Join(append(bad, pending...), "; ")
	switch {
	case len(bad) > 0:
		return condition(ConditionNamesResolved, metav1.ConditionFalse, reasonNotResolved, message)
	case len(pending) > 0:
		return condition(ConditionNamesResolved, metav1.ConditionUnknown, reasonPending, message)
	}
	return condition(ConditionNamesResolved, metav1.ConditionTrue, reasonResolved, "every name has addresses")
}
