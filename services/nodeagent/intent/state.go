package intent

import (
	"maps"
	"net"
	"net/netip"
	"sync"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
	"github.com/damask-sdn/damask/services/nodeagent/policyflow"
)

// State is what should be. It is safe for concurrent use; every method is
// short and does no I/O.
type State struct {
	self      string
	userspace bool

	mu         sync.RWMutex
	network    *plan
	own        *pipeline.Remote
	keptMAC    net.HardwareAddr // tun0's, from before Damask; nil: none
	succeeds   bool             // the node was OpenShift SDN's a short while ago
	mode       pipeline.Mode
	modeKnown  bool
	remotes    map[string]pipeline.Remote
	namespaces map[string]uint32
	multicast  map[string]bool // namespaces that have it enabled
	pods       map[string]Pod  // by owner
	services   services
	egress     egress
	policies   policies
	firewalls  firewalls
	decisions  decisions
	users      map[uint32]int  // local pods by VNID
	unsettled  map[string]bool // owners that are sent with one another (together.go)
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

// NewState returns the empty state of the node with this name. Userspace says that the
// node's switch forwards by the netdev datapath.
func NewState(node string, userspace bool) *State {
	return &State{
		self:       node,
		userspace:  userspace,
		remotes:    map[string]pipeline.Remote{},
		namespaces: map[string]uint32{},
		multicast:  map[string]bool{},
		pods:       map[string]Pod{},
		services:   newServices(),
		egress:     newEgress(),
		policies:   newPolicies(),
		firewalls:  newFirewalls(),
		decisions:  decisions{wanted: map[string]policyflow.Logging{}},
		users:      map[uint32]int{},
		unsettled:  map[string]bool{},
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
		Userspace:       s.userspace,
		KeepConnections: s.policies.keep,
		KeptMAC:         s.keptMAC,
		Succeeds:        s.succeeds,
	}
}

// KeepGatewayMAC says which MAC tun0 had before Damask and keeps; nil: none. It is for
// the comparison that follows, and changes no flow by itself.
func (s *State) KeepGatewayMAC(mac net.HardwareAddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keptMAC = mac
}

// Succeed says whether the node was OpenShift SDN's a short while ago. It answers what is
// to be programmed; before the first comparison that does it.
func (s *State) Succeed(succeeds bool) Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed := s.succeeds != succeeds
	s.succeeds = succeeds
	return Change{All: changed}
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
	return Change{Owners: s.ownersOfNode(hs.GetName()), Objects: []Object{object}}, nil
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
	return Change{Owners: s.ownersOfNode(name)}
}

// SetIsolation takes the isolation mode. An unknown mode leaves the state as
// it was: a newer control plane must not open or close this node by accident.
func (s *State) SetIsolation(iso *tenancyv1.Isolation) (Change, error) {
	object := Object{KindIsolation, IsolationName}
	mode, err := modeOf(iso.GetMode())
	if err != nil {
		return Change{Objects: []Object{object}}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revisions[object] = iso.GetRevision()
	changed := !s.modeKnown || s.mode != mode
	s.mode, s.modeKnown = mode, true
	if changed {
		close(s.policies.changed) // Whoever waits for policies may not have to.
		s.policies.changed = make(chan struct{})
	}
	return Change{All: changed, Objects: []Object{object}}, nil
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

// HostOf answers the address of another node; false if it is not known.
func (s *State) HostOf(node string) (netip.Addr, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	remote, known := s.remotes[node]
	return remote.HostIP, known
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
	return maps.Clone(s.revisions)
}
