package policyspec

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/group"
	"github.com/damask-sdn/damask/services/tenancy/selector"
)

func adminManifest(spec string) string {
	return `{"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": "a"}, "spec": ` + spec + `}`
}

func baselineManifest(spec string) string {
	return `{"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "BaselineAdminNetworkPolicy", "metadata": {"name": "default"}, "spec": ` + spec + `}`
}

func clusterManifest(spec string) string {
	return `{"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": {"name": "c"}, "spec": ` + spec + `}`
}

func TestTieredPoliciesKeepTierPriorityAndOrder(t *testing.T) {
	all := group.Pair{Namespaces: selector.New()}
	web := group.Pair{Namespaces: app("a"), Pods: app("b")}
	tests := []struct {
		name, manifest string
		want           Policy
	}{
		{"AdminNetworkPolicy", adminManifest(`{"priority": 7, "subject": {"namespaces": {}}, "ingress": [
			{"name": "one", "action": "Pass", "from": [{"pods": {"namespaceSelector": {"matchLabels": {"app": "a"}}, "podSelector": {"matchLabels": {"app": "b"}}}}]},
			{"action": "Deny", "from": [{"namespaces": {}}], "ports": [{"portNumber": {"protocol": "UDP", "port": 53}}, {"portRange": {"start": 1, "end": 9}}]}],
			"egress": [{"action": "Allow", "to": [{"networks": ["10.0.0.0/8", "192.168.0.0/16"]}]}]}`),
			Policy{Key: policy.Key{Kind: "AdminNetworkPolicy", Name: "a"}, Tier: policy.Admin, Priority: 7, Subject: all, Rules: []Rule{
				{Name: "one", Direction: policy.Ingress, Action: policy.Pass, AnyPort: true, Peers: []Peer{{Pods: &web}}},
				{Direction: policy.Ingress, Action: policy.Deny, Peers: []Peer{{Pods: &all}},
					Ports: []policy.PortRange{{Protocol: policy.UDP, First: 53, Last: 53}, {Protocol: policy.TCP, First: 1, Last: 9}}},
				{Direction: policy.Egress, Action: policy.Allow, AnyPort: true, Peers: []Peer{{Block: policy.Block{CIDR: netip.MustParsePrefix("10.0.0.0/8")}},
					{Block: policy.Block{CIDR: netip.MustParsePrefix("192.168.0.0/16")}}}}}}},
		{"BaselineAdminNetworkPolicy", baselineManifest(`{"subject": {"pods": {"namespaceSelector": {"matchLabels": {"app": "a"}}, "podSelector": {"matchLabels": {"app": "b"}}}}, "ingress": [
			{"action": "Deny", "from": [{"namespaces": {}}], "ports": [{"namedPort": "http"}]}]}`),
			Policy{Key: policy.Key{Kind: "BaselineAdminNetworkPolicy", Name: "default"}, Tier: policy.Baseline, Subject: web, Rules: []Rule{
				{Direction: policy.Ingress, Action: policy.Deny, Peers: []Peer{{Pods: &all}}, Named: []policy.PortName{
					{Protocol: policy.TCP, Name: "http"}, {Protocol: policy.UDP, Name: "http"}, {Protocol: policy.SCTP, Name: "http"}}}}}},
		{"ClusterNetworkPolicy of tier Baseline", clusterManifest(`{"tier": "Baseline", "priority": 1000, "subject": {"namespaces": {}}, "egress": [
			{"action": "Accept", "to": [{"namespaces": {}}], "protocols": [{"tcp": {"destinationPort": {"number": 80}}},
			{"sctp": {"destinationPort": {"range": {"start": 5, "end": 6}}}}]}, {"action": "Pass", "to": [{"namespaces": {}}]}]}`),
			Policy{Key: policy.Key{Kind: "ClusterNetworkPolicy", Name: "c"}, Tier: policy.Baseline, Priority: 1000, Subject: all, Rules: []Rule{
				{Direction: policy.Egress, Action: policy.Allow, Peers: []Peer{{Pods: &all}}, Ports: []policy.PortRange{
					{Protocol: policy.TCP, First: 80, Last: 80}, {Protocol: policy.SCTP, First: 5, Last: 6}}},
				{Direction: policy.Egress, Action: policy.Pass, AnyPort: true, Peers: []Peer{{Pods: &all}}}}}},
		{"ClusterNetworkPolicy of tier Admin", clusterManifest(`{"tier": "Admin", "priority": 0, "subject": {"namespaces": {}}}`),
			Policy{Key: policy.Key{Kind: "ClusterNetworkPolicy", Name: "c"}, Tier: policy.Admin, Subject: all}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := parse(t, []byte(test.manifest)); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestWhatIsWrongWithTieredPoliciesIsNamed(t *testing.T) {
	rule := func(rule string) string {
		return adminManifest(`{"priority": 7, "subject": {"namespaces": {}}, "egress": [` + rule + `]}`)
	}
	cluster := func(rule string) string {
		return clusterManifest(`{"tier": "Admin", "priority": 7, "subject": {"namespaces": {}}, "egress": [` + rule + `]}`)
	}
	tests := []struct{ name, manifest, want string }{
		{"peers by node", rule(`{"action": "Deny", "to": [{"nodes": {}}]}`), `spec.egress[0].to[0].nodes is not supported`},
		{"peers by domain name", rule(`{"action": "Deny", "to": [{"domainNames": ["a.b"]}]}`), `spec.egress[0].to[0].domainNames is not supported`},
		{"sources by network", adminManifest(`{"priority": 7, "subject": {"namespaces": {}}, "ingress": [{"action": "Deny", "from": [{"networks": ["10.0.0.0/8"]}]}]}`),
			`spec.ingress[0].from[0].networks is not supported`},
		{"no priority", adminManifest(`{"subject": {"namespaces": {}}}`), `spec.priority is required`},
		{"a priority too high", adminManifest(`{"priority": 1001, "subject": {"namespaces": {}}}`), `spec.priority must be a number from 0 to 1000`},
		{"no subject", adminManifest(`{"priority": 1}`), `spec.subject is required`},
		{"an empty subject", adminManifest(`{"priority": 1, "subject": {}}`), `spec.subject must have one of namespaces and pods`},
		{"two subjects", adminManifest(`{"priority": 1, "subject": {"namespaces": {}, "pods": {}}}`), `spec.subject must have one of namespaces and pods`},
		{"a namespace", `{"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "AdminNetworkPolicy", "metadata": {"name": "a", "namespace": "b"},
			"spec": {"priority": 1, "subject": {"namespaces": {}}}}`, `metadata.namespace must be empty: AdminNetworkPolicy is of the whole cluster`},
		{"a second baseline", `{"apiVersion": "policy.networking.k8s.io/v1alpha1", "kind": "BaselineAdminNetworkPolicy", "metadata": {"name": "a"},
			"spec": {"subject": {"namespaces": {}}}}`, `metadata.name must be "default": there is one such policy`},
		{"pass behind the last tier", baselineManifest(`{"subject": {"namespaces": {}}, "egress": [{"action": "Pass", "to": [{"namespaces": {}}]}]}`),
			`spec.egress[0].action "Pass" is not supported: Allow or Deny`},
		{"no action", rule(`{"to": [{"namespaces": {}}]}`), `spec.egress[0].action "" is not supported: Allow or Deny or Pass`},
		{"no peers", rule(`{"action": "Deny", "to": []}`), `spec.egress[0].to must not be empty`},
		{"an empty peer", rule(`{"action": "Deny", "to": [{}]}`), `spec.egress[0].to[0] must have one of namespaces and pods`},
		{"an empty list of ports", rule(`{"action": "Deny", "to": [{"namespaces": {}}], "ports": []}`), `spec.egress[0].ports must not be empty`},
		{"an empty port", rule(`{"action": "Deny", "to": [{"namespaces": {}}], "ports": [{}]}`),
			`spec.egress[0].ports[0] must have one of portNumber, portRange and namedPort`},
		{"a named port that is null", rule(`{"action": "Deny", "to": [{"namespaces": {}}], "ports": [{"namedPort": null}]}`),
			`spec.egress[0].ports[0] must have one of portNumber, portRange and namedPort`},
		{"names where there are none", rule(`{"action": "Deny", "to": [{"networks": ["10.0.0.0/8"]}], "ports": [{"namedPort": "a"}]}`),
			`spec.egress[0].ports must not have named ports together with networks`},
		{"the other version's action", cluster(`{"action": "Allow", "to": [{"namespaces": {}}]}`),
			`spec.egress[0].action "Allow" is not supported: Accept or Deny or Pass`},
		{"the other version's ports", cluster(`{"action": "Accept", "to": [{"namespaces": {}}], "ports": []}`), `spec.egress[0].ports is not supported`},
		{"a protocol without a port", cluster(`{"action": "Accept", "to": [{"namespaces": {}}], "protocols": [{"tcp": {}}]}`),
			`spec.egress[0].protocols[0].tcp.destinationPort is required`},
		{"a range of one", cluster(`{"action": "Accept", "to": [{"namespaces": {}}], "protocols": [{"tcp": {"destinationPort": {"range": {"start": 5, "end": 5}}}}]}`),
			`spec.egress[0].protocols[0].tcp.destinationPort.range.end 5 must be higher than start 5`},
		{"an unknown tier", clusterManifest(`{"tier": "Top", "priority": 7, "subject": {"namespaces": {}}}`), `spec.tier "Top" is not supported: Admin or Baseline`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			p, violations := Parse([]byte(test.manifest))
			if len(violations) != 1 || violations[0].String() != test.want {
				t.Errorf("got %+v with %q, want only %q", p, violations, test.want)
			}
		})
	}
}
