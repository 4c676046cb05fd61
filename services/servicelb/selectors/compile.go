package selectors

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// perSlice is how many endpoints a slice has at most, as in Kubernetes: a
// change sends one slice to every node, and this keeps it small.
const perSlice = 100

// follows says whether a service's endpoints are kept here.
func follows(s *servicelbv1.Service) bool {
	return len(s.GetSelector()) > 0 && spec.NeedsClusterIP(s)
}

// matches says whether a pod with these labels is behind a selector.
func matches(selector, labels map[string]string) bool {
	for key, value := range selector {
		if given, found := labels[key]; !found || given != value {
			return false
		}
	}
	return len(selector) > 0
}

// compile answers the slices of a service for the pods of its namespace. A pod
// that is registered is on the network, so its endpoint is ready; there is no
// other knowledge here. Pods are in order of name, so that the same pods are the
// same slices.
func compile(s *servicelbv1.Service, pods []*tenancyv1.Pod) []*servicelbv1.EndpointSlice {
	if !follows(s) {
		return nil
	}
	ports := slicePorts(s)
	var endpoints []*servicelbv1.Endpoint
	for _, pod := range slices.SortedFunc(slices.Values(pods), func(a, b *tenancyv1.Pod) int { return strings.Compare(a.GetName(), b.GetName()) }) {
		addresses := usable(pod.GetIps())
		if len(addresses) == 0 || !matches(s.GetSelector(), pod.GetLabels()) {
			continue
		}
		endpoints = append(endpoints, &servicelbv1.Endpoint{
			Addresses: addresses,
			Conditions: &servicelbv1.EndpointConditions{
				Ready: proto.Bool(true), Serving: proto.Bool(true), Terminating: proto.Bool(false),
			},
			TargetRef: &servicelbv1.TargetReference{Kind: "Pod", Namespace: pod.GetNamespace(), Name: pod.GetName()},
			NodeName:  pod.GetNode(),
		})
	}
	var list []*servicelbv1.EndpointSlice
	for part := range slices.Chunk(endpoints, perSlice) {
		list = append(list, &servicelbv1.EndpointSlice{
			Namespace: s.GetNamespace(), Name: fmt.Sprintf("%s.pods-%d", s.GetName(), len(list)), ServiceName: s.GetName(),
			AddressType: servicelbv1.AddressType_ADDRESS_TYPE_IPV4, ManagedBy: spec.Manager, Ports: ports, Endpoints: part,
		})
	}
	return list
}

// slicePorts answers the ports of every pod. A name of a port cannot be
// resolved here; such services are refused, and one that was stored before that
// has no endpoints for the port.
func slicePorts(s *servicelbv1.Service) []*servicelbv1.EndpointPort {
	var ports []*servicelbv1.EndpointPort
	for _, p := range s.GetPorts() {
		number, err := strconv.ParseUint(p.GetTargetPort(), 10, 16)
		if err != nil {
			continue
		}
		ports = append(ports, &servicelbv1.EndpointPort{
			Name: p.GetName(), Protocol: p.GetProtocol(), Port: uint32(number), AppProtocol: p.GetAppProtocol(),
		})
	}
	return ports
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
