// Package explain says which rules of which policies let a connection pass.
//
// It owns the way from two ends of a connection to the questions that the nodes'
// flows answer: policy.Decide on the resolved objects that are stored, for each
// end that is a pod. It promises to know no more than nodes do: what is not
// stored yet does not count. It must not know how policies are written.
package explain

import (
	"fmt"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/registry"
	"github.com/damask-sdn/damask/services/tenancy/resolution"
)

// End is one side of a connection: a pod, or an address that may be a pod's.
type End struct {
	Namespace, Name string
	IP              netip.Addr
}

// Question is a connection.
type Question struct {
	From, To End
	Protocol policy.Protocol
	Port     uint16
}

// NoPodError says that neither end is a pod: no policy says anything then.
type NoPodError struct{}

func (*NoPodError) Error() string { return "neither side is a pod, and so no policy applies" }

// NotReadyError says that a pod's policies are not known yet: it is closed.
type NotReadyError struct{ Pod registry.Name }

func (e *NotReadyError) Error() string {
	return fmt.Sprintf("the policies of pod %s/%s are not resolved yet; it is closed until then", e.Pod.Namespace, e.Pod.Pod)
}

// Answer answers a question from a snapshot. It fails with
// registry.NotFoundError, NoPodError and NotReadyError.
func Answer(s bucket.Snapshot, q Question) (*tenancyv1.ExplainConnectionResponse, error) {
	from, err := find(s, q.From)
	if err != nil {
		return nil, err
	}
	to, err := find(s, q.To)
	if err != nil {
		return nil, err
	}
	if from.pod == nil && to.pod == nil {
		return nil, &NoPodError{}
	}
	answer := &tenancyv1.ExplainConnectionResponse{Allowed: true, Sequence: s.Sequence()}
	for _, side := range []struct {
		direction policy.Direction
		at, peer  side
	}{{policy.Egress, from, to}, {policy.Ingress, to, from}} {
		v, err := judge(s, side.direction, side.at, side.peer, q)
		if err != nil {
			return nil, err
		}
		answer.Sides = append(answer.Sides, v)
		answer.Allowed = answer.GetAllowed() && v.GetAllowed()
	}
	return answer, nil
}

// side is an end that was found.
type side struct {
	pod *tenancyv1.Pod // nil: not a pod
	ip  netip.Addr
}

// find looks for an end. Of a pod with several addresses the first IPv4 one
// counts, as the pod network is IPv4's.
func find(s bucket.Snapshot, e End) (side, error) {
	table := registry.Table()
	if e.Name != "" {
		pod, exists, err := table.Get(s, e.Namespace, e.Name)
		if err != nil {
			return side{}, err
		}
		if !exists {
			return side{}, &registry.NotFoundError{Name: registry.Name{Namespace: e.Namespace, Pod: e.Name}}
		}
		return side{pod: pod, ip: addressOf(pod)}, nil
	}
	text := e.IP.String()
	for pod, err := range table.Scan(s) {
		if err != nil {
			return side{}, err
		}
		if slices.Contains(pod.GetIps(), text) && !pod.GetConditions().GetCompleted() {
			return side{pod: pod, ip: e.IP}, nil
		}
	}
	return side{ip: e.IP}, nil
}

func addressOf(pod *tenancyv1.Pod) netip.Addr {
	var first netip.Addr
	for _, ip := range pod.GetIps() {
		a, err := netip.ParseAddr(ip)
		if err == nil && a.Is4() {
			return a
		}
		if !first.IsValid() {
			first = a
		}
	}
	return first
}

// judge asks one side.
func judge(s bucket.Snapshot, d policy.Direction, at, peer side, q Question) (*tenancyv1.SideVerdict, error) {
	v := &tenancyv1.SideVerdict{Direction: tenancyv1.PolicyDirection(d), Allowed: true}
	if at.pod == nil {
		return v, nil
	}
	name := registry.Name{Namespace: at.pod.GetNamespace(), Pod: at.pod.GetName()}
	v.Pod = &tenancyv1.ConnectionEnd{Namespace: name.Namespace, Name: name.Pod, Ip: at.ip.String()}
	if at.pod.GetConditions().GetCompleted() || registry.IsForeign(at.pod) {
		return v, nil
	}
	of, err := resolution.Of(s, at.pod)
	if err != nil {
		return nil, err
	}
	if of == nil {
		return nil, &NotReadyError{Pod: name}
	}
	t := policy.Traffic{Direction: d, Pod: &of.Pod, Peer: peer.ip, Protocol: q.Protocol, Port: q.Port}
	verdict := policy.Decide(t, of.Policies, of.Groups)
	v.Allowed = verdict.Allowed
	if verdict.By != (policy.Key{}) {
		v.Policy = policywire.Key(verdict.By)
	}
	slices.SortFunc(of.Policies, (*policy.Policy).Compare)
	for _, p := range of.Policies {
		if p.Isolates(d) || slices.ContainsFunc(p.Rules, func(r policy.Rule) bool { return r.Direction == d }) {
			v.Policies = append(v.Policies, policywire.Key(p.Key))
		}
		for i := range p.Rules {
			r := &p.Rules[i]
			if decided := p.Key == verdict.By && i == verdict.Rule; decided {
				v.Rule, v.RuleName = proto.Uint32(number(p, i)), r.Name
			}
			if r.Matches(t, of.Groups) {
				v.Matches = append(v.Matches, &tenancyv1.RuleMatch{
					Policy: policywire.Key(p.Key), Rule: number(p, i), RuleName: r.Name, Action: tenancyv1.PolicyAction(r.Action),
				})
			}
		}
	}
	return v, nil
}

// number is the index of a rule among those of its direction, as the manifest
// has them: rules of a direction are in the manifest's order, or left out as a
// whole.
func number(p *policy.Policy, rule int) uint32 {
	n := uint32(0)
	for i := range rule {
		if p.Rules[i].Direction == p.Rules[rule].Direction {
			n++
		}
	}
	return n
}
