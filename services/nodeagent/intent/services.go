package intent

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// Service is what flows need of a service: where tenants ask for it.
type Service struct {
	Namespace string
	Name      string
	// ClusterIPs are its addresses inside of the cluster; none when it is headless.
	ClusterIPs []netip.Addr
	// Ports are where it listens on them.
	Ports []pipeline.ServicePort
	// NodePorts are where it listens on every node.
	NodePorts []pipeline.ServicePort
}

// Owner is the name of the service's fragment.
func (s Service) Owner() string { return serviceOwner(s.Namespace, s.Name) }

func serviceOwner(namespace, name string) string { return "service " + namespace + "/" + name }

func (s Service) equal(other Service) bool {
	return slices.Equal(s.ClusterIPs, other.ClusterIPs) && slices.Equal(s.Ports, other.Ports) &&
		slices.Equal(s.NodePorts, other.NodePorts)
}

// frontend is where one service alone can be asked: a cluster IP, or a node port.
type frontend struct {
	clusterIP netip.Addr
	nodePort  pipeline.ServicePort
}

// frontends are all that the service claims.
func (s Service) frontends() []frontend {
	var all []frontend
	for _, ip := range s.ClusterIPs {
		all = append(all, frontend{clusterIP: ip})
	}
	for _, port := range s.NodePorts {
		all = append(all, frontend{nodePort: port})
	}
	return all
}

// services is what is known of services. Two that claim one cluster IP or node port, as
// can be for a moment when one takes over another's, must not both have flows for it:
// the first by name has them.
type services struct {
	all        map[string]Service             // by owner
	namespaces map[string]map[string]struct{} // owners by namespace
	claims     map[frontend][]string          // owners by what they claim, sorted
	changed    chan struct{}                  // holds one when ServiceNamespaces answers something else
}

func newServices() services {
	return services{
		all: map[string]Service{}, namespaces: map[string]map[string]struct{}{}, claims: map[frontend][]string{},
		changed: make(chan struct{}, 1),
	}
}

// SetService takes a service, new or changed. One that is known so already changes
// nothing. It is closed for tenants until the VNID of its namespace is known.
func (s *State) SetService(service Service) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := service.Owner()
	was, known := s.services.all[owner]
	if known && was.equal(service) {
		return Change{}
	}
	touched := map[string]struct{}{owner: {}}
	s.services.release(owner, was.frontends(), touched)
	s.services.claim(owner, service.frontends(), touched)
	s.services.all[owner] = service
	owners := s.services.namespaces[service.Namespace]
	if owners == nil {
		owners = map[string]struct{}{}
		s.services.namespaces[service.Namespace] = owners
		s.tellServiceNamespaces()
	}
	owners[owner] = struct{}{}
	return s.serviceChange(touched)
}

// DeleteService forgets a service. Forgetting an unknown one changes nothing.
func (s *State) DeleteService(namespace, name string) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := serviceOwner(namespace, name)
	was, known := s.services.all[owner]
	if !known {
		return Change{}
	}
	touched := map[string]struct{}{owner: {}}
	s.services.release(owner, was.frontends(), touched)
	delete(s.services.all, owner)
	owners := s.services.namespaces[namespace]
	if delete(owners, owner); len(owners) == 0 {
		delete(s.services.namespaces, namespace)
		s.tellServiceNamespaces()
	}
	return s.serviceChange(touched)
}

// ServiceFlows answers how many flows a service has.
func (s *State) ServiceFlows(namespace, name string) int {
	return len(s.compile(serviceOwner(namespace, name)))
}

// serviceChange is what the fragments of these owners depend on. In subnet mode there
// are none: a change of the mode compiles all anew. The caller holds the lock.
func (s *State) serviceChange(owners map[string]struct{}) Change {
	if !s.tenants() {
		return Change{}
	}
	return Change{Owners: slices.Sorted(maps.Keys(owners))}
}

// tenants says whether tenants are kept apart. The caller holds the lock.
func (s *State) tenants() bool { return s.modeKnown && s.mode.Tenants() }

// ServiceNamespaces answers the namespaces, sorted, whose VNIDs the flows of services
// need, so that somebody follows them: those of all services. In subnet mode they are
// followed too, though nothing needs them: when the mode changes, a service whose VNID
// is not known would be cut off from tenants until it is.
func (s *State) ServiceNamespaces() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.services.namespaces))
}

// ServiceNamespacesChanged holds a token whenever ServiceNamespaces may answer
// something else than when the last token was taken. It is for one reader.
func (s *State) ServiceNamespacesChanged() <-chan struct{} { return s.services.changed }

// tellServiceNamespaces puts a token. The caller holds the lock.
func (s *State) tellServiceNamespaces() {
	select {
	case s.services.changed <- struct{}{}:
	default:
	}
}

// claim notes an owner at its frontends; whoever had them before is touched.
func (v *services) claim(owner string, frontends []frontend, touched map[string]struct{}) {
	for _, f := range frontends {
		owners := v.claims[f]
		at, there := slices.BinarySearch(owners, owner)
		if there {
			continue
		}
		if at == 0 && len(owners) > 0 {
			touched[owners[0]] = struct{}{}
		}
		v.claims[f] = slices.Insert(owners, at, owner)
	}
}

// release takes an owner off its frontends; whoever has them then is touched.
func (v *services) release(owner string, frontends []frontend, touched map[string]struct{}) {
	for _, f := range frontends {
		owners := v.claims[f]
		at, there := slices.BinarySearch(owners, owner)
		if !there {
			continue
		}
		owners = slices.Delete(owners, at, at+1)
		if len(owners) == 0 {
			delete(v.claims, f)
			continue
		}
		v.claims[f] = owners
		if at == 0 {
			touched[owners[0]] = struct{}{}
		}
	}
}

// of is the service as its flows are to be: without what another has.
func (v *services) of(owner string) (Service, bool) {
	service, there := v.all[owner]
	lost := func(f frontend) bool { return v.claims[f][0] != owner }
	service.ClusterIPs = slices.DeleteFunc(slices.Clone(service.ClusterIPs), func(ip netip.Addr) bool { return lost(frontend{clusterIP: ip}) })
	service.NodePorts = slices.DeleteFunc(slices.Clone(service.NodePorts), func(p pipeline.ServicePort) bool { return lost(frontend{nodePort: p}) })
	return service, there
}

// servicesIn are the owners of a namespace's services, which depend on its VNID. The caller
// holds the state's lock.
func (s *State) servicesIn(namespace string) []string {
	if !s.tenants() {
		return nil
	}
	return slices.Sorted(maps.Keys(s.services.namespaces[namespace]))
}
