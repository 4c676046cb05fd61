package intent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// State is what should be. It is safe for concurrent use; every method is
// short and does no I/O.
type State struct {
	self string

	mu         sync.RWMutex
	network    *plan
	own        *pipeline.Remote
	mode       pipeline.Mode
	modeKnown  bool
	remotes    map[string]pipeline.Remote
	namespaces map[string]uint32
	pods       map[string]Pod // by owner
	users      map[uint32]int // local pods by VNID
	revisions  map[Object]uint64
	changed    chan struct{} // closed and replaced when a namespace becomes known
}

// plan is the ClusterNetwork, parsed.
type plan struct {
	clusterNetworks []netip.Prefix
	serviceNetworks []netip.Prefix
	tunnel          string
	tunnelPort      uint16
	mtu             int
}

// NewState returns the empty state of the node with this name.
func NewState(node string) *State {
	return &State{
		self:       node,
		remotes:    map[string]pipeline.Remote{},
		namespaces: map[string]uint32{},
		pods:       map[string]Pod{},
		users:      map[uint32]int{},
		revisions:  map[Object]uint64{},
		changed:    make(chan struct{}),
	}
}

// Network answers what the node's plumbing needs; false until both the
// ClusterNetwork and the node's own HostSubnet are known.
func (s *State) Network() (Network, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.network == nil || s.own == nil {
		return Network{}, false
	}
	return Network{Node: s.node(), Tunnel: s.network.tunnel, MTU: s.network.mtu}, true
}

// node is the pipeline's view of this node. The caller holds the lock and has
// seen that network and own are there.
func (s *State) node() pipeline.Node {
	subnet := s.own.Subnets[0]
	return pipeline.Node{
		ClusterNetworks: s.network.clusterNetworks,
		ServiceNetworks: s.network.serviceNetworks,
		Subnet:          subnet,
		Gateway:         subnet.Masked().Addr().Next(),
		HostIP:          s.own.HostIP,
		TunnelPort:      s.network.tunnelPort,
		Mode:            s.mode,
	}
}

// Missing names what is not known yet and without which the desired flows are
// not complete. Empty means that they are.
func (s *State) Missing() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var missing []string
	if s.network == nil {
		missing = append(missing, "the ClusterNetwork")
	}
	if s.own == nil {
		missing = append(missing, "this node's HostSubnet")
	}
	if !s.modeKnown {
		missing = append(missing, "the isolation mode")
	}
	return missing
}

// SetClusterNetwork takes the address plan. An error leaves the state as it was.
func (s *State) SetClusterNetwork(cn *ipamv1.ClusterNetwork) (Change, error) {
	object := Object{KindClusterNetwork, cn.GetName()}
	p, err := parsePlan(cn)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revisions[object] = cn.GetRevision()
	if err != nil {
		return Change{Objects: []Object{object}}, err
	}
	s.network = p
	return Change{All: true, Node: true, Objects: []Object{object}}, nil
}

// SetHostSubnet takes a node's subnet, this node's own included. An error
// leaves the state as it was.
func (s *State) SetHostSubnet(hs *ipamv1.HostSubnet) (Change, error) {
	object := Object{KindHostSubnet, hs.GetName()}
	remote, err := parseHostSubnet(hs)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revisions[object] = hs.GetRevision()
	if err != nil {
		return Change{Objects: []Object{object}}, err
	}
	if hs.GetName() == s.self {
		s.own = &remote
		return Change{All: true, Node: true, Objects: []Object{object}}, nil
	}
	s.remotes[hs.GetName()] = remote
	return Change{Owners: []string{hostSubnetOwner(hs.GetName())}, Objects: []Object{object}}, nil
}

// DeleteHostSubnet forgets another node. This node's own subnet is never
// forgotten: its pods keep working until the node registers anew.
func (s *State) DeleteHostSubnet(name string) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == s.self {
		return Change{}
	}
	delete(s.remotes, name)
	delete(s.revisions, Object{KindHostSubnet, name})
	return Change{Owners: []string{hostSubnetOwner(name)}}
}

// SetIsolation takes the isolation mode. An unknown mode leaves the state as
// it was: a newer control plane must not open or close this node by accident.
func (s *State) SetIsolation(iso *tenancyv1.Isolation) (Change, error) {
	object := Object{KindIsolation, IsolationName}
	var mode pipeline.Mode
	switch iso.GetMode() {
	case tenancyv1.IsolationMode_ISOLATION_MODE_SUBNET:
		mode = pipeline.Subnet
	case tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT:
		mode = pipeline.Multitenant
	default:
		return Change{Objects: []Object{object}}, fmt.Errorf("isolation mode %s is not known to this agent", iso.GetMode())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revisions[object] = iso.GetRevision()
	changed := !s.modeKnown || s.mode != mode
	s.mode, s.modeKnown = mode, true
	return Change{All: changed, Objects: []Object{object}}, nil
}

// SetNetNamespace takes a namespace's VNID. All its pods move at once.
func (s *State) SetNetNamespace(nn *tenancyv1.NetNamespace) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := nn.GetName()
	object := Object{KindNetNamespace, name}
	s.revisions[object] = nn.GetRevision()
	was, known := s.namespaces[name]
	s.namespaces[name] = nn.GetNetid()
	if !known {
		close(s.changed)
		s.changed = make(chan struct{})
	}
	if known && was == nn.GetNetid() {
		return Change{Objects: []Object{object}}
	}
	change := Change{Objects: []Object{object}}
	for owner, pod := range s.pods {
		if pod.Namespace != name {
			continue
		}
		if known {
			s.leave(was)
		}
		s.users[nn.GetNetid()]++
		change.Owners = append(change.Owners, owner)
	}
	if len(change.Owners) > 0 {
		change.Owners = append(change.Owners, vnidOwner(nn.GetNetid()))
		if known {
			change.Owners = append(change.Owners, vnidOwner(was))
		}
	}
	return change
}

// DeleteNetNamespace forgets a namespace. Pods that are still in it are
// closed: nobody can say any more whose they are.
func (s *State) DeleteNetNamespace(name string) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	vnid, known := s.namespaces[name]
	if !known {
		return Change{}
	}
	delete(s.namespaces, name)
	delete(s.revisions, Object{KindNetNamespace, name})
	var change Change
	for owner, pod := range s.pods {
		if pod.Namespace == name {
			s.leave(vnid)
			change.Owners = append(change.Owners, owner)
		}
	}
	if len(change.Owners) > 0 {
		change.Owners = append(change.Owners, vnidOwner(vnid))
	}
	return change
}

// leave takes one pod off a VNID. The caller holds the lock.
func (s *State) leave(vnid uint32) {
	if s.users[vnid]--; s.users[vnid] <= 0 {
		delete(s.users, vnid)
	}
}

// AddPod takes a pod, new or changed. It stays closed while the VNID of its
// namespace is not known.
func (s *State) AddPod(p Pod) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := p.Owner()
	change := Change{Owners: []string{owner}, Objects: []Object{p.object()}}
	vnid, known := s.namespaces[p.Namespace]
	if _, had := s.pods[owner]; !had && known {
		s.users[vnid]++
	}
	s.pods[owner] = p
	if known {
		change.Owners = append(change.Owners, vnidOwner(vnid))
	}
	return change
}

// RemovePod forgets a pod. Forgetting an unknown one changes nothing.
func (s *State) RemovePod(p Pod) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	owner := p.Owner()
	if _, had := s.pods[owner]; !had {
		return Change{}
	}
	delete(s.pods, owner)
	change := Change{Owners: []string{owner}}
	if vnid, known := s.namespaces[p.Namespace]; known {
		s.leave(vnid)
		change.Owners = append(change.Owners, vnidOwner(vnid))
	}
	return change
}

// Remotes answers the addresses of the other nodes.
func (s *State) Remotes() []netip.Addr {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var all []netip.Addr
	for _, r := range s.remotes {
		all = append(all, r.HostIP)
	}
	return all
}

// HasPod says whether a pod is in the state.
func (s *State) HasPod(p Pod) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, has := s.pods[p.Owner()]
	return has
}

// Open says whether a pod has flows at all. One without a known VNID, or with
// an address or port that would break isolation, stays closed.
func (s *State) Open(p Pod) bool { return len(s.compile(p.Owner())) > 0 }

// Pods answers the local pods, by owner.
func (s *State) Pods() []Pod {
	s.mu.RLock()
	defer s.mu.RUnlock()
	pods := make([]Pod, 0, len(s.pods))
	for _, p := range s.pods {
		pods = append(pods, p)
	}
	slices.SortFunc(pods, func(a, b Pod) int {
		if a.Owner() < b.Owner() {
			return -1
		}
		return 1
	})
	return pods
}

// VNID answers the VNID of a namespace that this node follows.
func (s *State) VNID(namespace string) (uint32, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	vnid, ok := s.namespaces[namespace]
	return vnid, ok
}

// AwaitVNID answers the VNID of a namespace as soon as it is known.
func (s *State) AwaitVNID(ctx context.Context, namespace string) (uint32, error) {
	for {
		s.mu.RLock()
		vnid, known := s.namespaces[namespace]
		changed := s.changed
		s.mu.RUnlock()
		if known {
			return vnid, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, fmt.Errorf("wait for the VNID of namespace %s: %w", namespace, ctx.Err())
		}
	}
}

// Revision answers the wanted revision of an object; false if this node does
// not follow it.
func (s *State) Revision(o Object) (uint64, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	r, ok := s.revisions[o]
	return r, ok
}

// Objects answers the wanted revision of every object but pods.
func (s *State) Objects() map[Object]uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	objects := make(map[Object]uint64, len(s.revisions))
	for o, r := range s.revisions {
		objects[o] = r
	}
	return objects
}

func parsePlan(cn *ipamv1.ClusterNetwork) (*plan, error) {
	p := &plan{mtu: int(cn.GetMtu()), tunnelPort: uint16(cn.GetTunnel().GetPort())}
	var errs []error
	for _, n := range cn.GetNetworks() {
		prefix, err := netip.ParsePrefix(n.GetCidr())
		errs = append(errs, err)
		p.clusterNetworks = append(p.clusterNetworks, prefix)
	}
	for _, n := range cn.GetServiceNetworks() {
		prefix, err := netip.ParsePrefix(n)
		errs = append(errs, err)
		p.serviceNetworks = append(p.serviceNetworks, prefix)
	}
	switch cn.GetTunnel().GetType() {
	case ipamv1.TunnelType_TUNNEL_TYPE_UNSPECIFIED, ipamv1.TunnelType_TUNNEL_TYPE_VXLAN:
		p.tunnel, p.tunnelPort = "vxlan", portOr(p.tunnelPort, 4789)
	case ipamv1.TunnelType_TUNNEL_TYPE_GENEVE:
		p.tunnel, p.tunnelPort = "geneve", portOr(p.tunnelPort, 6081)
	case ipamv1.TunnelType_TUNNEL_TYPE_GRE:
		p.tunnel, p.tunnelPort = "gre", 0
	default:
		errs = append(errs, fmt.Errorf("tunnel type %s is not known to this agent", cn.GetTunnel().GetType()))
	}
	if len(p.clusterNetworks) == 0 {
		errs = append(errs, errors.New("there are no cluster networks"))
	}
	return p, errors.Join(errs...)
}

// portOr answers the port, or the default that IANA registered for the tunnel.
func portOr(port, registered uint16) uint16 {
	if port == 0 {
		return registered
	}
	return port
}

func parseHostSubnet(hs *ipamv1.HostSubnet) (pipeline.Remote, error) {
	remote := pipeline.Remote{Name: hs.GetName()}
	var errs []error
	if len(hs.GetHostIps()) == 0 || len(hs.GetSubnets()) == 0 {
		return remote, fmt.Errorf("HostSubnet %s has %d host IPs and %d subnets, one of each is needed", hs.GetName(), len(hs.GetHostIps()), len(hs.GetSubnets()))
	}
	addr, err := netip.ParseAddr(hs.GetHostIps()[0])
	errs = append(errs, err)
	remote.HostIP = addr
	for _, s := range hs.GetSubnets() {
		prefix, err := netip.ParsePrefix(s)
		errs = append(errs, err)
		remote.Subnets = append(remote.Subnets, prefix)
	}
	return remote, errors.Join(errs...)
}
