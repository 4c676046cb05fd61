package resolution

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	"github.com/damask-sdn/damask/internal/token"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/group"
	"github.com/damask-sdn/damask/services/tenancy/policyspec"
)

// namesOf answers a key's kind and names; nil when they are none.
func namesOf(key string) (kind string, names []string) {
	kind, rest, _ := strings.Cut(key, ".")
	for tok := range strings.SplitSeq(rest, ".") {
		name, err := token.Decode(tok)
		if err != nil {
			return kind, nil
		}
		names = append(names, name)
	}
	return kind, names
}

// readPod reads a pod as groups see it. It answers false for one that no policy
// knows: it has completed.
func readPod(e bucket.Entry) (pod group.Pod, at place, there bool, err error) {
	m := &tenancyv1.Pod{}
	if err := decode(e, m); err != nil {
		return pod, at, false, err
	}
	if m.GetConditions().GetCompleted() {
		return pod, at, false, nil
	}
	pod = group.Pod{Namespace: m.GetNamespace(), Name: m.GetName(), Labels: m.GetLabels()}
	for _, ip := range m.GetIps() {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			return pod, at, false, fmt.Errorf("read pod %s/%s: %w", m.GetNamespace(), m.GetName(), err)
		}
		pod.Addresses = append(pod.Addresses, a)
	}
	for _, p := range m.GetPorts() {
		pod.Ports = append(pod.Ports, policy.NamedPort{
			Name: p.GetName(), Protocol: protocol(p.GetProtocol()), Port: uint16(p.GetContainerPort()), //nolint:gosec // checked when it was registered
		})
	}
	return pod, place{node: m.GetNode(), sandbox: m.GetSandboxId()}, true, nil
}

// protocol reads a stored protocol, which is never unspecified.
func protocol(p tenancyv1.Protocol) policy.Protocol {
	switch p {
	case tenancyv1.Protocol_PROTOCOL_UDP:
		return policy.UDP
	case tenancyv1.Protocol_PROTOCOL_SCTP:
		return policy.SCTP
	}
	return policy.TCP
}

// ReadWritten reads a stored policy. The violations are those of a manifest that
// another version of the service took.
func ReadWritten(m *tenancyv1.NetworkPolicy) (policyspec.Policy, []policyspec.Violation) {
	p, violations := policyspec.Parse([]byte(m.GetManifest()))
	if violations == nil && p.Key != policywire.KeyOf(m.GetKey()) {
		violations = []policyspec.Violation{{Field: "metadata", Message: "is not that of the policy that it was stored as"}}
	}
	return p, violations
}
