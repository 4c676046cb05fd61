package selectors

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// numbers are what the target ports of a service are in a pod, in the service's
// order; 0 for a name that the pod does not have.
type numbers []uint32

// key answers equal text for equal numbers.
func (n numbers) key() string {
	var b strings.Builder
	for _, number := range n {
		b.WriteString(strconv.FormatUint(uint64(number), 10))
		b.WriteByte(' ')
	}
	return b.String()
}

// resolver says what a service's target ports are in pods. It is for one
// service, and one goroutine.
type resolver struct {
	service *servicelbv1.Service
	fixed   numbers      // of the ports by number; 0 for those by name
	named   []int        // the ports by name
	found   map[int]bool // of those, the ones that some pod has
	asked   bool         // of any pod
}

func newResolver(s *servicelbv1.Service) *resolver {
	r := &resolver{service: s, fixed: make(numbers, len(s.GetPorts())), found: map[int]bool{}}
	for i, p := range s.GetPorts() {
		number, err := strconv.ParseUint(p.GetTargetPort(), 10, 16)
		if err != nil {
			r.named = append(r.named, i)
			continue
		}
		r.fixed[i] = uint32(number)
	}
	return r
}

// numbers answers a pod's, and whether it has any of the ports: a pod that has
// none is no backend, save of a headless service without ports.
func (r *resolver) numbers(pod *tenancyv1.Pod) (numbers, bool) {
	r.asked = true
	if len(r.named) == 0 {
		return r.fixed, true
	}
	list := append(numbers(nil), r.fixed...)
	for _, i := range r.named {
		if list[i] = lookUp(pod, r.service.GetPorts()[i]); list[i] != 0 {
			r.found[i] = true
		}
	}
	for _, number := range list {
		if number != 0 {
			return list, true
		}
	}
	return nil, false
}

// lookUp answers what a pod calls by a name, as Kubernetes finds it: the first
// port of the name and the protocol. 0 if there is none.
func lookUp(pod *tenancyv1.Pod, p *servicelbv1.ServicePort) uint32 {
	for _, candidate := range pod.GetPorts() {
		if candidate.GetName() == p.GetTargetPort() && protocolOf(candidate) == p.GetProtocol() {
			return candidate.GetContainerPort()
		}
	}
	return 0
}

func protocolOf(p *tenancyv1.ContainerPort) servicelbv1.Protocol {
	switch p.GetProtocol() {
	case tenancyv1.Protocol_PROTOCOL_TCP:
		return servicelbv1.Protocol_PROTOCOL_TCP
	case tenancyv1.Protocol_PROTOCOL_UDP:
		return servicelbv1.Protocol_PROTOCOL_UDP
	case tenancyv1.Protocol_PROTOCOL_SCTP:
		return servicelbv1.Protocol_PROTOCOL_SCTP
	default:
		return servicelbv1.Protocol_PROTOCOL_UNSPECIFIED
	}
}

// ports answers the ports of the slices of pods with such numbers.
func (r *resolver) ports(n numbers) []*servicelbv1.EndpointPort {
	var list []*servicelbv1.EndpointPort
	for i, p := range r.service.GetPorts() {
		if n[i] != 0 {
			list = append(list, &servicelbv1.EndpointPort{Name: p.GetName(), Protocol: p.GetProtocol(), Port: n[i], AppProtocol: p.GetAppProtocol()})
		}
	}
	return list
}

// groupName answers what the slices of pods with such numbers have in their
// names. It says nothing of other pods', so that those that come or go leave
// these slices alone.
func (r *resolver) groupName(n numbers) string {
	if len(r.named) == 0 {
		return "" // there is one group only
	}
	sum := sha256.Sum256([]byte(n.key()))
	return fmt.Sprintf("%x-", sum[:8])
}

// unnamed answers the target ports by name that no pod had.
func (r *resolver) unnamed() []string {
	var list []string
	for _, i := range r.named {
		if r.asked && !r.found[i] {
			list = append(list, r.service.GetPorts()[i].GetTargetPort())
		}
	}
	return list
}
