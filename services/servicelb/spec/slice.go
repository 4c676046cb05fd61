package spec

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// Manager is the managed_by of slices that the service itself keeps.
const Manager = "servicelb.damask"

// ManagedPrefix is how the names of the slices begin that are kept for a
// service. No service has a dot in its name, so no other service's do.
func ManagedPrefix(service string) string { return service + ".pods-" }

// Limits of a slice; those of Kubernetes, where it has them.
const (
	maxEndpoints  = 1000
	maxHints      = 8
	maxSliceBytes = 768 << 10 // a message on the bus has at most 1 MiB
)

// SliceDefaults answers the slice with every default filled in. The given one
// is not changed.
func SliceDefaults(given *servicelbv1.EndpointSlice) *servicelbv1.EndpointSlice {
	s := proto.CloneOf(given)
	s.Revision, s.PodsRevision = 0, 0
	if s.GetAddressType() == servicelbv1.AddressType_ADDRESS_TYPE_UNSPECIFIED {
		s.AddressType = servicelbv1.AddressType_ADDRESS_TYPE_IPV4
	}
	for _, p := range s.GetPorts() {
		if p.GetProtocol() == servicelbv1.Protocol_PROTOCOL_UNSPECIFIED {
			p.Protocol = servicelbv1.Protocol_PROTOCOL_TCP
		}
	}
	return s
}

// CheckSlice reports everything that is wrong with a slice that has its
// defaults.
func CheckSlice(s *servicelbv1.EndpointSlice, v *rpcerr.Violations) {
	const field = "endpoint_slice"
	report(v, field+".namespace", dnsLabel(s.GetNamespace()))
	report(v, field+".name", dnsSubdomain(s.GetName()))
	report(v, field+".service_name", serviceName(s.GetServiceName()))
	switch s.GetAddressType() {
	case servicelbv1.AddressType_ADDRESS_TYPE_IPV4:
	case servicelbv1.AddressType_ADDRESS_TYPE_IPV6:
		v.Addf(field+".address_type", "IPv6 is not supported yet")
	default:
		v.Addf(field+".address_type", "%d is not known", s.GetAddressType())
	}
	if s.GetManagedBy() != "" {
		report(v, field+".managed_by", dnsSubdomain(s.GetManagedBy()))
	}
	checkSlicePorts(s, v)
	if n := len(s.GetEndpoints()); n > maxEndpoints {
		v.Addf(field+".endpoints", "%d endpoints, at most %d are allowed", n, maxEndpoints)
		return
	}
	for i, e := range s.GetEndpoints() {
		checkEndpoint(v, fmt.Sprintf("%s.endpoints[%d]", field, i), e)
	}
	if size := proto.Size(s); size > maxSliceBytes {
		v.Addf(field, "has %d bytes, at most %d are allowed", size, maxSliceBytes)
	}
}

func checkSlicePorts(s *servicelbv1.EndpointSlice, v *rpcerr.Violations) {
	const field = "endpoint_slice.ports"
	if n := len(s.GetPorts()); n > maxPorts {
		v.Addf(field, "%d ports, at most %d are allowed", n, maxPorts)
		return
	}
	names := map[string]int{}
	for i, p := range s.GetPorts() {
		at := fmt.Sprintf("%s[%d]", field, i)
		if p.GetName() != "" {
			report(v, at+".name", dnsLabel(p.GetName()))
		}
		once(v, at+".name", names, p.GetName(), i)
		if _, known := servicelbv1.Protocol_name[int32(p.GetProtocol())]; !known {
			v.Addf(at+".protocol", "%d is not known", p.GetProtocol())
		}
		report(v, at+".port", portNumber(p.GetPort()))
		if p.GetAppProtocol() != "" {
			report(v, at+".app_protocol", labelKey(p.GetAppProtocol()))
		}
	}
}

func checkEndpoint(v *rpcerr.Violations, field string, e *servicelbv1.Endpoint) {
	if len(e.GetAddresses()) == 0 {
		v.Addf(field+".addresses", "at least one is required")
	}
	checkAddresses(v, field+".addresses", e.GetAddresses())
	if e.GetHostname() != "" {
		report(v, field+".hostname", dnsLabel(e.GetHostname()))
	}
	if e.GetNodeName() != "" {
		report(v, field+".node_name", dnsSubdomain(e.GetNodeName()))
	}
	report(v, field+".zone", labelValue(e.GetZone()))
	hints := e.GetHints()
	if len(hints.GetForZones()) > maxHints || len(hints.GetForNodes()) > maxHints {
		v.Addf(field+".hints", "at most %d zones and %d nodes are allowed", maxHints, maxHints)
		return
	}
	for i, zone := range hints.GetForZones() {
		at := fmt.Sprintf("%s.hints.for_zones[%d]", field, i)
		if zone == "" {
			v.Addf(at, "is required")
		}
		report(v, at, labelValue(zone))
	}
	for i, node := range hints.GetForNodes() {
		report(v, fmt.Sprintf("%s.hints.for_nodes[%d]", field, i), dnsSubdomain(node))
	}
}

// CheckSliceChange reports what cannot change from one state of a slice to the
// next.
func CheckSliceChange(stored, next *servicelbv1.EndpointSlice, v *rpcerr.Violations) {
	if stored.GetServiceName() != next.GetServiceName() {
		v.Addf("endpoint_slice.service_name", "cannot change from %q", stored.GetServiceName())
	}
	if stored.GetAddressType() != next.GetAddressType() {
		v.Addf("endpoint_slice.address_type", "cannot change")
	}
}

// CheckServiceName reports what is wrong with the names of a service. prefix is
// that of the fields: "service.", or nothing.
func CheckServiceName(prefix, namespace, name string, v *rpcerr.Violations) {
	report(v, prefix+"namespace", dnsLabel(namespace))
	report(v, prefix+"name", serviceName(name))
}

// CheckNodeName checks the name of a node.
func CheckNodeName(field, name string, v *rpcerr.Violations) { report(v, field, dnsSubdomain(name)) }

// CheckSliceName reports what is wrong with the names of a slice.
func CheckSliceName(namespace, name string, v *rpcerr.Violations) {
	report(v, "namespace", dnsLabel(namespace))
	report(v, "name", dnsSubdomain(name))
}

// CheckNamespace reports what is wrong with the name of a namespace.
func CheckNamespace(field, namespace string, v *rpcerr.Violations) {
	report(v, field, dnsLabel(namespace))
}
