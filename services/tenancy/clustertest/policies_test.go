package clustertest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// definition is that of AdminNetworkPolicy, without the checks of the real one: what is
// not supported must be refused by the service.
const definition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: adminnetworkpolicies.policy.networking.k8s.io, annotations: {api-approved.kubernetes.io: unapproved}}
spec:
  group: policy.networking.k8s.io
  scope: Cluster
  names: {kind: AdminNetworkPolicy, listKind: AdminNetworkPolicyList, plural: adminnetworkpolicies, singular: adminnetworkpolicy}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true, properties: {status: {type: object, properties: {
      conditions: {type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [type], items: {type: object, required: [type], properties: {
        type: {type: string}, status: {type: string}, reason: {type: string}, message: {type: string},
        observedGeneration: {type: integer, format: int64}, lastTransitionTime: {type: string, format: date-time}}}}}}}}}
`

// policies are the stored ones, as KIND/NAME.
func (w *world) policies(ctx context.Context, op api) string {
	page, err := op.ListNetworkPolicies(ctx, &tenancyv1.ListNetworkPoliciesRequest{})
	if err != nil {
		return err.Error()
	}
	var names []string
	for _, p := range page.GetNetworkPolicies() {
		names = append(names, p.GetKey().GetKind()+"/"+p.GetKey().GetName())
	}
	return strings.Join(names, " ")
}

func (w *world) untilPolicies(op api, right func(all string) bool) {
	w.t.Helper()
	w.until("policies", func(ctx context.Context) (string, bool) {
		all := w.policies(ctx, op)
		return all, right(all)
	})
}

func TestPoliciesFollowTheirObjects(t *testing.T) {
	w := newWorld(t)
	stop := w.replica()
	w.create("shop")
	op := w.operator()
	w.cluster.Apply(t, `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: web, namespace: shop}, spec: {podSelector: {matchLabels: {app: web}}}}`)
	w.untilPolicies(op, func(all string) bool { return strings.Contains(all, "web") })
	w.cluster.Kubectl(t, "delete", "networkpolicy", "-n", "shop", "web")
	w.untilPolicies(op, func(all string) bool { return all == "" })

	// A definition that comes later is found.
	w.cluster.Apply(t, definition)
	w.until("the definition", func(context.Context) (string, bool) {
		out, err := w.cluster.TryKubectl("get", "adminnetworkpolicies")
		return fmt.Sprint(out, err), err == nil
	})
	const admin = `{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {name: %s},
		spec: {priority: 5, subject: {namespaces: {}}, egress: [{action: Deny, to: [%s]}]}}`
	w.cluster.Apply(t, fmt.Sprintf(admin, "good", `{namespaces: {}}`))
	w.untilPolicies(op, func(all string) bool { return strings.Contains(all, "good") })
	w.cluster.Apply(t, fmt.Sprintf(admin, "bad", `{nodes: {}}`))
	w.until("a refusal", func(context.Context) (string, bool) {
		said, err := w.cluster.TryKubectl("get", "adminnetworkpolicy", "bad", "-o", `jsonpath={.status.conditions[?(@.type=="Accepted")]}`)
		event, _ := w.cluster.TryKubectl("get", "events", "-o", "jsonpath={.items[*].message}", "--field-selector=reason=NotSupported")
		return fmt.Sprint(said, err, event), strings.Contains(said, `"False"`) && strings.Contains(said, "spec.egress[0].to[0]") && strings.Contains(event, "spec.egress[0].to[0]")
	})
	if all := w.policies(w.ctx(), op); strings.Contains(all, "bad") {
		t.Errorf("policies are %s", all)
	}
	// What goes while nobody looks is found gone.
	stop()
	w.cluster.Kubectl(t, "delete", "adminnetworkpolicy", "good")
	w.replica()
	op = w.operator()
	w.untilPolicies(op, func(all string) bool { return all == "" })
}
