package selectors

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// perSlice is how many endpoints a slice has at most, as in Kubernetes: a
// change sends one slice to every node, and this keeps it small.
const perSlice = 100

// matches says whether a pod with these labels is behind a selector.
func matches(selector, labels map[string]string) bool {
	for key, value := range selector {
		if given, found := labels[key]; !found || given != value {
			return false
		}
	}
	return len(selector) > 0
}

// outcome is what pods are for a service.
type outcome struct {
	// slices are the service's.
	slices []*servicelbv1.EndpointSlice
	// unnamed are the target ports by a name that no pod has, although there are
	// pods.
	unnamed []string
	// excess is how many endpoints found no place.
	excess int
}

// compile answers the slices of a service for the pods of its namespace. All
// endpoints of a slice have the same ports, so pods that mean different numbers
// by one name are in different slices. Pods stay in the slices that they are in, of
// those stored; the same pods and the same stored slices are the same slices.
func compile(s *servicelbv1.Service, pods []*tenancyv1.Pod, stored []*servicelbv1.EndpointSlice) outcome {
	var out outcome
	if !spec.Selects(s) {
		return out
	}
	groups, resolve := map[string]*group{}, newResolver(s)
	for _, pod := range slices.SortedFunc(slices.Values(pods), func(a, b *tenancyv1.Pod) int { return strings.Compare(a.GetName(), b.GetName()) }) {
		addresses := usable(pod.GetIps())
		if len(addresses) == 0 || !matches(s.GetSelector(), pod.GetLabels()) {
			continue
		}
		numbers, any := resolve.numbers(pod)
		if !any {
			continue // nothing of it is offered
		}
		g := groups[numbers.key()]
		if g == nil {
			g = &group{name: resolve.groupName(numbers), ports: resolve.ports(numbers)}
			groups[numbers.key()] = g
		}
		g.endpoints = append(g.endpoints, endpoint(s, pod, addresses))
	}
	out.unnamed = resolve.unnamed()
	sorted := slices.SortedFunc(maps.Values(groups), (*group).compare)
	if out.cut(s, sorted, stored); out.excess > 0 {
		out.slices, out.excess = nil, 0
		out.cut(s, sorted, nil) // room goes before rest
	}
	return out
}

// cut makes slices of groups, as many as there may be.
func (o *outcome) cut(s *servicelbv1.Service, groups []*group, stored []*servicelbv1.EndpointSlice) {
	for _, g := range groups {
		prefix := spec.ManagedPrefix(s.GetName()) + g.name
		for _, p := range g.places(prefix, stored) {
			if len(o.slices) == catalog.MaxManaged {
				o.excess += len(p.endpoints)
				continue
			}
			o.slices = append(o.slices, &servicelbv1.EndpointSlice{
				Namespace: s.GetNamespace(), Name: prefix + strconv.Itoa(p.number), ServiceName: s.GetName(),
				AddressType: servicelbv1.AddressType_ADDRESS_TYPE_IPV4, ManagedBy: spec.Manager, Ports: g.ports, Endpoints: p.endpoints,
			})
		}
	}
}

// group is pods with the same ports.
type group struct {
	name      string // in the names of its slices
	ports     []*servicelbv1.EndpointPort
	endpoints []*servicelbv1.Endpoint
}

// compare puts the largest group first: it is the last to find no place.
func (g *group) compare(other *group) int {
	return cmp.Or(cmp.Compare(len(other.endpoints), len(g.endpoints)), strings.Compare(g.name, other.name))
}

// endpoint answers what a pod is behind a service, by Kubernetes' rules: one
// that is on its way out is never ready, but may serve, unless the service
// publishes addresses that are not ready. There are no hints: every node finds
// the near ones by node and zone (internal/serviceview).
func endpoint(s *servicelbv1.Service, pod *tenancyv1.Pod, addresses []string) *servicelbv1.Endpoint {
	said := pod.GetConditions()
	serving := said == nil || said.Ready == nil || said.GetReady()
	return &servicelbv1.Endpoint{
		Addresses: addresses,
		Conditions: &servicelbv1.EndpointConditions{
			Ready:       proto.Bool(s.GetPublishNotReadyAddresses() || serving && !said.GetTerminating()),
			Serving:     proto.Bool(serving),
			Terminating: proto.Bool(said.GetTerminating()),
		},
		TargetRef: &servicelbv1.TargetReference{Kind: "Pod", Namespace: pod.GetNamespace(), Name: pod.GetName()},
		NodeName:  pod.GetNode(),
		Zone:      pod.GetZone(),
	}
}

// usable answers the addresses of the family that slices have.
func usable(ips []string) []string {
	var list []string
	for _, text := range ips {
		if addr, err := netip.ParseAddr(text); err == nil && addr.Is4() {
			list = append(list, text)
		}
	}
	return list
}
