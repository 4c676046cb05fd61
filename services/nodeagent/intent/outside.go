package intent

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// OutsideService is a port of a service, of which backends may be no pods.
type OutsideService struct {
	ClusterIPs []netip.Addr
	Port       pipeline.ServicePort
	Backends   []OutsideBackend
}

// OutsideBackend is where such a service leads.
type OutsideBackend struct {
	Addr netip.Addr
	Port uint16
}

const outsideOwner = "policy services of "

// SetOutsideServices takes ports of services, by a name of their own; nil is one that is
// gone. Whole says that there are no others. Packets to a backend that is no pod do
// not come back from the kernel: policies are asked when a pod asks the service. It
// must be allowed to ask all such backends, since the kernel picks one.
func (s *State) SetOutsideServices(whole bool, ports map[string]*OutsideService) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.policies.outside)
	if whole {
		clear(s.policies.outside)
	}
	touched := whole && before > 0
	for name, p := range ports {
		if p != nil {
			p.Backends = slices.DeleteFunc(slices.Clone(p.Backends), func(b OutsideBackend) bool { return s.isPods(b.Addr) })
		}
		_, had := s.policies.outside[name]
		if p == nil || len(p.Backends) == 0 {
			delete(s.policies.outside, name)
			touched = touched || had
			continue
		}
		s.policies.outside[name] = *p
		touched = true
	}
	if !touched || !s.mode.Policies() {
		return Change{}
	}
	return Change{Owners: s.outsideOwners()}
}

// isPods says whether an address is in a network of pods. The caller holds the lock.
func (s *State) isPods(a netip.Addr) bool {
	return s.network != nil && slices.ContainsFunc(s.network.clusterNetworks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// outsideOwners are the owners of what keeps pods from services. The caller holds the lock.
func (s *State) outsideOwners() []string {
	var owners []string
	for owner := range s.pods {
		owners = append(owners, outsideOwner+owner)
	}
	return owners
}

// compileOutside keeps a pod from the service ports that lead where its policies do not
// let it. The caller holds the lock.
func (s *State) compileOutside(owner string) []openflow.Flow {
	pod, there := s.pods[strings.TrimPrefix(owner, outsideOwner)]
	if !there || !s.mode.Policies() || !s.policiesIn(pod) {
		return nil
	}
	var denied []pipeline.DeniedService
	for _, o := range s.policies.outside {
		allowed := func(b OutsideBackend) bool {
			return s.policies.book.Allows(pod.Namespace, pod.Name, policy.Egress, b.Addr, protocolNumbers[o.Port.Protocol], b.Port)
		}
		if slices.ContainsFunc(o.Backends, func(b OutsideBackend) bool { return !allowed(b) }) {
			for _, ip := range o.ClusterIPs {
				denied = append(denied, pipeline.DeniedService{ClusterIP: ip, Port: o.Port})
			}
		}
	}
	return pipeline.DeniedServices(s.node(), pod.IP, denied)
}

var protocolNumbers = map[pipeline.Protocol]policy.Protocol{pipeline.TCP: policy.TCP, pipeline.UDP: policy.UDP, pipeline.SCTP: policy.SCTP}
