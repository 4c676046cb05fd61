package compare

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/damask-sdn/damask/cmd/damask/internal/adopt"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// everywhere is a network that OpenShift SDN takes for 0.0.0.0/0, and Damask with it.
const everywhere = "0.0.0.0/32"

func (d *differences) firewalls(objects []adopt.EgressNetworkPolicy, stored []*egressv1.EgressNetworkPolicy) {
	const kind = "EgressNetworkPolicy"
	each(d, kind, objects, func(o adopt.EgressNetworkPolicy) string { return o.Metadata.FullName() },
		stored, func(p *egressv1.EgressNetworkPolicy) string { return p.GetNamespace() + "/" + p.GetName() },
		func(name string, o adopt.EgressNetworkPolicy, p *egressv1.EgressNetworkPolicy) {
			d.field(kind, name, "order", fmt.Sprint(o.Spec.Order), fmt.Sprint(p.GetOrder()))
			for i := range max(len(o.Spec.Egress), len(p.GetRules())) {
				says, has := "", ""
				if i < len(o.Spec.Egress) {
					says = ruleText(o.Spec.Egress[i])
				}
				if i < len(p.GetRules()) {
					has = storedRuleText(p.GetRules()[i])
				}
				d.field(kind, name, fmt.Sprintf("egress[%d]", i), says, has)
			}
		})
}

// ruleText is a rule of an object in the words of storedRuleText.
func ruleText(r adopt.Rule) string {
	to := r.To.DNSName
	if r.To.CIDRSelector == everywhere {
		to = "0.0.0.0/0"
	} else if to == "" {
		to = canonical(r.To.CIDRSelector)
	}
	text := r.Type + " " + to
	for _, p := range r.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = "TCP"
		}
		text += fmt.Sprintf(" %s:%d-%d", protocol, p.Port, max(p.Port, p.EndPort))
	}
	return text
}

// storedRuleText is a rule as Damask has it.
func storedRuleText(r *egressv1.EgressRule) string {
	text := map[egressv1.RuleType]string{
		egressv1.RuleType_RULE_TYPE_ALLOW: "Allow ", egressv1.RuleType_RULE_TYPE_DENY: "Deny ",
	}[r.GetType()]
	if text += r.GetDnsName(); r.GetDnsName() == "" {
		text += r.GetCidrSelector()
	}
	for _, p := range r.GetPorts() {
		protocol := map[egressv1.Protocol]string{
			egressv1.Protocol_PROTOCOL_TCP: "TCP", egressv1.Protocol_PROTOCOL_UDP: "UDP", egressv1.Protocol_PROTOCOL_SCTP: "SCTP",
		}[p.GetProtocol()]
		text += fmt.Sprintf(" %s:%d-%d", protocol, p.GetPort(), max(p.GetPort(), p.GetEndPort()))
	}
	return text
}

func (d *differences) policies(objects []adopt.NetworkPolicy, stored []*tenancyv1.NetworkPolicy) {
	const kind = "NetworkPolicy"
	stored = slices.DeleteFunc(slices.Clone(stored), func(p *tenancyv1.NetworkPolicy) bool {
		return p.GetKey().GetKind() != kind
	})
	each(d, kind, objects, func(o adopt.NetworkPolicy) string { return o.Metadata.FullName() },
		stored, func(p *tenancyv1.NetworkPolicy) string { return p.GetKey().GetNamespace() + "/" + p.GetKey().GetName() },
		func(name string, o adopt.NetworkPolicy, p *tenancyv1.NetworkPolicy) {
			var manifest struct {
				Spec map[string]any `yaml:"spec"`
			}
			if err := yaml.Unmarshal([]byte(p.GetManifest()), &manifest); err != nil {
				d.field(kind, name, "spec", there, "not understood: "+err.Error())
				return
			}
			fields := maps.Clone(o.Spec.Said)
			if fields == nil {
				fields = map[string]any{}
			}
			maps.Copy(fields, manifest.Spec)
			for _, field := range slices.Sorted(maps.Keys(fields)) {
				if says, has := o.Spec.Said[field], manifest.Spec[field]; !reflect.DeepEqual(says, has) {
					d.found = append(d.found, Difference{kind, name, "spec." + field, jsonText(says), jsonText(has)})
				}
			}
		})
}

// jsonText is a part of an object on one line; empty for nothing.
func jsonText(value any) string {
	if value == nil {
		return ""
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}
