package policyoracle

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/group"
	"github.com/damask-sdn/damask/services/tenancy/policyspec"
	"github.com/damask-sdn/damask/services/tenancy/resolve"
	v1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	npav1alpha1 "sigs.k8s.io/network-policy-api/apis/v1alpha1"
)

// world is a cluster as Kubernetes has it.
type world struct {
	spaces   map[string]*v1.Namespace
	pods     map[string]*v1.Pod // By namespace/name.
	policies map[string]*networkingv1.NetworkPolicy
	admin    map[string]*npav1alpha1.AdminNetworkPolicy
	baseline *npav1alpha1.BaselineAdminNetworkPolicy
}

// engine is the oracle for the world. Objects have what the API server fills in.
func (w *world) engine() (*Engine, error) {
	var objects []runtime.Object
	for _, n := range w.spaces {
		objects = append(objects, stored(n))
	}
	for _, p := range w.pods {
		objects = append(objects, p)
	}
	for _, p := range w.policies {
		objects = append(objects, stored(p))
	}
	for _, p := range w.admin {
		objects = append(objects, p)
	}
	if w.baseline != nil {
		objects = append(objects, w.baseline)
	}
	return NewEngine(objects...)
}

// ours is our side: a resolver, and a follower of what it hands out.
type ours struct {
	resolver *resolve.Resolver
	groups   policy.Groups
	policies map[policy.Key]*policy.Policy
	byAddr   map[netip.Addr]*policy.Pod
	podAddrs map[group.PodKey][]netip.Addr
}

func newOurs() *ours {
	return &ours{resolve.New(), policy.Groups{}, map[policy.Key]*policy.Policy{}, map[netip.Addr]*policy.Pod{}, map[group.PodKey][]netip.Addr{}}
}

// tell gives the resolver an object as it was written.
func (o *ours) tell(object runtime.Object) error {
	switch x := object.(type) {
	case *v1.Namespace:
		o.resolver.SetNamespace(x.Name, x.Labels)
	case *v1.Pod:
		p := group.Pod{Namespace: x.Namespace, Name: x.Name, Labels: x.Labels, Addresses: []netip.Addr{netip.MustParseAddr(x.Status.PodIPs[0].IP)}}
		for _, port := range x.Spec.Containers[0].Ports {
			p.Ports = append(p.Ports, policy.NamedPort{Name: port.Name, Protocol: protocols[port.Protocol], Port: uint16(port.ContainerPort)})
		}
		o.resolver.SetPod(p)
	default:
		manifest, err := json.Marshal(object)
		if err != nil {
			return err
		}
		p, violations := policyspec.Parse(manifest)
		if violations != nil {
			return fmt.Errorf("%s: %v", manifest, violations)
		}
		o.resolver.SetPolicy(p)
	}
	return nil
}

// follow takes what is handed out.
func (o *ours) follow() {
	c := o.resolver.Drain()
	for _, g := range c.Groups {
		if g.Gone {
			delete(o.groups, g.ID)
			continue
		}
		if g.Whole {
			o.groups[g.ID] = map[policy.Member]struct{}{}
		}
		for _, m := range g.Added {
			o.groups[g.ID][m] = struct{}{}
		}
		for _, m := range g.Removed {
			delete(o.groups[g.ID], m)
		}
	}
	for i, p := range c.Policies {
		o.policies[p.Key] = &c.Policies[i]
	}
	for _, key := range c.GonePods {
		for _, a := range o.podAddrs[key] {
			delete(o.byAddr, a)
		}
		delete(o.podAddrs, key)
	}
	for i, p := range c.Pods {
		key := group.PodKey{Namespace: p.Namespace, Name: p.Name}
		o.podAddrs[key] = p.Addresses
		for _, a := range p.Addresses {
			o.byAddr[a] = &c.Pods[i]
		}
	}
	for _, key := range c.GonePolicies {
		delete(o.policies, key)
	}
}

func (o *ours) allows(from, to netip.Addr, protocol policy.Protocol, port uint16) bool {
	return o.side(policy.Traffic{Direction: policy.Egress, Pod: o.byAddr[from], Peer: to, Protocol: protocol, Port: port}) &&
		o.side(policy.Traffic{Direction: policy.Ingress, Pod: o.byAddr[to], Peer: from, Protocol: protocol, Port: port})
}

func (o *ours) side(t policy.Traffic) bool {
	if t.Pod == nil {
		return true // Not a pod: nothing applies.
	}
	var applied []*policy.Policy
	for _, key := range t.Pod.Policies {
		applied = append(applied, o.policies[key])
	}
	return policy.Decide(t, applied, o.groups).Allowed
}

var protocols = map[v1.Protocol]policy.Protocol{v1.ProtocolTCP: policy.TCP, v1.ProtocolUDP: policy.UDP, v1.ProtocolSCTP: policy.SCTP}

// asked is what is asked between every two places.
func asked() (all []struct {
	protocol v1.Protocol
	port     uint16
}) {
	for _, protocol := range []v1.Protocol{v1.ProtocolTCP, v1.ProtocolUDP, v1.ProtocolSCTP} {
		for _, port := range []uint16{79, 80, 81, 90, 100} {
			all = append(all, struct {
				protocol v1.Protocol
				port     uint16
			}{protocol, port})
		}
	}
	return all
}

// compare asks both about every pair of places. It answers how many questions that
// were, to how many of which the oracle said yes, and the first difference.
func (w *world) compare(o *ours) (questions, allowed int, err error) {
	e, err := w.engine()
	if err != nil {
		return 0, 0, err
	}
	places := []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("10.1.255.9")}
	for _, key := range slices.Sorted(maps.Keys(w.pods)) {
		places = append(places, netip.MustParseAddr(w.pods[key].Status.PodIPs[0].IP))
	}
	for _, from := range places {
		for _, to := range places {
			if from == to {
				continue
			}
			for _, q := range asked() {
				got, want := o.allows(from, to, protocols[q.protocol], q.port), e.Allows(from.AsSlice(), to.AsSlice(), q.protocol, int(q.port))
				if want {
					allowed++
				}
				if questions++; got != want {
					return questions, allowed, fmt.Errorf("%s to %s by %s %d: got %v, the oracle says %v\n%s", from, to, q.protocol, q.port, got, want, w)
				}
			}
		}
	}
	return questions, allowed, nil
}

// String writes the world, for failures.
func (w *world) String() string {
	text := ""
	add := func(object any) {
		line, _ := json.Marshal(object)
		text += string(line) + "\n"
	}
	for _, n := range w.spaces {
		add(metav1.ObjectMeta{Name: n.Name, Labels: n.Labels})
	}
	for _, p := range w.pods {
		add(p)
	}
	for _, p := range w.policies {
		add(p)
	}
	for _, p := range w.admin {
		add(p)
	}
	add(w.baseline)
	return text
}
